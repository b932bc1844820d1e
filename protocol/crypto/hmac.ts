/**
 * HMAC-SHA256 under a key that is used for every transaction.
 *
 * The two padded key blocks are kept, so that a message costs two one-shot digests: a third of the time of `createHmac`,
 * which prepares the key anew each time (RFC 2104).
 *
 * Neutral. Pure.
 */
import { hash } from "node:crypto";
import { assert } from "../check.ts";
import { DIGEST_BYTES, sha256Into } from "./hash.ts";

const BLOCK_BYTES = 64;

export class Hmac {
  /** Inner pad, then room for the message. */
  readonly #inner: Buffer;
  /** Outer pad, then room for the inner digest. */
  readonly #outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES);

  /** @param key at most 64 bytes. @param messageBytesMax of the longest message. */
  constructor(key: Uint8Array, messageBytesMax: number) {
    assert(key.length <= BLOCK_BYTES, "an HMAC key fits a block");
    this.#inner = Buffer.alloc(BLOCK_BYTES + messageBytesMax);
    for (let at = 0; at < BLOCK_BYTES; at++) {
      const byte = key[at] ?? 0;
      this.#inner[at] = byte ^ 0x36;
      this.#outer[at] = byte ^ 0x5c;
    }
  }

  /** Lower-case hex HMAC of an ASCII message. */
  hex(message: string): string {
    assert(BLOCK_BYTES + message.length <= this.#inner.length, "an HMAC message fits the room made for it");
    const end = BLOCK_BYTES + this.#inner.write(message, BLOCK_BYTES, "latin1");
    sha256Into(this.#outer, BLOCK_BYTES, this.#inner.subarray(0, end));
    return hash("sha256", this.#outer, "hex");
  }
}
