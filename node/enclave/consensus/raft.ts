/**
 * CCF's Raft (`src/consensus/aft/raft.h` as of late 2026) as a pure state machine.
 *
 * What differs from the Raft paper: only signature entries commit, and what they commit is everything before them; an
 * election compares last signatures, and its winner drops what is unsigned; votes and views live in memory only, because
 * a node that stops never comes back under its name; one entry may change the configuration in any way, and while several
 * configurations are active each must agree; leaders check that a quorum answers; elections are preceded by a pre-vote.
 *
 * Kept as in CCF although it costs availability, so that CCF's own specification can judge our traces: a pre-vote is asked
 * in the current view and is granted while a leader is alive (no stickiness), and an append that begins before the commit
 * point is dropped without an answer.
 *
 * Beyond CCF, as `core.ts` says: acknowledgements and the leader's own vote count what is stable, so commit is durable.
 *
 * Trusted. Pure.
 */
import { unreachable } from "../../../protocol/check.ts";
import type { NodeId, Seqno, View } from "../../../protocol/ids.ts";
import type {
  AppendEntries,
  AppendEntriesResponse,
  ConsensusMessage,
  RequestVote,
  RequestVoteResponse,
} from "../../../protocol/wire/consensus.ts";
import type { Configuration, Core, CoreOptions, CoreStatus, Effect, EntryInfo, Input, Role } from "./core.ts";
import { Durability } from "./durability.ts";
import { Log } from "./log.ts";
import { Members, sameConfiguration } from "./members.ts";
import type { Mutations } from "./mutations.ts";
import { Prng } from "./prng.ts";
import { Progress } from "./progress.ts";
import { NO_VIEW } from "./view-history.ts";

/** How a node begins. */
export type Initial =
  /** The first node of a service: it leads `view` from birth, alone, once its first entry says so. */
  | Readonly<{ kind: "start"; view: View }>
  /** A node that knows nothing yet. */
  | Readonly<{ kind: "join" }>
  /** A node that begins with a snapshot of the state at `seqno`. */
  | Readonly<{
      kind: "join";
      seqno: Seqno;
      view: View;
      viewHistory: readonly Seqno[];
      configuration: Configuration;
      /** Nodes that the snapshot shows as retired, without a record that this is complete. */
      retiring: Configuration;
    }>;

/** A tick longer than this says nothing more. */
const ELAPSED_MS_MAX = 2 ** 31;

/** @param mutations defects for tests of the tests; never given in production */
export function createRaft(options: CoreOptions, initial: Initial, mutations: Mutations = {}): Core {
  return new Raft(options, initial, mutations);
}

class Raft implements Core {
  readonly #options: CoreOptions;
  readonly #self: NodeId;
  readonly #mutations: Mutations;
  readonly #prng: Prng;

  #role: Role = "follower";
  #view: View = 0;
  #leader: NodeId | undefined;
  /** Whom this node chose in this view. Forgotten only with the view. */
  #votedFor: NodeId | undefined;
  /** Who gave this node its vote, or its pre-vote, in the running election. */
  readonly #votes = new Set<NodeId>();
  readonly #log: Log;
  readonly #members: Members;
  readonly #durability: Durability;
  #peers = new Map<NodeId, Progress>();

  /** For a leader since its last round of appends; for others since they last heard from a leader, plus jitter. */
  #timerMs = 0;
  /** The election timer runs: a signature was seen while in the newest configuration. */
  #ticking = false;
  /** The one licence in a view to drop a suffix that contradicts the leader's. */
  #newFollower = false;

  /** Leader: entries up to here are to be sent as soon as the peers allow. */
  #flushed: Seqno = 0;
  #unflushedBytes = 0;

  /** Follower, in this view: who sends appends, what its appends proved, what was acknowledged, what may be committed. */
  #appendsFrom: NodeId | undefined;
  #verified: Seqno = 0;
  #acknowledged: Seqno = 0;
  #commitBound: Seqno = 0;

  /** The append whose entries the driver is applying. */
  #applying: Readonly<{ from: NodeId; message: AppendEntries }> | undefined;
  #effects: Effect[] = [];
  /** What the driver was told last. */
  #announced: Readonly<{ role: Role; view: View; leader: NodeId | undefined }>;
  #announcedPeers: Configuration = new Map();
  #halted = false;

