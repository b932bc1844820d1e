/**
 * How a message of the boundary is declared: a name, and for each field a typebox schema with its bounds.
 *
 * Neutral. Pure.
 */
import { type Static, type TSchema, Type } from "typebox";

export type Fields = Readonly<Record<string, TSchema>>;
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

/** Text of at most `max` UTF-16 units. */
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

/** At most `max` whole numbers by name. */
export function numbers(max: number) {
  return Type.Record(Type.String({ maxLength: 64 }), count(), { maxProperties: max });
}
