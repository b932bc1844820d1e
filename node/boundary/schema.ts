/**
 * How a message of the boundary is declared: a name, and for each field a typebox schema with its bounds.
 *
 * Neutral. Pure.
 */
import { type Static, type TSchema, Type } from "typebox";

/** `kind` is taken: it names the message. */
export type Fields = Readonly<Record<string, TSchema>> & Readonly<{ kind?: never }>;
export type Direction = Readonly<Record<string, Fields>>;

/** The union of all messages of a direction, each with its `kind`. */
export type MessageOf<D extends Direction> = {
  [K in keyof D & string]: Readonly<{ kind: K } & { [F in keyof D[K]]: Static<D[K][F]> }>;
}[keyof D & string];

/** Declares one direction; keeps the literal types for `MessageOf`. */
export function direction<const D extends Direction>(messages: D): D {
  return messages;
}

/** A whole number from 0 to 2^53 - 1. */
export function count() {
  return Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
}

/** Text of at most `max` code points. */
export function text(max: number) {
  return Type.String({ maxLength: max });
}

/** Bytes, at most `max`. */
export function bytes(max: number) {
  return Type.Refine(Type.Unsafe<Uint8Array>({}), (value) => value instanceof Uint8Array && value.length <= max);
}

/** At most `max` items. */
export function list<S extends TSchema>(item: S, max: number) {
  return Type.Array(item, { maxItems: max });
}

const NAME_MAX = 64;

/** At most `max` whole numbers by name. */
export function numbers(max: number) {
  return Type.Refine(Type.Unsafe<Readonly<Record<string, number>>>({}), (value) => {
    // A Record schema would let arrays and long keys pass: typebox checks only what JSON Schema can say.
    if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return false;
    const rows = Object.entries(value);
    return (
      rows.length <= max && rows.every(([name, n]) => name.length <= NAME_MAX && Number.isSafeInteger(n) && n >= 0)
    );
  });
}
