/**
 * How soon the next signature is begun.
 *
 * A signature costs the consortium about as much as a hundred writes: two P-384 signatures, two checks of both on every
 * backup, a round of messages and an fsync on each node. When one has committed, those who waited for it answer with new
 * writes within a few milliseconds, and signing at the first of them would leave all others to the next round. So after a
 * round of many, the next one waits a little for company: for half as many as the last time, and no longer than a quarter
 * of what the round took. After a round of one it waits for nobody, so that a single writer is not slowed down.
 *
 * Trusted. Pure.
 */

/** No writer waits longer than this for others. */
const GATHER_MS_MAX = 5;

export class SigningPace {
  #lastCount = 0;
  #beganMs = 0;
  #committedMs = 0;
  #roundMs = 0;

  /** A signature over `count` transactions is begun. */
  began(count: number, nowMs: number): void {
    this.#lastCount = count;
    this.#beganMs = nowMs;
  }

  /** It is committed. */
  committed(nowMs: number): void {
    this.#committedMs = nowMs;
    this.#roundMs = nowMs - this.#beganMs;
  }

  /** Milliseconds to wait for more than these `unsigned` transactions; 0: sign now. */
  gatherMs(unsigned: number, nowMs: number): number {
    if (unsigned * 2 >= this.#lastCount) return 0;
    const until = this.#committedMs + Math.min(GATHER_MS_MAX, this.#roundMs / 4);
    return Math.max(0, Math.ceil(until - nowMs));
  }
}
