/**
 * One replica: the ledger, the consensus core that decides about it, and the hands that do what the core says.
 *
 * Every change of consensus state is one `step`; its effects are performed in order, here, before the next input. Entries
 * that this node orders as leader are given to the core once per turn of the event loop, so that a burst of requests
 * becomes one append, one disk write and one signature. Signing follows the load: whenever something is unsigned and no
 * signature is on its way to commit, sign (`signing-pace.ts` says how soon); under load a signature covers whatever arrived
 * during the last round.
 *
 * An operation on the ledger is `stable` when the host says that it is on the disk and every signature in it verified.
 *
 * Trusted.
 */
import { Fault } from "../../../protocol/check.ts";
import type { NodeId, Seqno, TxId, TxStatus, View } from "../../../protocol/ids.ts";
import type { WriteSet } from "../../../protocol/ledger/write-set.ts";
import { type ConsensusMessage, decodeMessage, encodeMessage } from "../../../protocol/wire/consensus.ts";
import type { Configuration, Core, CoreStatus, Effect, EntryInfo, Input, Range, Role } from "../consensus/core.ts";
import { open } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import { Tx, type TxFault } from "../kv/tx.ts";
import type { Appended, Ledger, Signable } from "../ledger/ledger.ts";
import { check, type SignatureKeys, type Signer, sign } from "../ledger/signing.ts";
import { Outcomes } from "./outcomes.ts";
import { SigningPace } from "./signing-pace.ts";

/** The host's ledger, as the enclave may use it. */
export interface HostLedger {
  /** What is not urgent may be held back until something urgent follows, or `flush`. */
  append(op: number, first: Seqno, entries: readonly Uint8Array[], urgent: boolean): void;
  flush(): void;
  truncate(op: number, after: Seqno): void;
  commit(seqno: Seqno): void;
  /** At least the first of the entries asked for. */
  read(first: Seqno, last: Seqno): Promise<readonly Uint8Array[]>;
}

export type ReplicaParts = Readonly<{
  ledger: Ledger;
  core: Core;
  host: HostLedger;
  send(to: NodeId, message: readonly Uint8Array[]): boolean;
  setPeers(peers: Configuration): void;
  /** What this node signs with; undefined while the service has not endorsed it yet. */
  signer(): Signer | undefined;
  signatureKeys: SignatureKeys;
  /** The host's clock, for dates only. */
  nowMs(): number;
  onRole(role: Role, view: View, leader: NodeId | undefined): void;
  onCommit(seqno: Seqno): void;
  /** The ledger of complete entries grew or shrank. */
  onProgress(): void;
  /** Stops the node: an invariant broke, or the host was caught lying. */
  halt(reason: string): void;
  /** Sign at the latest when this many transactions, or this many milliseconds, are unsigned. */
  signatureTxCount: number;
  signatureDelayMs: number;
  maxUncommitted: number;
}>;

export type ReplicaFault = { code: "NotPrimary" };

