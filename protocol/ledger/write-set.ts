/**
 * What a transaction writes: for each map, for each key, the new value or `undefined` for a removal.
 *
 * Keys are spelled as latin1 strings, one character a byte, so that they can be keys of a `Map` and sort in byte order.
 *
 * Neutral. Pure.
 */
import { view } from "../bytes.ts";

export type WriteSet = ReadonlyMap<string, ReadonlyMap<string, Uint8Array | undefined>>;

/** Spells a key's bytes as a map key. */
export function keyText(key: Uint8Array): string {
  return view(key).toString("latin1");
}

export function keyBytes(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

/** True for maps whose writes are in clear in the ledger. */
export function isPublicMap(name: string): boolean {
  return name.startsWith("public:");
}
