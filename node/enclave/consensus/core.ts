/**
 * What a consensus protocol is to the rest of the enclave.
 *
 * A core is a state and one function over it, `step`. It owns no socket, clock, disk or random source: all it knows
 * arrives as an `Input`, all it wants done leaves as `Effect`s, which the driver performs strictly in order before it
 * gives the next input. The core never sees the bytes of an entry, only what `EntryInfo` says about it.
 *
 * Two things here go beyond CCF's Raft:
 *
 * - Durable commit. What a node acknowledges, and what a leader counts for itself, is only what its host has fsynced
 *   and whose signatures it has checked. The driver reports both together as `stable`.
 * - Operations on the ledger are numbered (`op`), so that a late report about entries that were rolled back meanwhile
 *   cannot be mistaken for one about their successors at the same seqnos.
 *
 * Trusted. Pure.
 */
import type { NodeId, Seqno, View } from "../../../protocol/ids.ts";
import type { ConsensusMessage } from "../../../protocol/wire/consensus.ts";

/** Nodes of a configuration and where their hosts listen for other nodes (`host:port`). */
export type Configuration = ReadonlyMap<NodeId, string>;

/** What consensus needs to know about a ledger entry. */
export type EntryInfo = Readonly<{
  seqno: Seqno;
  view: View;
  /** A signature transaction: the only kind of entry at which the ledger commits. */
  committable: boolean;
  /** Bytes of the whole entry, for batching. */
  size: number;
  /** Set when the entry changes the set of trusted nodes: the complete new set. */
  configuration?: Configuration;
  /** Nodes that this entry records as retired for good. */
  retiredCommitted?: readonly NodeId[];
}>;

/** Inclusive range of seqnos; empty when `last < first`. */
export type Range = Readonly<{ first: Seqno; last: Seqno }>;

export type Input =
  /** Time passed. A lie about it costs liveness, never safety. */
  | Readonly<{ kind: "tick"; elapsedMs: number }>
  /** A message from a peer whose channel proved `from`. An append's entries wait with the driver until `apply`. */
  | Readonly<{ kind: "received"; from: NodeId; message: ConsensusMessage }>
  /** The leader's own entries, in order, next after the last one. Refused (no effect) when no longer leading `view`. */
  | Readonly<{ kind: "replicate"; view: View; entries: readonly EntryInfo[] }>
  /** Answer to `apply`, given before any other input. `failed` names what was wrong with the first missing entry. */
  | Readonly<{ kind: "applied"; entries: readonly EntryInfo[]; failed?: string }>
  /** All ledger operations up to `op` are on the disk, and every signature in them was verified. */
  | Readonly<{ kind: "stable"; op: number }>
  /** Hand over leadership before stopping. */
  | Readonly<{ kind: "nominate" }>;

export type Role = "none" | "follower" | "pre_vote_candidate" | "candidate" | "leader";

export type Effect =
  /** Give a message to a peer's channel; with `entries`, attach the bytes of these entries. May be lost. */
  | Readonly<{ kind: "send"; to: NodeId; message: ConsensusMessage; entries?: Range }>
  /** Decode, check and apply these entries of the message just received; then give the input `applied`. Always last. */
  | Readonly<{ kind: "apply"; from: NodeId; entries: Range; view: View }>
  /** Write these entries to the host's ledger as operation `op`. */
  | Readonly<{ kind: "persist"; op: number; entries: Range }>
  /** Forget everything after `to`: state, tree, and (as operation `op`) the host's ledger. */
  | Readonly<{ kind: "rollback"; op: number; to: Seqno }>
  /** Everything up to `seqno` is committed, for ever. */
  | Readonly<{ kind: "commit"; seqno: Seqno }>
  /** Role, view or known leader changed. A new leader signs as its first act. */
  | Readonly<{ kind: "role"; role: Role; view: View; leader: NodeId | undefined }>
  /** The peers to keep channels with, complete; includes retired ones that still need to learn of their retirement. */
  | Readonly<{ kind: "peers"; peers: Configuration }>
  /** For the leader: retirement of these nodes is committed; record it in the ledger. */
  | Readonly<{ kind: "retired"; nodes: readonly NodeId[] }>
  /** An invariant broke or a peer sent what only broken code can send: stop the node. */
  | Readonly<{ kind: "halt"; reason: string }>;

export type CoreOptions = Readonly<{
  self: NodeId;
  /** Milliseconds between a leader's messages to each peer. */
  messageTimeoutMs: number;
  /** Milliseconds without a leader after which a node may ask for votes. */
  electionTimeoutMs: number;
  /** Seed of the election jitter. */
  seed: number;
  /** Entry bytes per append message, at most, unless a single entry is larger. */
  appendBytesMax: number;
}>;

/** A frozen picture of a core for status endpoints, traces and tests. */
export type CoreStatus = Readonly<{
  role: Role;
  view: View;
  leader: NodeId | undefined;
  votedFor: NodeId | undefined;
  last: Seqno;
  commit: Seqno;
  stable: Seqno;
  membership: "Active" | "Retired";
  retirementPhase: "Ordered" | "Signed" | "Completed" | "RetiredCommitted" | undefined;
  configurations: readonly Readonly<{ seqno: Seqno; nodes: Configuration }>[];
  peers: ReadonlyMap<NodeId, Readonly<{ sent: Seqno; match: Seqno; lastAckMs: number }>>;
  ticking: boolean;
}>;

export interface Core {
  step(input: Input): readonly Effect[];
  status(): CoreStatus;
  /** The view in which this node holds `seqno`; undefined beyond its tail. */
  viewAt(seqno: Seqno): View | undefined;
  /** Element i is the first seqno of view i+1, as CCF's view history. */
  viewHistory(): readonly Seqno[];
}
