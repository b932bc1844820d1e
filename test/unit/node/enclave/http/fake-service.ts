/**
 * A service port for tests: a real store, no consensus. Every commit is ordered at once; `settle` decides its fate.
 */

import type { Frontend, ServicePort } from "../../../../../node/enclave/http/endpoint.ts";
import { Store } from "../../../../../node/enclave/kv/store.ts";
import { open, type Table } from "../../../../../node/enclave/kv/table.ts";
import { Tx } from "../../../../../node/enclave/kv/tx.ts";
import { Fault } from "../../../../../protocol/check.ts";
import type { TxId, TxStatus, View } from "../../../../../protocol/ids.ts";

export class FakeService implements ServicePort {
  readonly store = new Store();
  readonly closedFrontends = new Set<Frontend>();
  currentView: View = 2;
  busy = false;
  primary = true;
  address: string | undefined = "127.0.0.1:8000";
  /** Transactions wait for `settle` instead of being committed at once. */
  manual = false;
  /** Thrown by the next commits, in turn. */
  readonly failures: Error[] = [];
  readonly waiting: { id: TxId; done(fate: "Committed" | "Invalid"): void }[] = [];
  commits = 0;

  begin(): Tx {
    return new Tx(this.store);
  }

  commit(tx: Tx): TxId {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    const map = tx.conflicts();
    if (map !== undefined) throw new Fault({ code: "TxConflict", map });
    const writes = tx.writes();
    if (writes.size === 0) return { view: this.currentView, seqno: tx.readVersion };
    this.commits++;
    const seqno = this.store.version + 1;
    this.store.apply(seqno, writes);
    return { view: this.currentView, seqno };
  }

  frontendOpen(frontend: Frontend): boolean {
    return !this.closedFrontends.has(frontend);
  }
  overloaded(): boolean {
    return this.busy;
  }
  isPrimary(): boolean {
    return this.primary;
  }
  view(): View {
    return this.currentView;
  }
  primaryAddress(): string | undefined {
    return this.address;
  }
  commitTxId(): TxId {
    return { view: this.currentView, seqno: this.store.version };
  }
  viewHistory(since: View): TxId[] {
    return [{ view: 2, seqno: 1 }].filter(({ view }) => view >= since);
  }
  txStatus({ view, seqno }: TxId): TxStatus {
    if (seqno > this.store.version) return "Unknown";
    return view === this.currentView ? "Committed" : "Invalid";
  }
  outcome(id: TxId): Promise<"Committed" | "Invalid"> {
    if (!this.manual) return Promise.resolve("Committed");
    return new Promise((done) => this.waiting.push({ id, done }));
  }
  lastSeqno(): number {
    return this.store.version;
  }

  settle(fate: "Committed" | "Invalid"): void {
    for (const { done } of this.waiting.splice(0)) done(fate);
  }

  /** Writes a row as somebody else's transaction. */
  put<K, V>(table: Table<K, V>, key: K, value: V): void {
    const tx = this.begin();
    open(tx, table).set(key, value);
    this.store.apply(this.store.version + 1, tx.writes());
  }
}