  constructor(options: CoreOptions, initial: Initial, mutations: Mutations) {
    this.#options = options;
    this.#self = options.self;
    this.#mutations = mutations;
    this.#prng = new Prng(options.seed);
    this.#members = new Members(options.self, mutations);
    if (initial.kind === "start") {
      this.#log = new Log();
      this.#view = initial.view;
      this.#role = "leader";
      this.#leader = options.self;
      this.#appendsFrom = options.self;
      this.#votedFor = options.self;
    } else if ("seqno" in initial) {
      this.#log = new Log(initial.seqno, initial.viewHistory);
      this.#view = initial.view;
      this.#members.configure(initial.seqno, initial.configuration);
      for (const [node, address] of initial.retiring) this.#members.retire(initial.seqno, node, address);
    } else {
      this.#log = new Log();
    }
    this.#durability = new Durability(this.#log.base);
    for (const node of this.#members.peers().keys()) this.#peers.set(node, new Progress(this.#log.last));
    this.#restartTimer();
    this.#announced = { role: this.#role, view: this.#view, leader: this.#leader };
  }

  step(input: Input): readonly Effect[] {
    if (this.#halted) return [];
    this.#effects = [];
    const before = { view: this.#view, votedFor: this.#votedFor, commit: this.#log.commit };
    this.#turn(input);
    this.#announce();
    this.#checkInvariants(before);
    const { message, from } = this.#applying ?? {};
    if (message !== undefined && from !== undefined && !this.#halted)
      this.#effects.push({
        kind: "apply",
        from,
        entries: { first: this.#log.last + 1, last: message.seqno },
        view: message.viewOfSeqno,
      });
    return this.#effects;
  }

  status(): CoreStatus {
    const { commit } = this.#log;
    const phase = this.#members.phase(commit);
    return {
      role: this.#role,
      view: this.#view,
      leader: this.#leader,
      votedFor: this.#votedFor,
      last: this.#log.last,
      commit,
      stable: this.#durability.stable,
      membership: phase === undefined ? "Active" : "Retired",
      retirementPhase: phase,
      configurations: [...this.#members.active],
      peers: new Map(
        [...this.#peers].map(([node, { sent, match, sinceAckMs }]) => [node, { sent, match, lastAckMs: sinceAckMs }]),
      ),
      ticking: this.#ticking,
    };
  }

  viewAt(seqno: Seqno): View | undefined {
    return this.#log.viewAt(seqno);
  }

  viewHistory(): readonly Seqno[] {
    return this.#log.viewHistory();
  }

  #turn(input: Input): void {
    if ((this.#applying !== undefined) !== (input.kind === "applied"))
      return this.#halt(`input ${input.kind} while ${this.#applying === undefined ? "no" : "an"} apply is due`);
    switch (input.kind) {
      case "tick":
        return this.#onTick(input.elapsedMs);
      case "received":
        return this.#onMessage(input.from, input.message);
      case "replicate":
        return this.#onReplicate(input.view, input.entries);
      case "applied":
        return this.#onApplied(input.entries, input.failed);
      case "stable":
        return this.#onStable(input.op);
      case "nominate":
        return this.#nominate();
      default:
        return unreachable(input);
    }
  }

  // ---------------------------------------------------------------------------------------------- time

  #onTick(elapsedMs: number): void {
    const elapsed = Math.min(Math.max(0, Math.floor(elapsedMs) || 0), ELAPSED_MS_MAX);
    this.#timerMs += elapsed;
    if (this.#role === "leader") return this.#leaderTick(elapsed);
    if (this.#role === "none" || !this.#ticking) return;
    if (this.#timerMs >= this.#options.electionTimeoutMs) this.#becomePreVoteCandidate();
  }

  #leaderTick(elapsedMs: number): void {
    if (this.#timerMs >= this.#options.messageTimeoutMs) {
      this.#timerMs = 0;
      this.#flushAll();
      for (const [node, progress] of this.#peers) {
        progress.tick(this.#log.last);
        if (!this.#sendEntries(node, progress)) this.#sendHeartbeat(node, progress);
      }
    }
    for (const progress of this.#peers.values()) progress.sinceAckMs += elapsedMs;
    const alive = (node: NodeId): boolean => {
      const sinceAckMs = node === this.#self ? 0 : this.#peers.get(node)?.sinceAckMs;
      return sinceAckMs !== undefined && sinceAckMs < this.#options.electionTimeoutMs;
    };
    const { active } = this.#members;
    const supported =
      this.#mutations.checkQuorumAny === true ? this.#members.quorumInAny(alive) : this.#members.quorum(alive);
    if (active.length > 0 && !supported) this.#stepDown();
  }

  /** A random head start spreads the moments at which nodes stand for election: between half of the timeout and all of it. */
  #restartTimer(): void {
    this.#timerMs = this.#prng.below(Math.floor(this.#options.electionTimeoutMs / 2) + 1);
  }

  // ---------------------------------------------------------------------------------------------- leading

  #onReplicate(view: View, entries: readonly EntryInfo[]): void {
    if (this.#role !== "leader" || view !== this.#view || entries.length === 0) return;
    const first = this.#log.last + 1;
    let committable = false;
    for (const entry of entries) {
      if (!this.#admit(entry, view)) return;
      committable ||= entry.committable;
      this.#unflushedBytes += entry.size;
    }
    this.#persist(first);
    if (committable || this.#unflushedBytes >= this.#options.appendBytesMax) {
      this.#flushAll();
      for (const [node, progress] of this.#peers) this.#sendEntries(node, progress);
    }
  }

  #flushAll(): void {
    this.#flushed = this.#log.last;
    this.#unflushedBytes = 0;
  }

  /** Sends what the peer lacks, as far as it may be sent. True when anything was sent. */
  #sendEntries(to: NodeId, progress: Progress): boolean {
    if (this.#mutations.silentWhenRetired === true && this.#members.phase(this.#log.commit) === "Completed")
      return false;
    let sent = false;
    while (progress.sent < this.#flushed && progress.maySend(this.#options.appendBytesMax)) {
      const after = progress.sent;
      const { last, sizeBytes } = this.#log.sliceAfter(after, this.#flushed, this.#options.appendBytesMax);
      // Entries from before this node's snapshot are not here to be sent; another leader may have them.
      if (last === after) return sent;
      progress.sentTo(last, sizeBytes);
      this.#send(to, this.#appendOf(after, last), { first: after + 1, last });
      sent = true;
    }
    return sent;
  }

  #sendHeartbeat(to: NodeId, { sent }: Progress): void {
    this.#send(to, this.#appendOf(sent, sent));
  }

  #appendOf(prevSeqno: Seqno, seqno: Seqno): AppendEntries {
    return {
      kind: "append_entries",
      view: this.#view,
      prevSeqno,
      prevView: this.#log.viewAt(prevSeqno) ?? NO_VIEW,
      seqno,
      viewOfSeqno: this.#log.viewAt(seqno) ?? NO_VIEW,
      leaderCommit: this.#log.commit,
    };
  }

  #onAppendResponse(from: NodeId, message: AppendEntriesResponse): void {
    const progress = this.#peers.get(from);
    if (progress === undefined || this.#role !== "leader") return;
    progress.sinceAckMs = 0;
    // A refusal may speak of an older view: the one in which the two ledgers may still agree.
    if (message.view > this.#view) return this.#adoptView(message.view);
    if (message.success) {
      if (message.view !== this.#view || message.lastSeqno < progress.match) return;
      if (message.lastSeqno > this.#log.last && this.#mutations.ackLocalTail !== true)
        return this.#halt(`${from} acknowledged entry ${message.lastSeqno}, which was never sent`);
      progress.acknowledged(Math.min(message.lastSeqno, this.#log.last));
      this.#commitAgreed();
    } else {
      const estimate = this.#log.bestMatch(message.view, message.lastSeqno);
      if (this.#mutations.refusalSetsMatch === true) progress.match = Math.max(progress.match, estimate);
      progress.refused(estimate);
    }
    // Committing may have ended this leadership, or released the peer.
    if (this.#role === "leader" && this.#peers.get(from) === progress) this.#sendEntries(from, progress);
  }

  /** Commits what a majority of every active configuration holds, if that was signed in this view. */
  #commitAgreed(): void {
    if (this.#role !== "leader") return;
    const own = this.#mutations.countUnstable === true ? this.#log.last : this.#durability.stable;
    const agreed = this.#members.agreed((node) => (node === this.#self ? own : (this.#peers.get(node)?.match ?? 0)));
    const seqno = this.#log.committableUpTo(agreed);
    // Agreement on an entry of an earlier view is not final: a later leader may still not have it (Raft paper, 5.4.2).
    if (this.#mutations.commitPreviousView !== true && this.#log.viewAt(seqno) !== this.#view) return;
    this.#commit(seqno);
  }

  #nominate(): void {
    if (this.#role !== "leader") return;
    let best: NodeId | undefined;
    for (const node of this.#members.voters()) {
      if (best === undefined || this.#betterSuccessor(node, best)) best = node;
    }
    if (best !== undefined) this.#send(best, { kind: "propose_request_vote", view: this.#view });
  }

  #betterSuccessor(node: NodeId, than: NodeId): boolean {
    const [a, b] = [node, than].map((id) => this.#peers.get(id)?.match ?? 0) as [Seqno, Seqno];
    return a > b || (a === b && this.#members.newestWith(node) > this.#members.newestWith(than));
  }

  // ---------------------------------------------------------------------------------------------- following

  #onMessage(from: NodeId, message: ConsensusMessage): void {
    if (from === this.#self) return;
    switch (message.kind) {
      case "append_entries":
        return this.#onAppend(from, message);
      case "append_entries_response":
        return this.#onAppendResponse(from, message);
      case "request_vote":
      case "request_pre_vote":
        return this.#onRequestVote(from, message);
      case "request_vote_response":
      case "request_pre_vote_response":
        return this.#onVoteResponse(from, message);
      case "propose_request_vote":
        if (message.view === this.#view && this.#role !== "leader" && this.#role !== "none") this.#becomeCandidate();
        return;
      default:
        return unreachable(message);
    }
  }

  #onAppend(from: NodeId, message: AppendEntries): void {
    if (message.view < this.#view) return this.#refuse(from, this.#view, this.#log.last);
    if (message.view > this.#view) this.#adoptView(message.view);
    else if (this.#role === "pre_vote_candidate" || this.#role === "candidate") this.#stepDown();

    this.#appendsFrom ??= from;
    if (this.#appendsFrom !== from) return this.#halt(`${from} and ${this.#appendsFrom} both lead view ${this.#view}`);

    const prevView = this.#log.viewAt(message.prevSeqno);
    if (prevView === undefined) return this.#refuse(from, this.#view, this.#log.last);
    if (prevView !== message.prevView) {
      const match = this.#log.bestMatch(message.prevView, message.prevSeqno);
      return this.#refuse(from, this.#log.viewAt(match) ?? NO_VIEW, match);
    }

    this.#restartTimer();
    this.#leader = from;
    if (message.prevSeqno < this.#log.commit) return;

    let conflict = this.#log.firstConflict(message.prevSeqno + 1, message.seqno, message.viewOfSeqno);
    if (this.#mutations.truncateWithoutConflict === true && this.#newFollower && this.#log.last > message.prevSeqno)
      conflict = message.prevSeqno + 1;
    if (conflict !== undefined) {
      if (!this.#newFollower) return;
      this.#newFollower = false;
      this.#rollback(conflict - 1);
    }
    if (message.seqno > this.#log.last) {
      this.#applying = { from, message };
      return;
    }
    this.#verifiedBy(from, message);
  }

  /** The driver has checked and applied the entries that were missing, or as many of them as were right. */
  #onApplied(entries: readonly EntryInfo[], failed: string | undefined): void {
    const { from, message } = this.#applying!;
    this.#applying = undefined;
    const first = this.#log.last + 1;
    for (const entry of entries) {
      if (this.#log.last === message.seqno) return this.#halt("more entries were applied than were asked for");
      if (!this.#admit(entry, message.viewOfSeqno)) return;
    }
    if (this.#log.last >= first) this.#persist(first);
    if (this.#log.last === message.seqno) return this.#verifiedBy(from, message);
    if (failed === undefined) return this.#halt("fewer entries were applied than were asked for, without a reason");
    this.#refuse(from, this.#view, this.#log.last);
  }

  /** Everything up to the end of this append is what the leader has. */
  #verifiedBy(from: NodeId, message: AppendEntries): void {
    const proven = this.#mutations.commitBeyondVerified === true ? this.#log.last : message.seqno;
    this.#verified = Math.max(this.#verified, message.seqno);
    this.#commitBound = Math.max(this.#commitBound, Math.min(message.leaderCommit, proven));
    this.#commitVerified();
    const stable = this.#mutations.ackBeforeStable === true ? this.#log.last : this.#durability.stable;
    if (this.#mutations.ackLocalTail === true) this.#verified = Math.min(this.#log.last, stable);
    // The leader counts any answer as a sign of life, so a heartbeat is answered even while the disk is slow; what the
    // answer names is both proven by this append and stable.
    const heartbeat = message.prevSeqno === message.seqno;
    if (stable >= message.seqno || heartbeat)
      this.#acknowledge(from, this.#mutations.ackLocalTail === true ? this.#verified : Math.min(stable, message.seqno));
  }

  #acknowledge(to: NodeId, seqno: Seqno): void {
    this.#acknowledged = Math.max(this.#acknowledged, seqno);
    this.#send(to, { kind: "append_entries_response", view: this.#view, lastSeqno: seqno, success: true });
  }

  #refuse(to: NodeId, view: View, lastSeqno: Seqno): void {
    this.#send(to, { kind: "append_entries_response", view, lastSeqno, success: false });
  }

  #commitVerified(): void {
    this.#commit(this.#log.committableUpTo(Math.min(this.#commitBound, this.#durability.stable)));
  }

  #onStable(op: number): void {
    if (!this.#durability.reached(op))
      return this.#halt(`operation ${op} is reported as stable but was never given out`);
    this.#commitAgreed();
    if (this.#role === "leader" || this.#appendsFrom === undefined || this.#appendsFrom === this.#self) return;
    this.#commitVerified();
    const proven = Math.min(this.#durability.stable, this.#verified);
    if (proven > this.#acknowledged) this.#acknowledge(this.#appendsFrom, proven);
  }

  // ---------------------------------------------------------------------------------------------- electing

  #onRequestVote(from: NodeId, message: RequestVote): void {
    // Anyone may ask: a node can be needed by a configuration that it has not heard of yet.
    const kind = message.kind === "request_vote" ? "request_vote_response" : "request_pre_vote_response";
    if (message.view > this.#view) this.#adoptView(message.view);
    const last = this.#log.lastCommittable;
    const viewOfLast = this.#log.viewAt(last) ?? NO_VIEW;
    const upToDate =
      message.viewOfLastCommittable > viewOfLast ||
      (message.viewOfLastCommittable === viewOfLast && message.lastCommittableSeqno >= last) ||
      this.#mutations.voteForStaleLog === true;
    let granted = message.view === this.#view && upToDate;
    if (message.kind === "request_vote") {
      granted &&= this.#leader === undefined && (this.#votedFor === undefined || this.#votedFor === from);
      if (granted) {
        this.#restartTimer();
        this.#votedFor = from;
      }
    }
    this.#send(from, { kind, view: this.#view, granted });
  }

  #becomePreVoteCandidate(): void {
    this.#restartTimer();
    if (this.#log.lastCommittable === 0 || this.#members.newest === undefined) return;
    this.#role = "pre_vote_candidate";
    this.#leader = undefined;
    this.#stand("request_pre_vote");
  }

  #becomeCandidate(): void {
    // Without any signature there is nothing that a leader could keep.
    if (this.#log.lastCommittable === 0 || this.#members.newest === undefined) return;
    this.#enterView(this.#view + 1);
    this.#role = "candidate";
    this.#votedFor = this.#self;
    this.#stand("request_vote");
  }

  #stand(kind: "request_vote" | "request_pre_vote"): void {
    this.#votes.clear();
    this.#votes.add(this.#self);
    const lastCommittableSeqno = this.#log.lastCommittable;
    const viewOfLastCommittable = this.#log.viewAt(lastCommittableSeqno) ?? NO_VIEW;
    const view = this.#view;
    for (const node of this.#members.voters())
      this.#send(node, { kind, view, lastCommittableSeqno, viewOfLastCommittable });
    this.#countVotes();
  }

  #onVoteResponse(from: NodeId, message: RequestVoteResponse): void {
    if (!this.#peers.has(from)) return;
    const awaited = { candidate: "request_vote_response", pre_vote_candidate: "request_pre_vote_response" };
    if (this.#role !== "candidate" && this.#role !== "pre_vote_candidate") return;
    if (message.view > this.#view) return this.#adoptView(message.view);
    if (message.view !== this.#view || message.kind !== awaited[this.#role] || !message.granted) return;
    this.#votes.add(from);
    this.#countVotes();
  }

  #countVotes(): void {
    const voted = (node: NodeId): boolean => this.#votes.has(node);
    const elected =
      this.#mutations.unionQuorum === true ? this.#members.quorumOfUnion(voted) : this.#members.quorum(voted);
    if (!elected) return;
    if (this.#role === "pre_vote_candidate") this.#becomeCandidate();
    else this.#becomeLeader();
  }

  #becomeLeader(): void {
    const signed = this.#log.lastCommittable;
    if (signed < this.#log.last) this.#rollback(signed);
    this.#role = "leader";
    this.#leader = this.#self;
    this.#appendsFrom = this.#self;
    this.#timerMs = 0;
    this.#flushAll();
    this.#announce();
    this.#peers.clear();
    this.#refreshPeers();
    this.#requestRecords();
  }

  /** Within the view: the vote stays given, and the ledger stays as it is, for others may count on it. */
  #stepDown(): void {
    this.#role = this.#members.retiredCommitted ? "none" : "follower";
    this.#leader = undefined;
    this.#newFollower = true;
    this.#votes.clear();
    this.#restartTimer();
    if (this.#mutations.forgetVoteOnStepDown === true) this.#votedFor = undefined;
    if (this.#mutations.truncateOnStepDown === true && this.#log.lastCommittable < this.#log.last)
      this.#rollback(this.#log.lastCommittable);
  }

  #adoptView(view: View): void {
    this.#enterView(view);
    this.#stepDown();
  }

  #enterView(view: View): void {
    this.#view = view;
    this.#leader = undefined;
    this.#votedFor = undefined;
    this.#appendsFrom = undefined;
    this.#verified = 0;
    this.#acknowledged = 0;
    this.#commitBound = 0;
    this.#restartTimer();
  }

  // ---------------------------------------------------------------------------------------------- the ledger

  /** Takes one entry at the end of the ledger. False, and the end of this node, if it cannot stand there. */
  #admit(entry: EntryInfo, view: View): boolean {
    if (entry.seqno !== this.#log.last + 1 || entry.view !== view) {
      this.#halt(`entry ${entry.view}.${entry.seqno} was given where ${view}.${this.#log.last + 1} belongs`);
      return false;
    }
    const { seqno, configuration, retiredCommitted, committable } = entry;
    const configured = configuration !== undefined && this.#members.configure(seqno, configuration);
    if (retiredCommitted !== undefined) this.#members.record(seqno, retiredCommitted);
    this.#log.append(view, entry.size, committable);
    if (committable) {
      this.#members.signed(seqno);
      if (this.#members.newest?.has(this.#self) === true) this.#ticking = true;
    }
    if (configured) this.#refreshPeers();
    return true;
  }

  #persist(first: Seqno): void {
    const { last } = this.#log;
    this.#effects.push({ kind: "persist", op: this.#durability.appended(last), entries: { first, last } });
  }

  #rollback(to: Seqno): void {
    if (to < this.#log.commit)
      return this.#halt(`entries after ${to} are to be dropped, but ${this.#log.commit} is committed`);
    if (to < this.#verified)
      return this.#halt(`entries after ${to} are to be dropped, but ${this.#verified} is the leader's`);
    this.#log.rollback(to);
    this.#members.rollback(to);
    const op = this.#durability.rolledBack(to, this.#mutations.staleStableReport !== true);
    this.#announce();
    this.#effects.push({ kind: "rollback", op, to });
    this.#refreshPeers();
  }

  #commit(seqno: Seqno): void {
    if (seqno <= this.#log.commit) return;
    this.#log.commitTo(seqno);
    const { lapsed, released } = this.#members.commit(seqno);
    this.#announce();
    this.#effects.push({ kind: "commit", seqno });
    if (this.#role === "leader") {
      // The last a retired node hears: that it may stop.
      for (const node of released) {
        const progress = this.#peers.get(node);
        if (progress !== undefined) this.#sendHeartbeat(node, progress);
      }
    }
    if (this.#members.retiredCommitted && this.#role !== "none") {
      this.#nominate();
      this.#role = "none";
      this.#leader = undefined;
    }
    if (lapsed || released.length > 0) this.#refreshPeers();
    if (lapsed) this.#requestRecords();
  }

  /** A retirement that is complete must be recorded in the ledger, or the retired node could never stop. */
  #requestRecords(): void {
    if (this.#role !== "leader") return;
    const nodes = this.#members.unrecorded(this.#log.commit);
    if (nodes.length === 0) return;
    this.#announce();
    this.#effects.push({ kind: "retired", nodes });
  }

  /** Brings the peers in line with the configurations; a leader greets the new ones. */
  #refreshPeers(): void {
    const wanted = this.#members.peers();
    const peers = new Map<NodeId, Progress>();
    const fresh: [NodeId, Progress][] = [];
    for (const node of wanted.keys()) {
      let progress = this.#peers.get(node);
      if (progress === undefined) {
        progress = new Progress(this.#log.last);
        fresh.push([node, progress]);
      }
      peers.set(node, progress);
    }
    this.#peers = peers;
    if (!sameConfiguration(wanted, this.#announcedPeers)) {
      this.#announcedPeers = wanted;
      this.#effects.push({ kind: "peers", peers: wanted });
    }
    if (this.#role === "leader") for (const [node, progress] of fresh) this.#sendHeartbeat(node, progress);
  }

  // ---------------------------------------------------------------------------------------------- the outside

  #send(to: NodeId, message: ConsensusMessage, entries?: Readonly<{ first: Seqno; last: Seqno }>): void {
    this.#effects.push({ kind: "send", to, message, ...(entries !== undefined && { entries }) });
  }

  /** Tells the driver who leads, if that changed since it was told last. */
  #announce(): void {
    const { role, view, leader } = this.#announced;
    if (role === this.#role && view === this.#view && leader === this.#leader) return;
    this.#announced = { role: this.#role, view: this.#view, leader: this.#leader };
    this.#effects.push({ kind: "role", ...this.#announced });
  }

  /** What must hold after every step, whatever came in. A node that is wrong about itself must not go on. */
  #checkInvariants(before: Readonly<{ view: View; votedFor: NodeId | undefined; commit: Seqno }>): void {
    const { last, commit } = this.#log;
    const broken = (holds: boolean, invariant: string): void => {
      if (!holds && !this.#halted) this.#halt(`broken: ${invariant}`);
    };
    broken(this.#view >= before.view, "the view never goes back");
    broken(commit >= before.commit, "the commit point never goes back");
    broken(commit <= last && this.#durability.stable <= last, "what is committed or stable is in the ledger");
    broken((this.#log.viewAt(last) ?? NO_VIEW) <= this.#view, "no entry is of a view to come");
    broken(this.#verified <= last, "what the leader's appends proved is in the ledger");
    broken(
      this.#view > before.view || before.votedFor === undefined || before.votedFor === this.#votedFor,
      "a node votes once in a view",
    );
    broken(this.#role !== "leader" || this.#leader === this.#self, "a leader knows that it leads");
    broken(this.#role !== "candidate" || this.#votedFor === this.#self, "a candidate votes for itself");
    broken(
      !this.#members.retiredCommitted || this.#role === "none",
      "a node retired for good has no part in elections",
    );
    broken(commit === 0 || this.#members.active.length > 0, "a service with a past has a configuration");
    broken(
      this.#members.active.every(
        ({ seqno }, i, all) => seqno <= last && (i === 0 || seqno > commit) && (i === 0 || seqno > all[i - 1]!.seqno),
      ),
      "active are the last committed configuration and all later ones",
    );
  }

  #halt(reason: string): void {
    this.#halted = true;
    this.#effects.push({ kind: "halt", reason });
  }
}