type Operation = { readonly op: number; unverified: number };

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #outcomes = new Outcomes();
  /** Complete entries that the core has not been given yet. */
  #ready: Appended[] = [];
  #flushScheduled = false;
  #halted = false;

  #role: Role;
  #view: View;
  #leader: NodeId | undefined;
  #mustSign = false;
  /** Seqno of the newest signature of this leader; in flight until it commits. */
  #signedAt: Seqno = 0;
  /** Milliseconds since something became unsigned. */
  #unsignedMs = 0;
  readonly #pace = new SigningPace();
  #lookAgain = false;

  /** Entries of the append being handled. */
  #incoming: { first: Seqno; entries: readonly Uint8Array[] } = { first: 0, entries: [] };
  /** Operations that are not stable yet, in order. */
  readonly #operations: Operation[] = [];
  #durableOp = 0;
  /** Signatures being checked, by seqno; the operation that wrote each, once it is known. */
  readonly #checking = new Map<Seqno, { operation: Operation | undefined }>();

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    const status = parts.core.status();
    this.#role = status.role;
    this.#view = status.view;
    this.#leader = status.leader;
    // A core that leads from birth is that of a new service; its first signature follows the genesis.
    this.#mustSign = status.role === "leader";
  }

  get view(): View {
    return this.#view;
  }

  get leader(): NodeId | undefined {
    return this.#leader;
  }

  get role(): Role {
    return this.#role;
  }

  /** Seqno of the newest state here. */
  get lastSeqno(): Seqno {
    return this.#parts.ledger.store.version;
  }

  get committed(): Seqno {
    return this.#parts.ledger.store.committed;
  }

  isPrimary(): boolean {
    return this.#role === "leader" && !this.#halted;
  }

  /** A transaction at the newest version. */
  read(): Tx {
    return new Tx(this.#parts.ledger.store);
  }

  /** A transaction at the committed version. */
  readCommitted(): Tx {
    return new Tx(this.#parts.ledger.store, this.committed);
  }

  status(): CoreStatus {
    return this.#parts.core.status();
  }

  overloaded(): boolean {
    const { maxUncommitted, ledger } = this.#parts;
    return maxUncommitted > 0 && ledger.store.version - ledger.store.committed >= maxUncommitted;
  }

  /**
   * Orders a transaction on the primary. One that wrote nothing gets the id of the version it read.
   * @throws Fault `TxConflict` or `NotPrimary`
   */
  submit(tx: Tx): TxId {
    const map = tx.conflicts();
    if (map !== undefined)
      throw new Fault<TxFault>({ code: "TxConflict", map }, "what this transaction read has changed");
    const writes = tx.writes();
    if (writes.size === 0) return this.txIdAt(tx.readVersion);
    return this.#order(writes, tx.claimsDigest);
  }

  txIdAt(seqno: Seqno): TxId {
    return { view: this.#viewOf(seqno) ?? this.#view, seqno };
  }

  commitTxId(): TxId {
    return this.txIdAt(this.committed);
  }

  viewHistory(since: View): TxId[] {
    const history = this.#parts.core.viewHistory();
    const ids: TxId[] = [];
    for (let view = Math.max(1, since); view <= history.length; view++) {
      const seqno = history[view - 1] ?? 0;
      ids.push({ view, seqno });
    }
    return ids;
  }

  /** CCF's decision procedure (`include/ccf/tx_status.h`). */
  txStatus({ view, seqno }: TxId): TxStatus {
    const here = this.#viewOf(seqno);
    if (this.committed >= seqno) return here === view ? "Committed" : "Invalid";
    if (here === view) return "Pending";
    return this.commitTxId().view > view ? "Invalid" : "Unknown";
  }

  outcome(id: TxId): Promise<"Committed" | "Invalid"> {
    const status = this.txStatus(id);
    return status === "Committed" || status === "Invalid" ? Promise.resolve(status) : this.#outcomes.wait(id);
  }

  tick(elapsedMs: number): void {
    if (this.#parts.ledger.unsigned > 0) this.#unsignedMs += elapsedMs;
    this.#step({ kind: "tick", elapsedMs });
    if (this.#signatureDue()) this.#scheduleFlush();
  }

  /** A message that a peer's channel delivered. @throws Fault when it is malformed */
  receive(from: NodeId, bytes: Uint8Array): void {
    if (this.#halted) return;
    const { message, entries } = decodeMessage(bytes);
    // What this node ordered itself must be in the core before a message is judged against it.
    this.#giveReady();
    const first = message.kind === "append_entries" ? message.prevSeqno + 1 : 0;
    this.#incoming = { first, entries };
    this.#step({ kind: "received", from, message });
    this.#incoming = { first: 0, entries: [] };
  }

  /** The host says that every ledger operation up to `op` is on its disk. */
  durable(op: number): void {
    this.#durableOp = Math.max(this.#durableOp, op);
    this.#advanceStable();
  }

  /** Hands over leadership, for a graceful stop. */
  nominate(): void {
    this.#step({ kind: "nominate" });
  }

  #order(writes: WriteSet, claimsDigest: Uint8Array | undefined): TxId {
    if (!this.isPrimary()) throw new Fault<ReplicaFault>({ code: "NotPrimary" }, "this node is not the primary");
    const { seqno, ready } = this.#parts.ledger.append(this.#view, writes, claimsDigest);
    this.#ready.push(...ready);
    this.#scheduleFlush();
    return { view: this.#view, seqno };
  }

  #viewOf(seqno: Seqno): View | undefined {
    const { ledger, core } = this.#parts;
    const known = (this.#ready[0]?.info.seqno ?? ledger.lastComplete + 1) - 1;
    if (seqno <= known) return core.viewAt(seqno);
    // Ordered here, not in the core yet: of this leader's view, or nothing.
    return seqno <= ledger.store.version && this.#role === "leader" ? this.#view : undefined;
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    setImmediate(() => {
      this.#flushScheduled = false;
      this.#giveReady();
      if (this.#signatureDue()) this.#sign();
    });
  }

  #giveReady(): void {
    if (this.#ready.length === 0 || this.#halted) return;
    const entries: EntryInfo[] = this.#ready.map((entry) => entry.info);
    this.#ready = [];
    this.#step({ kind: "replicate", view: this.#view, entries });
  }

  #signatureDue(): boolean {
    const { ledger, signatureTxCount, signatureDelayMs } = this.#parts;
    if (!this.isPrimary() || ledger.signaturePending || ledger.store.version === 0) return false;
    if (this.#mustSign) return true;
    if (ledger.unsigned === 0) return false;
    if (ledger.unsigned >= signatureTxCount || this.#unsignedMs >= signatureDelayMs) return true;
    if (this.#signedAt > ledger.store.committed) return false;
    const waitMs = this.#pace.gatherMs(ledger.unsigned, performance.now());
    if (waitMs > 0) this.#lookAgainIn(waitMs);
    return waitMs === 0;
  }

  /** One timer at a time: every write of a gathering round comes by here. */
  #lookAgainIn(waitMs: number): void {
    if (this.#lookAgain) return;
    this.#lookAgain = true;
    setTimeout(() => {
      this.#lookAgain = false;
      this.#scheduleFlush();
    }, waitMs);
  }

  #sign(): void {
    const signer = this.#parts.signer();
    if (signer === undefined) return;
    const view = this.#view;
    this.#pace.began(this.#parts.ledger.unsigned, performance.now());
    const signable = this.#parts.ledger.beginSignature();
    this.#mustSign = false;
    this.#unsignedMs = 0;
    this.#signedAt = signable.seqno;
    sign(signable, view, signer, this.#parts.nowMs()).then(
      (writes) => this.#signed(signable, view, writes),
      (error: unknown) => this.#halt(`signing failed: ${String(error)}`),
    );
  }

  #signed(signable: Signable, view: View, writes: WriteSet): void {
    // A role change in the meantime has rolled the reserved seqno back.
    if (this.#view !== view || !this.isPrimary() || !this.#parts.ledger.signaturePending) return;
    if (this.#signedAt !== signable.seqno) return;
    this.#ready.push(...this.#parts.ledger.completeSignature(view, signable, writes));
    this.#giveReady();
    this.#parts.onProgress();
  }

  #step(input: Input): void {
    if (this.#halted) return;
    for (const effect of this.#parts.core.step(input)) {
      this.#perform(effect);
      if (this.#halted) return;
    }
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case "send":
        return this.#send(effect.to, effect.message, effect.entries);
      case "apply":
        return this.#apply(effect.entries, effect.view);
      case "persist":
        return this.#persist(effect.op, effect.entries);
      case "rollback":
        return this.#rollback(effect.op, effect.to);
      case "commit":
        return this.#commit(effect.seqno);
      case "role":
        return this.#changeRole(effect.role, effect.view, effect.leader);
      case "peers":
        return this.#parts.setPeers(effect.peers);
      case "retired":
        return this.#recordRetired(effect.nodes);
      case "halt":
        return this.#halt(effect.reason);
    }
  }

  #send(to: NodeId, message: ConsensusMessage, range: Range | undefined): void {
    if (range === undefined || range.last < range.first) {
      this.#parts.send(to, encodeMessage(message, []));
      return;
    }
    const entries = this.#parts.ledger.inMemory(range.first, range.last);
    if (entries.length === range.last - range.first + 1) {
      this.#parts.send(to, encodeMessage(message, entries));
      return;
    }
    if (message.kind !== "append_entries") return this.#halt("only appends carry entries");
    this.#readStored(range, message.viewOfSeqno).then(
      (stored) => this.#parts.send(to, encodeMessage(message, stored)),
      (error: unknown) => this.#halt(`the host's ledger is damaged: ${String(error)}`),
    );
  }

  /** Entries from the host's disk, each checked. */
  async #readStored({ first, last }: Range, view: View): Promise<Uint8Array[]> {
    const entries: Uint8Array[] = [];
    while (first + entries.length <= last) {
      const next = first + entries.length;
      const read = await this.#parts.host.read(next, last);
      if (read.length === 0) throw new Error(`the host does not have entry ${next}`);
      for (const bytes of read.slice(0, last - next + 1)) {
        this.#parts.ledger.checkStored(bytes, first + entries.length, view);
        entries.push(bytes);
      }
    }
    return entries;
  }

  #apply({ first, last }: Range, view: View): void {
    const applied: EntryInfo[] = [];
    let failed: string | undefined;
    for (let seqno = first; seqno <= last; seqno++) {
      const bytes = this.#incoming.entries[seqno - this.#incoming.first];
      if (bytes === undefined) {
        failed = `the message does not hold entry ${seqno}`;
        break;
      }
      try {
        const received = this.#parts.ledger.receive(bytes, seqno, view);
        if (received.signable !== undefined) this.#checkSignature(received.signable, view, received.writes);
        applied.push(received.info);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        failed = `entry ${view}.${seqno}: ${error.message}`;
        break;
      }
    }
    this.#step({ kind: "applied", entries: applied, ...(failed !== undefined && { failed }) });
  }

  #checkSignature(signable: Signable, view: View, writes: WriteSet): void {
    const checking = { operation: undefined as Operation | undefined };
    this.#checking.set(signable.seqno, checking);
    // After this turn's output: the host is writing the entry to its disk meanwhile.
    setImmediate(() => {
      // Rolled back meanwhile: whatever it was, it is gone.
      if (this.#halted || this.#checking.get(signable.seqno) !== checking) return;
      const wrong = check(signable, view, writes, this.#parts.signatureKeys);
      this.#checking.delete(signable.seqno);
      // A leader's enclave is attested, so this is broken code or broken attestation, and no input to live with.
      if (wrong !== undefined) return this.#halt(`signature ${view}.${signable.seqno} is not valid: ${wrong}`);
      if (checking.operation !== undefined) checking.operation.unverified--;
      this.#advanceStable();
    });
  }

  #persist(op: number, { first, last }: Range): void {
    const operation: Operation = { op, unverified: 0 };
    for (const [seqno, checking] of this.#checking) {
      if (seqno < first || seqno > last) continue;
      checking.operation = operation;
      operation.unverified++;
    }
    this.#operations.push(operation);
    const entries = this.#parts.ledger.inMemory(first, last);
    if (entries.length !== last - first + 1)
      return this.#halt(`entries ${first} to ${last} are to be written but not here`);
    // A leader's unsigned entries are of no use on the disk before their signature is there; whatever a backup receives,
    // its leader waits for.
    const urgent = this.#role !== "leader" || this.#parts.ledger.lastSignature >= first;
    this.#parts.host.append(op, first, entries, urgent);
  }

  #rollback(op: number, to: Seqno): void {
    this.#operations.push({ op, unverified: 0 });
    this.#dropUncommitted(to);
    this.#parts.host.truncate(op, to);
  }

  #dropUncommitted(to: Seqno): void {
    this.#ready = [];
    for (const [seqno, { operation }] of this.#checking) {
      if (seqno <= to) continue;
      // What is gone needs no check any more, and must not hold back what comes after it.
      if (operation !== undefined) operation.unverified--;
      this.#checking.delete(seqno);
    }
    this.#parts.ledger.rollback(to);
    this.#parts.onProgress();
  }

  #commit(seqno: Seqno): void {
    this.#parts.ledger.commit(seqno);
    this.#parts.host.commit(seqno);
    if (this.#signedAt > 0 && seqno >= this.#signedAt) this.#pace.committed(performance.now());
    this.#outcomes.settle(seqno, this.commitTxId().view, (at) => this.#parts.core.viewAt(at));
    this.#parts.onCommit(seqno);
    if (this.#signatureDue()) this.#scheduleFlush();
  }

  #changeRole(role: Role, view: View, leader: NodeId | undefined): void {
    const lost = this.#role === "leader" && (role !== "leader" || view !== this.#view);
    this.#role = role;
    this.#view = view;
    this.#leader = leader;
    // What this node ordered but the core has never seen dies with its leadership.
    if (lost) {
      this.#dropUncommitted(this.#parts.core.status().last);
      // What was held back for a signature of this node is now a backup's, and the new leader waits for it.
      this.#parts.host.flush();
    }
    if (role === "leader") {
      this.#mustSign = true;
      this.#signedAt = 0;
      this.#scheduleFlush();
    }
    this.#parts.onRole(role, view, leader);
  }

  #recordRetired(nodes: readonly NodeId[]): void {
    const tx = new Tx(this.#parts.ledger.store);
    const info = open(tx, TABLES.nodeInfo);
    for (const node of nodes) {
      const row = info.get(node);
      if (row?.status === "Retired" && row.retired_committed !== true)
        info.set(node, { ...row, retired_committed: true });
    }
    const writes = tx.writes();
    if (writes.size > 0 && this.isPrimary()) this.#order(writes, undefined);
  }

  #advanceStable(): void {
    let stable = 0;
    for (let next = this.#operations[0]; next !== undefined; next = this.#operations[0]) {
      if (next.op > this.#durableOp || next.unverified > 0) break;
      stable = next.op;
      this.#operations.shift();
    }
    if (stable > 0) this.#step({ kind: "stable", op: stable });
  }

  #halt(reason: string): void {
    if (this.#halted) return;
    this.#halted = true;
    this.#parts.halt(reason);
  }
}
