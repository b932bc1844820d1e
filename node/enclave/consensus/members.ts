/**
 * Who takes part: the active configurations, and the nodes on their way out.
 *
 * A configuration is in force from the moment its entry is appended, and until a later one is committed every decision
 * needs a majority in each of them. A node that a configuration leaves out is retired in steps, because those who stay
 * depend on it until they know for certain that they do not:
 *
 *   Ordered           the entry that leaves it out is appended
 *   Signed            a signature covers that entry
 *   Completed         that signature is committed: the node no longer counts, but still acknowledges, votes and may lead
 *   RetiredCommitted  the entry recording the completion is itself committed: only now may it fall silent
 *
 * Until then it stays among the peers and is kept up to date.
 *
 * Trusted. Pure.
 */
import type { NodeId, Seqno } from "../../../protocol/ids.ts";
import type { Configuration, CoreStatus } from "./core.ts";
import type { Mutations } from "./mutations.ts";
import { majority, reachedByMajority } from "./quorum.ts";

type Active = Readonly<{ seqno: Seqno; nodes: Configuration }>;

type Retirement = {
  readonly address: string;
  /** The entry that left the node out of the configuration. */
  readonly orderedAt: Seqno;
  /** The first signature from there on. */
  signedAt: Seqno | undefined;
  /** The entry that records the retirement as complete. */
  recordedAt: Seqno | undefined;
};

export class Members {
  readonly #self: NodeId;
  readonly #mutations: Mutations;
  /** Oldest first. */
  readonly #active: Active[] = [];
  readonly #retirements = new Map<NodeId, Retirement>();
  #retiredCommitted = false;

  constructor(self: NodeId, mutations: Mutations = {}) {
    this.#self = self;
    this.#mutations = mutations;
  }

  get active(): readonly Active[] {
    return this.#active;
  }

  get newest(): Configuration | undefined {
    return this.#active.at(-1)?.nodes;
  }

