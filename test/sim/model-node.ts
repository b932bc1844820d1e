/**
 * A consensus core with a model of everything around it: ledger, state and disk are lists of entries.
 *
 * It performs effects as the real driver does, in order, and answers `apply` at once. What it is given from outside, and
 * when its writes become stable, is up to the simulator or the scenario that owns it.
 */
import type {
  Configuration,
  Core,
  CoreOptions,
  CoreStatus,
  Effect,
  Input,
  Role,
} from "../../node/enclave/consensus/core.ts";
import type { Mutations } from "../../node/enclave/consensus/mutations.ts";
import { createRaft, type Initial } from "../../node/enclave/consensus/raft.ts";
import type { NodeId, Seqno, View } from "../../protocol/ids.ts";
import type { ConsensusMessage } from "../../protocol/wire/consensus.ts";

/** An entry is made once, by one leader, and shared by everyone who holds it: equality is identity. */
export type Entry = Readonly<{
  seqno: Seqno;
  view: View;
  text: string;
  committable: boolean;
  size: number;
  configuration?: Configuration;
  retiredCommitted?: readonly NodeId[];
  /** The entry before it in its maker's ledger. */
  prev: Entry | undefined;
}>;

export type NewEntry = Pick<Entry, "text"> &
  Partial<Pick<Entry, "committable" | "size" | "configuration" | "retiredCommitted">>;

/** Who watches a node and carries what it sends. */
export interface Surroundings {
  send(from: ModelNode, to: NodeId, message: ConsensusMessage, entries: readonly Entry[]): void;
  /** The node gave operation `op` to its disk. */
  wrote(node: ModelNode, op: number): void;
  created(node: ModelNode, entry: Entry): void;
  /** Before the entry is put at the end of the ledger. */
  appending(node: ModelNode, entry: Entry): void;
  /** Before the entries after `to` are dropped. */
  rollingBack(node: ModelNode, to: Seqno): void;
  /** Before the node's commit point moves. */
  committing(node: ModelNode, seqno: Seqno): void;
  roleChanged(node: ModelNode): void;
  /** The node leads and is to record these retirements. */
  retired(node: ModelNode, nodes: readonly NodeId[]): void;
  /** @param effects how many effects the step had */
  stepped(node: ModelNode, input: Input, effects: number): void;
  effect?(node: ModelNode, effect: Effect): void;
}

type Operation = Readonly<{ op: number; entries: readonly Entry[]; truncateTo: Seqno | undefined }>;

export class ModelNode {
  readonly id: NodeId;
  readonly core: Core;
  readonly log: Entry[] = [];
  /** What is on the disk. Differs from the ledger until operations complete. */
  readonly disk: Entry[] = [];
  /** Entries of the ledger that change the configuration, oldest first. */
  readonly configurations: Entry[] = [];
  role: Role;
  view: View;
  leader: NodeId | undefined;
  commit: Seqno = 0;
  alive = true;
  halted: string | undefined;
  peers: Configuration = new Map();
  /** A new leader signs as its first act. */
  mustSign: boolean;
  readonly #surroundings: Surroundings;
  readonly #operations: Operation[] = [];
  #incoming: readonly Entry[] = [];
  /** Entry of the append being applied that is damaged on the way; -1 for none. */
  #damagedAt = -1;
  #status: CoreStatus | undefined;

  constructor(options: CoreOptions, initial: Initial, surroundings: Surroundings, mutations: Mutations = {}) {
    this.id = options.self;
    this.core = createRaft(options, initial, mutations);
    this.#surroundings = surroundings;
    const status = this.core.status();
    this.role = status.role;
    this.view = status.view;
    this.leader = status.leader;
    this.mustSign = status.role === "leader";
  }

  /** The core's own account of itself. */
  get status(): CoreStatus {
    this.#status ??= this.core.status();
    return this.#status;
  }

  /** Operations given to the disk and not completed. */
  get writing(): readonly number[] {
    return this.#operations.map(({ op }) => op);
  }

  /** Seqno of the newest signature in the ledger. */
  get lastSignature(): Seqno {
    return this.log.findLast(({ committable }) => committable)?.seqno ?? 0;
  }

  tick(elapsedMs: number): void {
    this.#step({ kind: "tick", elapsedMs });
  }

  nominate(): void {
    this.#step({ kind: "nominate" });
  }

