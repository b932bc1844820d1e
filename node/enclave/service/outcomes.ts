/**
 * Who waits for the fate of which transaction.
 *
 * Trusted. Pure.
 */
import type { Seqno, TxId, View } from "../../../protocol/ids.ts";

type Outcome = "Committed" | "Invalid";
type Waiter = { view: View; done(outcome: Outcome): void };

export class Outcomes {
  readonly #waiters = new Map<Seqno, Waiter[]>();
  #settledUpTo: Seqno = 0;
  #settledView: View = 0;

  /** Resolves once `settle` has decided. The caller has checked that the fate is still open. */
  wait({ view, seqno }: TxId): Promise<Outcome> {
    return new Promise((done) => {
      const waiters = this.#waiters.get(seqno);
      if (waiters === undefined) this.#waiters.set(seqno, [{ view, done }]);
      else waiters.push({ view, done });
    });
  }

  /** Everything up to `seqno` is committed, in `view` at the end of it. */
  settle(seqno: Seqno, view: View, viewAt: (seqno: Seqno) => View | undefined): void {
    for (let at = this.#settledUpTo + 1; at <= seqno; at++) {
      const waiters = this.#waiters.get(at);
      if (waiters === undefined) continue;
      this.#waiters.delete(at);
      const committed = viewAt(at);
      for (const waiter of waiters) waiter.done(waiter.view === committed ? "Committed" : "Invalid");
    }
    this.#settledUpTo = Math.max(this.#settledUpTo, seqno);
    // A commit in a later view ends the hopes of everything of an earlier view that is not part of it.
    if (view > this.#settledView) this.#failOlderThan(view);
    this.#settledView = view;
  }

  #failOlderThan(view: View): void {
    for (const [at, waiters] of this.#waiters) {
      const open = waiters.filter((waiter) => waiter.view >= view);
      for (const waiter of waiters) if (waiter.view < view) waiter.done("Invalid");
      if (open.length === 0) this.#waiters.delete(at);
      else this.#waiters.set(at, open);
    }
  }
}
