/**
 * The two ways things go wrong.
 *
 * A `Fault` is what the outside may do to us: a bad signature, a stale view, a full queue. It has a code, is part of a
 * function's contract, and is always handled. A failed `assert` is what only our own mistake can do. Nobody handles it:
 * the enclave stops, because a node that is wrong about itself must not go on signing.
 *
 * Neutral. Pure.
 */

/** An expected failure, told apart by `detail.code`; `message` is a sentence for a person and never holds a secret. */
export class Fault<D extends { readonly code: string } = { readonly code: string }> extends Error {
  readonly detail: D;

  constructor(detail: D, message?: string, options?: ErrorOptions) {
    super(message ?? detail.code, options);
    this.name = "Fault";
    this.detail = detail;
  }
}

/** A broken invariant: our bug. Caught only at the top, where it stops the process. */
export class Broken extends Error {
  override name = "Broken";
}

/** States an invariant. The words are the invariant itself, not the complaint about it. */
export function assert(holds: boolean, invariant: string): asserts holds {
  if (!holds) throw new Broken(invariant);
}

/** Ends a `switch` over a union: a new member that nobody handled is then a compile error. */
export function unreachable(value: never): never {
  throw new Broken(`no branch for ${JSON.stringify(value)}`);
}

/** The value, or a broken invariant where it is absent. */
export function present<T>(value: T | undefined | null, invariant: string): T {
  if (value === undefined || value === null) throw new Broken(invariant);
  return value;
}

/** True for a `Fault` with this code. */
export function isFault(error: unknown, code: string): boolean {
  return error instanceof Fault && error.detail.code === code;
}