  /** @param damagedAt index of the entry that cannot be applied; -1 for none */
  receive(from: NodeId, message: ConsensusMessage, entries: readonly Entry[], damagedAt = -1): void {
    this.#incoming = entries;
    this.#damagedAt = damagedAt;
    this.#step({ kind: "received", from, message });
  }

  /** As leader, puts new entries at the end of the ledger. Without effect when it does not lead. */
  replicate(news: readonly NewEntry[]): void {
    if (this.role !== "leader") return;
    const first = this.log.length;
    for (const { text, committable = false, size = 100, configuration, retiredCommitted } of news) {
      const entry: Entry = {
        seqno: this.log.length + 1,
        view: this.view,
        text,
        committable,
        size,
        ...(configuration !== undefined && { configuration }),
        ...(retiredCommitted !== undefined && { retiredCommitted }),
        prev: this.log.at(-1),
      };
      this.#surroundings.created(this, entry);
      this.#append(entry);
      if (committable) this.mustSign = false;
    }
    this.#step({ kind: "replicate", view: this.view, entries: this.log.slice(first) });
  }

  /** Completes all disk operations up to `op`, and tells the core. */
  completeWrites(op: number): void {
    let done = 0;
    while (this.#operations.length > 0 && this.#operations[0]!.op <= op) {
      const { entries, truncateTo, op: completed } = this.#operations.shift()!;
      if (truncateTo !== undefined) this.disk.length = Math.min(this.disk.length, truncateTo);
      for (const entry of entries) this.disk[entry.seqno - 1] = entry;
      done = completed;
    }
    if (done > 0) this.#step({ kind: "stable", op: done });
  }

  /** Gives the core a report of the disk that may be late or wrong; the disk does not change. */
  reportStable(op: number): void {
    this.#step({ kind: "stable", op });
  }

  #step(input: Input): void {
    if (!this.alive || this.halted !== undefined) return;
    const effects = this.core.step(input);
    this.#perform(effects);
    this.#surroundings.stepped(this, input, effects.length);
  }

  #perform(effects: readonly Effect[]): void {
    this.#status = undefined;
    for (const effect of effects) {
      this.#surroundings.effect?.(this, effect);
      switch (effect.kind) {
        case "send": {
          const { first, last } = effect.entries ?? { first: 1, last: 0 };
          this.#surroundings.send(this, effect.to, effect.message, this.log.slice(first - 1, last));
          break;
        }
        case "apply": {
          const wanted = this.#incoming.slice(-(effect.entries.last - effect.entries.first + 1));
          const bad = wanted.findIndex((_, i) => i + this.#incoming.length - wanted.length === this.#damagedAt);
          const entries = bad < 0 ? wanted : wanted.slice(0, bad);
          for (const entry of entries) {
            this.#surroundings.appending(this, entry);
            this.#append(entry);
          }
          this.#perform(
            this.core.step({ kind: "applied", entries, ...(bad >= 0 && { failed: "damaged on the way" }) }),
          );
          break;
        }
        case "persist": {
          const entries = this.log.slice(effect.entries.first - 1, effect.entries.last);
          this.#operations.push({ op: effect.op, entries, truncateTo: undefined });
          this.#surroundings.wrote(this, effect.op);
          break;
        }
        case "rollback":
          this.#surroundings.rollingBack(this, effect.to);
          this.log.length = effect.to;
          while ((this.configurations.at(-1)?.seqno ?? 0) > effect.to) this.configurations.pop();
          this.#operations.push({ op: effect.op, entries: [], truncateTo: effect.to });
          this.#surroundings.wrote(this, effect.op);
          break;
        case "commit":
          this.#surroundings.committing(this, effect.seqno);
          this.commit = effect.seqno;
          break;
        case "role":
          this.role = effect.role;
          this.view = effect.view;
          this.leader = effect.leader;
          this.mustSign = effect.role === "leader";
          this.#surroundings.roleChanged(this);
          break;
        case "peers":
          this.peers = effect.peers;
          break;
        case "retired":
          this.#surroundings.retired(this, effect.nodes);
          break;
        case "halt":
          this.halted = effect.reason;
          break;
      }
    }
  }

  #append(entry: Entry): void {
    this.log.push(entry);
    const before = this.configurations.at(-1)?.configuration;
    if (entry.configuration !== undefined && !sameNodes(before, entry.configuration)) this.configurations.push(entry);
  }
}

function sameNodes(a: Configuration | undefined, b: Configuration): boolean {
  return a !== undefined && a.size === b.size && [...b.keys()].every((node) => a.has(node));
}
