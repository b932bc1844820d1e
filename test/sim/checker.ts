/**
 * What must hold in a consortium, whatever happens, checked from outside after every step.
 *
 * Most names are those of CCF's TLA+ specification. The last three are not in it, and each would have caught a bug that
 * was found only after years of checking: one vote per view, commit only of what is proven, match within the peer's disk.
 *
 *   LogMatching            two ledgers with the same (view, seqno) are equal up to there; an entry is made once
 *   MonoLog                views in a ledger never fall, and rise only after a signature
 *   LogInv                 committed ledgers are prefixes of one another, and only grow
 *   SignatureInv           a commit point is a signature
 *   NeverCommitPrevious    a leader commits only what is of its own view
 *   ReplicationInv         what a leader commits is on the disks of a majority of every configuration in force
 *   QuorumLogInv           and a majority of the last committed configuration keeps it
 *   OneLeader              a view has one leader, and appends in it come from that one
 *   LeaderCompleteness     a leader has everything committed in earlier views
 *   PermittedLogChanges    a leader drops nothing
 *   Configurations         the active ones are the last committed and all later ones
 *   Membership             the retirement phase is what ledger and commit point say
 *   CheckQuorum            a leader that a majority of some configuration does not answer steps down
 *   OneVote, CommitProven, MatchInPeer
 */
import type { NodeId, Seqno, View } from "../../protocol/ids.ts";
import type { ConsensusMessage } from "../../protocol/wire/consensus.ts";
import type { Entry, ModelNode } from "./model-node.ts";

export class InvariantBroken extends Error {
  override name = "InvariantBroken";
  readonly invariant: string;

  constructor(invariant: string, what: string) {
    super(`${invariant}: ${what}`);
    this.invariant = invariant;
  }
}

type Seen = { view: View; commit: Seqno; matches: ReadonlyMap<NodeId, Readonly<{ match: Seqno }>>; matchView: View };

export class Checker {
  /** The service's committed ledger. */
  readonly committed: Entry[] = [];
  readonly #nodes: ReadonlyMap<NodeId, ModelNode>;
  /** For each commit by a leader: how far, and in which view. */
  readonly #commits: { seqno: Seqno; view: View }[] = [];
  readonly #leaders = new Map<View, NodeId>();
  readonly #votes = new Map<string, NodeId>();
  readonly #made = new Map<string, Entry>();
  readonly #seen = new Map<NodeId, Seen>();
  /** Each node's own time, and when in it a leader last heard from a peer, by `leader view peer`. */
  readonly #clocks = new Map<NodeId, number>();
  readonly #answers = new Map<string, number>();

  constructor(nodes: ReadonlyMap<NodeId, ModelNode>) {
    this.#nodes = nodes;
  }

  /** A leader is about to receive an answer to an append. */
  answered(leader: ModelNode, peer: NodeId): void {
    if (leader.role === "leader")
      this.#answers.set(`${leader.id} ${leader.view} ${peer}`, this.#clocks.get(leader.id) ?? 0);
  }

