/**
 * The ledger as consensus sees it: for each entry its view and size, which entries are signatures, and how far it is
 * committed. Bytes and meaning of entries stay with the driver.
 *
 * Trusted. Pure.
 */
import type { Seqno, View } from "../../../protocol/ids.ts";
import { ENTRIES_MAX } from "../../../protocol/wire/consensus.ts";
import { NO_VIEW, ViewHistory } from "./view-history.ts";

const SIZE_MAX = 2 ** 32 - 1;

export class Log {
  readonly #views: ViewHistory;
  /** Entries up to here came in a snapshot: only their views are known. */
  readonly #base: Seqno;
  #last: Seqno;
  #commit: Seqno;
  /** Sizes of the entries after `#base`, in bytes: four bytes of memory an entry, so that a joiner can be fed in slices. */
  #sizes = new Uint32Array(1024);
  /** Seqnos of all signatures after `#commit`, ascending. */
  readonly #committables: Seqno[] = [];

  constructor(base: Seqno = 0, starts: readonly Seqno[] = []) {
    this.#views = new ViewHistory(starts);
    this.#base = base;
    this.#last = base;
    this.#commit = base;
  }

  get last(): Seqno {
    return this.#last;
  }

  get commit(): Seqno {
    return this.#commit;
  }

  get base(): Seqno {
    return this.#base;
  }

  /** The newest entry at which the ledger is or could become committed; 0 if there is none. */
  get lastCommittable(): Seqno {
    return this.#committables.at(-1) ?? this.#commit;
  }

  /** The newest such entry up to `bound`; the commit point when there is none after it. */
  committableUpTo(bound: Seqno): Seqno {
    for (let i = this.#committables.length - 1; i >= 0; i--) {
      const seqno = this.#committables[i]!;
      if (seqno <= bound) return seqno;
    }
    return this.#commit;
  }

  /** The view of an entry held here; `NO_VIEW` for seqno 0, undefined beyond the tail. */
  viewAt(seqno: Seqno): View | undefined {
    if (seqno > this.#last) return undefined;
    return seqno <= 0 ? NO_VIEW : this.#views.viewAt(seqno);
  }

  viewHistory(): readonly Seqno[] {
    return this.#views.toArray();
  }

  append(view: View, sizeBytes: number, committable: boolean): void {
    const at = this.#last - this.#base;
    if (at === this.#sizes.length) {
      const larger = new Uint32Array(at * 2);
      larger.set(this.#sizes);
      this.#sizes = larger;
    }
    this.#sizes[at] = Math.min(sizeBytes, SIZE_MAX);
    this.#last += 1;
    this.#views.update(this.#last, view);
    if (committable) this.#committables.push(this.#last);
  }

  rollback(to: Seqno): void {
    this.#last = to;
    this.#views.rollback(to);
    while (this.#committables.length > 0 && this.#committables.at(-1)! > to) this.#committables.pop();
  }

  commitTo(seqno: Seqno): void {
    this.#commit = seqno;
    while (this.#committables.length > 0 && this.#committables[0]! <= seqno) this.#committables.shift();
  }

  /** First entry in `[first, last]` held here whose view is not `view`; undefined when there is none. */
  firstConflict(first: Seqno, last: Seqno, view: View): Seqno | undefined {
    const end = Math.min(last, this.#last);
    for (let seqno = first; seqno <= end; ) {
      if (this.#views.viewAt(seqno) !== view) return seqno;
      seqno = (this.#views.endOf(view) ?? end) + 1;
    }
    return undefined;
  }

  /**
   * The latest entry of ours that can equal one of a log which has `view` at `seqno`: at most `seqno`, and not of a later
   * view (CCF's `find_highest_possible_match`).
   */
  bestMatch(view: View, seqno: Seqno): Seqno {
    let probe = Math.min(seqno, this.#last);
    for (let here = this.#views.viewAt(probe); probe > 0 && here > view; here = this.#views.viewAt(probe))
      probe = Math.max(0, this.#views.startOf(here) - 1);
    return probe;
  }

  /**
   * Where a slice that follows `after` ends: entries of one view, `bytesMax` bytes at most or a single larger entry.
   * Equal to `after` when nothing can be sliced there.
   */
  sliceAfter(after: Seqno, upTo: Seqno, bytesMax: number): Readonly<{ last: Seqno; sizeBytes: number }> {
    if (after >= upTo || after < this.#base) return { last: after, sizeBytes: 0 };
    const end = Math.min(upTo, after + ENTRIES_MAX, this.#views.endOf(this.#views.viewAt(after + 1)) ?? upTo);
    let last = after + 1;
    let sizeBytes = this.#sizes[last - 1 - this.#base]!;
    while (last < end) {
      const next = sizeBytes + this.#sizes[last - this.#base]!;
      if (next > bytesMax) break;
      sizeBytes = next;
      last += 1;
    }
    return { last, sizeBytes };
  }
}
