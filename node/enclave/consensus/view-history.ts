/**
 * Which view each entry belongs to.
 *
 * Element i is the first seqno of view i+1. A view without entries repeats the start of the next one that has some, so
 * `[5, 10, 10]` says: view 1 has 5 to 9, view 2 is empty, view 3 begins at 10. This is CCF's representation
 * (`src/consensus/aft/impl/state.h`), which its status endpoints show.
 *
 * Trusted. Pure.
 */
import type { Seqno, View } from "../../../protocol/ids.ts";

/** The view of nothing: of seqno 0, and of what is before the first view. */
export const NO_VIEW: View = 0;

export class ViewHistory {
  readonly #starts: Seqno[];

  constructor(starts: readonly Seqno[] = []) {
    this.#starts = [...starts];
  }

  /** The view that `seqno` is or would be in; `NO_VIEW` before the first. */
  viewAt(seqno: Seqno): View {
    const starts = this.#starts;
    let high = starts.length;
    // Nearly every question is about the newest view.
    if (high > 0 && starts[high - 1]! <= seqno) return high;
    let low = 0;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= seqno) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** First seqno of a view, which may be that of a later one when the view is empty; 0 when nothing is known of it. */
  startOf(view: View): Seqno {
    return this.#starts[view - 1] ?? 0;
  }

  /** Last seqno before the next view begins; undefined for the newest view. */
  endOf(view: View): Seqno | undefined {
    const next = this.#starts[view];
    return next === undefined ? undefined : next - 1;
  }

  /** Entries from `seqno` on are of `view`. No effect when the view is known already. */
  update(seqno: Seqno, view: View): void {
    while (this.#starts.length < view) this.#starts.push(seqno);
  }

  /** Forgets views that begin after `to`. */
  rollback(to: Seqno): void {
    while (this.#starts.length > 0 && this.#starts.at(-1)! > to) this.#starts.pop();
  }

  /** A copy, element i being the first seqno of view i+1. */
  toArray(): readonly Seqno[] {
    return [...this.#starts];
  }
}