  /** An entry sets the configuration. False when it is the one in force already. */
  configure(seqno: Seqno, nodes: Configuration): boolean {
    const before = this.newest;
    if (before !== undefined && sameConfiguration(before, nodes)) return false;
    for (const [node, address] of before ?? [])
      if (!nodes.has(node) && !this.#retirements.has(node)) this.retire(seqno, node, address);
    this.#active.push({ seqno, nodes: sorted(nodes) });
    return true;
  }

  /** `node` is retired from `seqno` on, without that being recorded as complete yet. */
  retire(seqno: Seqno, node: NodeId, address: string): void {
    this.#retirements.set(node, { address, orderedAt: seqno, signedAt: undefined, recordedAt: undefined });
  }

  /** An entry records that the retirement of these nodes is complete. */
  record(seqno: Seqno, nodes: readonly NodeId[]): void {
    for (const node of nodes) {
      const retirement = this.#retirements.get(node);
      if (retirement !== undefined) retirement.recordedAt ??= seqno;
    }
  }

  /** An entry is a signature. */
  signed(seqno: Seqno): void {
    for (const retirement of this.#retirements.values()) retirement.signedAt ??= seqno;
  }

  rollback(to: Seqno): void {
    while (this.#active.length > 0 && this.#active.at(-1)!.seqno > to) this.#active.pop();
    for (const [node, retirement] of this.#retirements) {
      if (retirement.orderedAt > to) this.#retirements.delete(node);
      if ((retirement.signedAt ?? 0) > to) retirement.signedAt = undefined;
      if ((retirement.recordedAt ?? 0) > to) retirement.recordedAt = undefined;
    }
  }

  /** Entries up to `seqno` are committed. Says whether configurations lapsed, and which nodes are now retired for good. */
  commit(seqno: Seqno): Readonly<{ lapsed: boolean; released: readonly NodeId[] }> {
    let lapsed = false;
    while (this.#active.length > 1 && this.#active[1]!.seqno <= seqno) {
      this.#active.shift();
      lapsed = true;
    }
    const released: NodeId[] = [];
    for (const [node, { recordedAt }] of this.#retirements) {
      if (recordedAt === undefined || recordedAt > seqno) continue;
      if (node === this.#self) {
        this.#retiredCommitted = true;
        continue;
      }
      released.push(node);
      this.#retirements.delete(node);
    }
    return { lapsed, released: released.sort() };
  }

  /** Everyone but this node who must be kept up to date, in the order of their ids. */
  peers(): Configuration {
    const peers = new Map<NodeId, string>();
    for (const { nodes } of this.#active) for (const [node, address] of nodes) peers.set(node, address);
    for (const [node, { address }] of this.#retirements) if (!peers.has(node)) peers.set(node, address);
    peers.delete(this.#self);
    return sorted(peers);
  }

  /** Everyone but this node who is in an active configuration, in the order of their ids. */
  voters(): readonly NodeId[] {
    const voters = new Set<NodeId>();
    for (const { nodes } of this.#active) for (const node of nodes.keys()) voters.add(node);
    voters.delete(this.#self);
    return [...voters].sort();
  }

  /** Nodes whose retirement is committed but not recorded. */
  unrecorded(commit: Seqno): readonly NodeId[] {
    const nodes: NodeId[] = [];
    for (const [node, { orderedAt, recordedAt }] of this.#retirements)
      if (orderedAt <= commit && recordedAt === undefined) nodes.push(node);
    return nodes.sort();
  }

  /** The highest seqno that a majority of every active configuration holds; 0 without any configuration. */
  agreed(heldBy: (node: NodeId) => Seqno): Seqno {
    const considered = this.#mutations.commitOldestConfiguration === true ? this.#active.slice(0, 1) : this.#active;
    let agreed = considered.length === 0 ? 0 : Number.MAX_SAFE_INTEGER;
    for (const { nodes } of considered) {
      const held = [...nodes.keys()].map(heldBy);
      if (this.#mutations.minorityQuorum === true) held.push(Number.MAX_SAFE_INTEGER);
      agreed = Math.min(agreed, reachedByMajority(held));
    }
    return agreed;
  }

  /** True when the nodes for which `holds` is true are a majority in every active configuration. */
  quorum(holds: (node: NodeId) => boolean): boolean {
    const given = this.#mutations.minorityQuorum === true ? 1 : 0;
    return (
      this.#active.length > 0 && this.#active.every(({ nodes }) => isMajority(new Set(nodes.keys()), holds, given))
    );
  }

  /** The same in at least one active configuration. For a mutation only, like the next. */
  quorumInAny(holds: (node: NodeId) => boolean): boolean {
    return this.#active.some(({ nodes }) => isMajority(new Set(nodes.keys()), holds, 0));
  }

  /** The same over all nodes of all active configurations together. */
  quorumOfUnion(holds: (node: NodeId) => boolean): boolean {
    return isMajority(new Set(this.#active.flatMap(({ nodes }) => [...nodes.keys()])), holds, 0);
  }

  /** Seqno of the newest configuration that `node` is in; -1 when it is in none. */
  newestWith(node: NodeId): Seqno {
    return this.#active.findLast(({ nodes }) => nodes.has(node))?.seqno ?? -1;
  }

  /** How far this node's own retirement has come. */
  phase(commit: Seqno): CoreStatus["retirementPhase"] {
    const own = this.#retirements.get(this.#self);
    if (own === undefined) return undefined;
    if (this.#retiredCommitted) return "RetiredCommitted";
    if (own.signedAt === undefined) return "Ordered";
    return own.signedAt <= commit ? "Completed" : "Signed";
  }

  get retiredCommitted(): boolean {
    return this.#retiredCommitted;
  }
}

function isMajority(nodes: ReadonlySet<NodeId>, holds: (node: NodeId) => boolean, given: number): boolean {
  let count = given;
  for (const node of nodes) if (holds(node)) count += 1;
  return count >= majority(nodes.size + given);
}

export function sameConfiguration(a: Configuration, b: Configuration): boolean {
  if (a.size !== b.size) return false;
  for (const [node, address] of a) if (b.get(node) !== address) return false;
  return true;
}

function sorted(nodes: Configuration): Configuration {
  return new Map([...nodes].sort(([a], [b]) => (a < b ? -1 : 1)));
}
