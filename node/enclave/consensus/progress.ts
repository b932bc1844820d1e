/**
 * What a leader knows and supposes about one peer's ledger.
 *
 * `match` is proven: the peer acknowledged it in this view. `sent` is a hope: where the next append begins. Two modes:
 *
 *   probe   The hope is in doubt. One question at a time, until one is acknowledged.
 *   stream  The peer follows. Appends go out ahead of their acknowledgements, up to `IN_FLIGHT_MAX` of them.
 *
 * A refusal moves `sent` back and never touches `match`. In probe mode it is answered only if it moves `sent` further
 * back, or if a tick has passed since the question: late and repeated refusals thus cannot multiply messages. There are
 * no request ids, so silence is told by ticks: after two without an acknowledgement the leader asks anew from its own
 * tail, a question that a living peer always answers.
 *
 * Trusted. Pure.
 */
import type { Seqno } from "../../../protocol/ids.ts";

/** Appends on their way to one peer, at most. */
const IN_FLIGHT_MAX = 4;
const SILENT_TICKS_MAX = 2;

export class Progress {
  /** Proven: the peer holds, on its disk, what the leader holds up to here. */
  match: Seqno = 0;
  /** Supposed: the peer has been sent everything up to here. */
  sent: Seqno;
  /** Milliseconds since the peer last answered. */
  sinceAckMs = 0;
  #mode: "probe" | "stream" = "probe";
  /** In probe mode: where the newest question began, and whether its answer is still due. */
  #askedAt: Seqno;
  #asked = true;
  readonly #inFlight: { last: Seqno; sizeBytes: number }[] = [];
  #inFlightBytes = 0;
  #silentTicks = 0;

  /** @param tail the leader's last entry; the caller sends a heartbeat there, which is the first question */
  constructor(tail: Seqno) {
    this.sent = tail;
    this.#askedAt = tail;
  }

  /** True when another append may be sent now. */
  maySend(bytesMax: number): boolean {
    if (this.#mode === "probe") return !this.#asked;
    return this.#inFlight.length < IN_FLIGHT_MAX && this.#inFlightBytes < IN_FLIGHT_MAX * bytesMax;
  }

  /** An append of the entries after `sent` up to `last` is on its way. */
  sentTo(last: Seqno, sizeBytes: number): void {
    this.#askedAt = this.sent;
    this.#asked = true;
    this.sent = last;
    this.#inFlight.push({ last, sizeBytes });
    this.#inFlightBytes += sizeBytes;
  }

  /** The peer holds everything up to `seqno`, which is not below `match`. */
  acknowledged(seqno: Seqno): void {
    this.match = seqno;
    this.#silentTicks = 0;
    while (this.#inFlight.length > 0 && this.#inFlight[0]!.last <= seqno)
      this.#inFlightBytes -= this.#inFlight.shift()!.sizeBytes;
    if (seqno < this.sent) return;
    this.sent = seqno;
    this.#mode = "stream";
  }

  /** The peer refused an append; `estimate` is the best match that its answer allows. */
  refused(estimate: Seqno): void {
    const back = Math.max(Math.min(estimate, this.sent), this.match);
    const news = back < this.#askedAt || (back === this.#askedAt && this.#silentTicks > 0);
    if (this.#mode === "probe" && !news) return;
    this.#doubt(back);
    this.#asked = false;
  }

  /** Time to send something. After too long a silence the next heartbeat asks from `tail`. */
  tick(tail: Seqno): void {
    if (this.#mode === "stream" && this.#inFlight.length === 0) return;
    this.#silentTicks += 1;
    if (this.#silentTicks < SILENT_TICKS_MAX) return;
    this.#doubt(tail);
    this.#asked = true;
  }

  #doubt(at: Seqno): void {
    this.#mode = "probe";
    this.sent = at;
    this.#askedAt = at;
    this.#inFlight.length = 0;
    this.#inFlightBytes = 0;
    this.#silentTicks = 0;
  }
}
