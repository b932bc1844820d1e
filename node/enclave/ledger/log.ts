/**
 * The tail of the ledger in memory: every uncommitted entry, and as many committed ones as fit, for peers that are a
 * little behind. What is older lies with the host.
 *
 * Trusted. Pure.
 */
import { assert } from "../../../protocol/check.ts";
import type { Seqno, View } from "../../../protocol/ids.ts";

export type Logged = Readonly<{
  seqno: Seqno;
  view: View;
  bytes: Uint8Array;
  /** Bytes of entries since the last one that ended a ledger chunk, this one included. */
  unchunkedBytes: number;
}>;

/** Committed entries kept for peers. Enough for a second of full load; a slower peer is served from the host's disk. */
const CACHE_BYTES = 16 * 1024 * 1024;

export class Log {
  #entries: Logged[] = [];
  /** Index in `#entries` of the oldest one still kept; the array is compacted now and then. */
  #head = 0;
  #bytes = 0;
  #committed: Seqno = 0;

  get last(): Logged | undefined {
    return this.#entries.length > this.#head ? this.#entries[this.#entries.length - 1] : undefined;
  }

  append(entry: Logged): void {
    const last = this.last;
    assert(last === undefined || entry.seqno === last.seqno + 1, "the log is dense");
    this.#entries.push(entry);
    this.#bytes += entry.bytes.length;
  }

  /** The entry at a seqno, if it is still in memory. */
  at(seqno: Seqno): Logged | undefined {
    const first = this.#entries[this.#head];
    if (first === undefined || seqno < first.seqno) return undefined;
    return this.#entries[this.#head + seqno - first.seqno];
  }

  rollback(to: Seqno): void {
    assert(to >= this.#committed, "what is committed stays in the log");
    for (let last = this.last; last !== undefined && last.seqno > to; last = this.last) {
      this.#entries.pop();
      this.#bytes -= last.bytes.length;
    }
  }

  commit(upTo: Seqno): void {
    this.#committed = upTo;
    for (;;) {
      const first = this.#entries[this.#head];
      // The newest committed entry stays: a rollback to it needs its chunk count.
      if (first === undefined || this.#bytes <= CACHE_BYTES || first.seqno >= upTo) break;
      this.#bytes -= first.bytes.length;
      this.#head++;
    }
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }
}
