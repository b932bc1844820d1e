/**
 * How much of the ledger the host has reported as stable.
 *
 * Writes and rollbacks are numbered in one sequence, and a report names the last operation that it covers, not a seqno.
 * Between a write and its report the same seqnos may have been rolled back and written anew; a rollback therefore caps
 * what every earlier operation, when it is reported at last, can say (the ABA problem of asynchronous storage).
 *
 * Trusted. Pure.
 */
import type { Seqno } from "../../../protocol/ids.ts";

type Pending = { readonly op: number; upTo: Seqno };

export class Durability {
  #stable: Seqno;
  #lastOp = 0;
  readonly #pending: Pending[] = [];

  constructor(stable: Seqno) {
    this.#stable = stable;
  }

  /** Everything up to here is stable, and is still what this node holds. */
  get stable(): Seqno {
    return this.#stable;
  }

  /** Entries up to `last` are given to the host. Returns the number of the operation. */
  appended(last: Seqno): number {
    return this.#next(last);
  }

  /** Entries after `to` are taken back. Returns the number of the operation. */
  rolledBack(to: Seqno, capEarlier = true): number {
    if (capEarlier) for (const pending of this.#pending) pending.upTo = Math.min(pending.upTo, to);
    this.#stable = Math.min(this.#stable, to);
    return this.#next(to);
  }

  /** Operations up to `op` are stable. True when it is an operation that was given out. */
  reached(op: number): boolean {
    if (!Number.isSafeInteger(op) || op > this.#lastOp) return false;
    while (this.#pending.length > 0 && this.#pending[0]!.op <= op) this.#stable = this.#pending.shift()!.upTo;
    return true;
  }

  #next(upTo: Seqno): number {
    this.#lastOp += 1;
    this.#pending.push({ op: this.#lastOp, upTo });
    return this.#lastOp;
  }
}