  /** A node's clock moved by one tick. */
  ticked(node: ModelNode, elapsedMs: number, electionTimeoutMs: number): void {
    const now = (this.#clocks.get(node.id) ?? 0) + elapsedMs;
    this.#clocks.set(node.id, now);
    if (node.role !== "leader") return;
    for (const { configuration } of activeConfigurations(node)) {
      let answering = 0;
      for (const peer of configuration!.keys()) {
        const key = `${node.id} ${node.view} ${peer}`;
        const last = this.#answers.get(key) ?? now;
        if (last === now) this.#answers.set(key, now);
        if (peer === node.id || now - last < electionTimeoutMs + 2 * elapsedMs) answering += 1;
      }
      const needed = Math.floor(configuration!.size / 2) + 1;
      must(answering >= needed, "CheckQuorum", `${node.id} leads although only ${answering} answer`);
    }
  }

  created(node: ModelNode, entry: Entry): void {
    const id = `${entry.view}.${entry.seqno}`;
    must(!this.#made.has(id), "LogMatching", `${id} was made twice, now by ${node.id}`);
    this.#made.set(id, entry);
    this.#leads(node.id, entry.view);
    for (const retired of entry.retiredCommitted ?? [])
      must(this.#retirementCommitted(node, retired), "RetiredCommitted", `${id} records ${retired} too early`);
    this.#monotonic(node, entry);
  }

  appending(node: ModelNode, entry: Entry): void {
    must(
      entry.prev === node.log.at(-1),
      "LogMatching",
      `${node.id} puts ${name(entry)} after ${name(node.log.at(-1))}`,
    );
    this.#monotonic(node, entry);
  }

  rollingBack(node: ModelNode, to: Seqno): void {
    must(to >= node.commit, "LogInv", `${node.id} drops ${to + 1} but committed ${node.commit}`);
    must(node.role !== "leader", "PermittedLogChanges", `leader ${node.id} rolls back to ${to}`);
    const last = this.committed.at(-1);
    if (last === undefined || to >= last.seqno || node.log[last.seqno - 1] !== last) return;
    const configuration = this.#lastCommittedConfiguration();
    const holders = configuration.filter((id) => id !== node.id && this.#nodes.get(id)?.log[last.seqno - 1] === last);
    must(
      holders.length >= Math.floor(configuration.length / 2) + 1 || !configuration.includes(node.id),
      "QuorumLogInv",
      `${node.id} drops committed ${name(last)}, which only ${holders.join(" ")} then hold`,
    );
  }

  committing(node: ModelNode, seqno: Seqno): void {
    const entry = node.log[seqno - 1];
    must(entry !== undefined, "LogInv", `${node.id} commits ${seqno}, which it does not hold`);
    must(entry.committable, "SignatureInv", `${node.id} commits ${name(entry)}, which is no signature`);
    if (node.role === "leader") this.#leaderCommits(node, entry);
    else {
      must(this.committed.length >= seqno, "CommitProven", `${node.id} commits ${seqno} before any leader did`);
      must(node.disk.length >= seqno, "CommitProven", `${node.id} commits ${seqno}, which is not on its disk`);
    }
    for (let at = node.commit + 1; at <= seqno; at++) {
      const here = node.log[at - 1]!;
      const there = this.committed[at - 1];
      if (there === undefined) this.committed.push(here);
      else must(here === there, "LogInv", `${node.id} commits ${name(here)} where ${name(there)} is committed`);
    }
    if (node.role !== "leader") return;
    for (const other of this.#nodes.values())
      if (other.alive && other.role === "leader" && other.view > node.view)
        must(other.log[seqno - 1] === entry, "LeaderCompleteness", `${other.id} leads without ${name(entry)}`);
  }

  roleChanged(node: ModelNode): void {
    if (node.role !== "leader") return;
    this.#leads(node.id, node.view);
    const bound = this.#commits.findLast(({ view }) => view < node.view)?.seqno ?? 0;
    const entry = this.committed[bound - 1];
    must(
      node.log[bound - 1] === entry,
      "LeaderCompleteness",
      `${node.id} leads view ${node.view} without ${name(entry)}`,
    );
  }

  sent(from: ModelNode, to: NodeId, message: ConsensusMessage): void {
    must(message.view <= from.status.view, "MonoTermInv", `${from.id} sends of view ${message.view}`);
    if (message.kind === "append_entries") this.#leads(from.id, message.view);
    if (message.kind === "request_vote") this.#votesFor(from.id, message.view, from.id);
    if (message.kind === "request_vote_response" && message.granted) this.#votesFor(from.id, message.view, to);
  }

  /** @param idle the step was a tick without effects: only timers moved */
  stepped(node: ModelNode, idle: boolean): void {
    if (idle) return;
    must(node.halted === undefined, "Halt", `${node.id} stopped: ${node.halted}`);
    const { status, log, disk } = node;
    must(status.last === log.length && status.commit === node.commit, "Driver", `${node.id} and its core differ`);
    must(status.view === node.view && status.role === node.role, "Driver", `${node.id} was not told its role`);
    const before = this.#seen.get(node.id) ?? { view: 0, commit: 0, matches: new Map(), matchView: 0 };
    must(status.view >= before.view, "MonotonicTerm", `${node.id} went back to view ${status.view}`);
    must(status.commit >= before.commit, "MonotonicCommit", `${node.id} went back to ${status.commit}`);
    if (status.votedFor !== undefined) this.#votesFor(node.id, status.view, status.votedFor);
    must(
      status.stable <= disk.length && disk[status.stable - 1] === log[status.stable - 1],
      "Stable",
      `${node.id} believes that ${status.stable} is on its disk`,
    );
    this.#configurations(node);
    this.#membership(node);
    if (status.role === "leader") {
      for (const [peer, { match }] of status.peers) {
        const earlier = before.matchView === status.view ? (before.matches.get(peer)?.match ?? 0) : 0;
        must(match >= earlier, "MonotonicMatch", `${node.id} thinks less of ${peer} than before`);
        this.#matchInPeer(node, match, this.#nodes.get(peer));
      }
    } else {
      const leader = this.#nodes.get(this.#leaders.get(status.view) ?? "");
      if (leader !== undefined && leader.role === "leader" && leader.view === status.view)
        this.#matchInPeer(leader, leader.status.peers.get(node.id)?.match ?? 0, node);
    }
    this.#seen.set(node.id, {
      view: status.view,
      commit: status.commit,
      matches: status.peers,
      matchView: status.role === "leader" ? status.view : 0,
    });
  }

  #leaderCommits(node: ModelNode, entry: Entry): void {
    must(entry.view === node.view, "NeverCommitPrevious", `${node.id} commits ${name(entry)} in view ${node.view}`);
    for (const { configuration } of activeConfigurations(node)) {
      const nodes = [...(configuration?.keys() ?? [])];
      const holders = nodes.filter((id) => this.#nodes.get(id)?.disk[entry.seqno - 1] === entry);
      must(
        holders.length >= Math.floor(nodes.length / 2) + 1,
        "ReplicationInv",
        `${node.id} commits ${name(entry)}, durable on [${holders.join(" ")}] of [${nodes.join(" ")}]`,
      );
    }
    this.#commits.push({ seqno: entry.seqno, view: node.view });
  }

  #leads(node: NodeId, view: View): void {
    const known = this.#leaders.get(view);
    must(known === undefined || known === node, "OneLeader", `${known} and ${node} lead view ${view}`);
    this.#leaders.set(view, node);
  }

  #votesFor(node: NodeId, view: View, candidate: NodeId): void {
    const key = `${view} ${node}`;
    const known = this.#votes.get(key);
    must(
      known === undefined || known === candidate,
      "OneVote",
      `${node} votes for ${known} and ${candidate} in ${view}`,
    );
    this.#votes.set(key, candidate);
  }

  #monotonic(node: ModelNode, entry: Entry): void {
    const { prev } = entry;
    must(entry.view <= node.status.view, "MonoLog", `${node.id} holds ${name(entry)} in view ${node.status.view}`);
    if (prev === undefined || prev.view === entry.view) return;
    must(prev.view < entry.view && prev.committable, "MonoLog", `${name(entry)} follows ${name(prev)} at ${node.id}`);
  }

