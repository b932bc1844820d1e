/**
 * A small seeded generator (xorshift128) for what must look random and yet be repeatable: election jitter here, whole
 * schedules in the simulator. Its state is part of the core's, so a run is its seed and its inputs.
 *
 * Never a source of keys, nonces or ids: whoever sees a few outputs knows all later ones.
 *
 * Trusted. Pure.
 */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** @param seed any integer; its low 64 bits count */
  constructor(seed: number) {
    let state = (seed ^ (Math.floor(seed / 2 ** 32) * 0x9e3779b1)) >>> 0;
    const word = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let mixed = state;
      mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      return (mixed ^ (mixed >>> 16)) >>> 0;
    };
    this.#a = word();
    this.#b = word();
    this.#c = word();
    // The one state that xorshift never leaves is all zeros.
    this.#d = word() | 1;
  }

  /** The next 32 bits, as an unsigned number. */
  next(): number {
    let t = this.#d;
    t ^= t << 11;
    t ^= t >>> 8;
    this.#d = this.#c;
    this.#c = this.#b;
    this.#b = this.#a;
    this.#a = (t ^ this.#a ^ (this.#a >>> 19)) >>> 0;
    return this.#a;
  }

  /** A whole number in `[0, bound)`; 0 when `bound` is below 1. */
  below(bound: number): number {
    return bound < 1 ? 0 : this.next() % Math.floor(bound);
  }
}
