/**
 * Bytes and their spellings: hex, base64, UTF-8, and a bounded little-endian reader and writer.
 *
 * Everything decoded here may come from an enemy, so each decoder accepts exactly one spelling of a value and refuses
 * the rest with a `BytesFault`.
 *
 * Neutral. Pure.
 */
import { Fault } from "./check.ts";

export type BytesFault =
  | { code: "NotHex"; length: number }
  | { code: "NotBase64"; length: number }
  | { code: "NotUtf8" }
  | { code: "BytesTruncated"; need: number; have: number }
  | { code: "BytesTrailing"; extra: number }
  | { code: "NumberTooLarge" };

const HEX = /^(?:[0-9a-f]{2})*$/;
/** The last digit before padding has bits that say nothing; they must be zero, or two spellings would mean one value. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$/;

/** Lower-case hex. */
export function toHex(bytes: Uint8Array): string {
  return view(bytes).toString("hex");
}

/** Decodes lower-case hex. @throws Fault `NotHex` */
export function fromHex(text: string): Buffer {
  if (!HEX.test(text)) throw new Fault<BytesFault>({ code: "NotHex", length: text.length }, "expected lower-case hex");
  return Buffer.from(text, "hex");
}

/** Standard base64 with padding. */
export function toBase64(bytes: Uint8Array): string {
  return view(bytes).toString("base64");
}

/** Decodes standard base64 with padding. @throws Fault `NotBase64` */
export function fromBase64(text: string): Buffer {
  if (!BASE64.test(text)) throw new Fault<BytesFault>({ code: "NotBase64", length: text.length }, "expected base64");
  return Buffer.from(text, "base64");
}

export function utf8(text: string): Buffer {
  return Buffer.from(text, "utf8");
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes UTF-8. @throws Fault `NotUtf8` */
export function fromUtf8(bytes: Uint8Array): string {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    throw new Fault<BytesFault>({ code: "NotUtf8" }, "expected UTF-8 text");
  }
}

/** The same memory as a Buffer; nothing is copied. */
export function view(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function concat(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

/** Equality of public values. Secrets are compared with `timingSafeEqual`. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return view(a).equals(b);
}

/** Eight zero bytes: the key of CCF's singleton tables and the value of its sets. */
export const ZERO_KEY: Uint8Array = new Uint8Array(8);

/** Reads little-endian values from a byte string and never beyond its end. */
export class Reader {
  readonly bytes: Buffer;
  offset = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = view(bytes);
  }

  get remaining(): number {
    return this.bytes.length - this.offset;
  }

  /** The next `length` bytes, not copied. @throws Fault `BytesTruncated` */
  take(length: number): Buffer {
    this.#need(length);
    const start = this.offset;
    this.offset += length;
    return this.bytes.subarray(start, this.offset);
  }

  u8(): number {
    this.#need(1);
    return this.bytes.readUInt8(this.offset++);
  }

  u32(): number {
    this.#need(4);
    const value = this.bytes.readUInt32LE(this.offset);
    this.offset += 4;
    return value;
  }

  /** A u64 that must be a safe integer, as every seqno, view and length here is. @throws Fault `NumberTooLarge` */
  u64(): number {
    this.#need(8);
    const low = this.bytes.readUInt32LE(this.offset);
    const high = this.bytes.readUInt32LE(this.offset + 4);
    if (high > 0x1fffff) throw new Fault<BytesFault>({ code: "NumberTooLarge" }, "number beyond 2^53");
    this.offset += 8;
    return high * 2 ** 32 + low;
  }

  /** `u64 length ‖ bytes`, CCF's length-prefixed bytes. */
  lp64(): Buffer {
    return this.take(this.u64());
  }

  /** @throws Fault `BytesTrailing` unless everything was read. */
  end(): void {
    if (this.remaining > 0)
      throw new Fault<BytesFault>({ code: "BytesTrailing", extra: this.remaining }, "bytes left over at the end");
  }

  #need(length: number): void {
    if (length > this.remaining)
      throw new Fault<BytesFault>(
        { code: "BytesTruncated", need: length, have: this.remaining },
        "bytes end too early",
      );
  }
}

/** Builds a byte string of little-endian values. */
export class Writer {
  #buffer: Buffer;
  #length = 0;

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(capacity);
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    this.#grow(1);
    this.#buffer.writeUInt8(value, this.#length);
    this.#length += 1;
    return this;
  }

  u32(value: number): this {
    this.#grow(4);
    this.#buffer.writeUInt32LE(value, this.#length);
    this.#length += 4;
    return this;
  }

  u64(value: number): this {
    this.#grow(8);
    this.#buffer.writeUInt32LE(value % 2 ** 32, this.#length);
    this.#buffer.writeUInt32LE(Math.floor(value / 2 ** 32), this.#length + 4);
    this.#length += 8;
    return this;
  }

  put(bytes: Uint8Array): this {
    this.#grow(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  lp64(bytes: Uint8Array): this {
    return this.u64(bytes.length).put(bytes);
  }

  /** What was written so far. The writer must not be used afterwards. */
  done(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #grow(more: number): void {
    const need = this.#length + more;
    if (need <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(need, this.#buffer.length * 2));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}