  #configurations(node: ModelNode): void {
    const expected = activeConfigurations(node);
    const actual = node.status.configurations;
    const equal = expected.length === actual.length && expected.every(({ seqno }, i) => actual[i]!.seqno === seqno);
    must(equal, "Configurations", `${node.id} holds ${actual.map(({ seqno }) => seqno)} to be active`);
  }

  #membership(node: ModelNode): void {
    const { status, log, configurations, commit } = node;
    // Nobody returns under the same name, so who is in the newest configuration never left.
    const present = configurations.at(-1)?.configuration?.has(node.id) !== false;
    const joined = present ? -1 : configurations.findIndex(({ configuration }) => configuration!.has(node.id));
    const left =
      joined < 0 ? undefined : configurations.slice(joined).find(({ configuration }) => !configuration!.has(node.id));
    let phase: typeof status.retirementPhase;
    if (left !== undefined) {
      const later = log.slice(left.seqno - 1);
      const signed = later.find(({ committable }) => committable)?.seqno;
      const recorded = later.find(({ retiredCommitted }) => retiredCommitted?.includes(node.id) === true)?.seqno;
      if (recorded !== undefined && recorded <= commit) phase = "RetiredCommitted";
      else if (signed === undefined) phase = "Ordered";
      else phase = signed <= commit ? "Completed" : "Signed";
    }
    must(
      status.retirementPhase === phase,
      "Membership",
      `${node.id} is ${phase} but believes ${status.retirementPhase}`,
    );
    const idle = status.role === "follower" || status.role === "none";
    must(phase !== "RetiredCommitted" || idle, "Membership", `${node.id} is retired for good and ${status.role}`);
  }

  /** What a leader counts of a peer is on the peer's disk, as long as the peer has not moved on to another view. */
  #matchInPeer(leader: ModelNode, match: Seqno, peer: ModelNode | undefined): void {
    if (peer === undefined || match === 0 || peer.status.view !== leader.status.view) return;
    const held = peer.log[match - 1];
    must(
      held === leader.log[match - 1],
      "MatchInPeer",
      `${leader.id} counts ${match} of ${peer.id}, which has ${name(held)}`,
    );
    must(peer.disk[match - 1] === held, "MatchInPeer", `${leader.id} counts ${match} of ${peer.id}: not on its disk`);
  }

  #retirementCommitted(leader: ModelNode, retired: NodeId): boolean {
    const { configurations, commit } = leader;
    const last = configurations.findLast(({ seqno }) => seqno <= commit);
    return last !== undefined && last.configuration?.has(retired) === false;
  }

  #lastCommittedConfiguration(): readonly NodeId[] {
    const entry = this.committed.findLast(({ configuration }) => configuration !== undefined);
    return [...(entry?.configuration?.keys() ?? [])];
  }
}

/** What the ledger and the commit point say about the configurations in force. */
export function activeConfigurations(node: ModelNode): readonly Entry[] {
  const from = node.configurations.findLastIndex(({ seqno }) => seqno <= node.commit);
  return node.configurations.slice(Math.max(0, from));
}

function must(holds: boolean, invariant: string, what: string): asserts holds {
  if (!holds) throw new InvariantBroken(invariant, what);
}

function name(entry: Entry | undefined): string {
  return entry === undefined ? "nothing" : `${entry.view}.${entry.seqno}`;
}
