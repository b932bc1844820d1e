/**
 * SHA-256, in the three shapes that are needed.
 *
 * OpenSSL gives the digest as a latin1 string, which Node hands over several times faster than a Buffer: on the path
 * of every transaction, four such digests are made.
 *
 * Neutral. Pure.
 */
import { hash } from "node:crypto";

export const DIGEST_BYTES = 32;

export function sha256(bytes: Uint8Array): Buffer {
  return Buffer.from(hash("sha256", bytes, "latin1"), "latin1");
}

/** Lower-case hex. */
export function sha256Hex(bytes: Uint8Array): string {
  return hash("sha256", bytes, "hex");
}

/** Writes the digest of `bytes` at `offset` of `target`. The two may overlap: the digest is made before it is written. */
export function sha256Into(target: Buffer, offset: number, bytes: Uint8Array): void {
  target.write(hash("sha256", bytes, "latin1"), offset, DIGEST_BYTES, "latin1");
}
