/**
 * CBOR (RFC 8949), as much of it as COSE and receipts need: integers, byte and text strings, arrays, maps with integer
 * or text keys, tags, booleans, null.
 *
 * A signed thing must have one meaning and one spelling. The encoder writes definite lengths and shortest heads; the
 * decoder accepts nothing else, and no repeated keys, no floats, no other simple values. Some signers could write longer
 * heads than needed and would still be legal CBOR; none that CCF's tools produce do, and accepting them would let the same
 * header have several byte forms, so they are refused. Map entries keep their order: it is part of what was signed.
 *
 * Neutral. Pure.
 */
import { fromUtf8, utf8, view } from "../bytes.ts";
import { assert, Fault } from "../check.ts";

export type CborKey = number | string;
export type CborMap = ReadonlyMap<CborKey, Cbor>;
/** Integers are safe integers; larger ones are refused. */
export type Cbor = number | string | boolean | null | Uint8Array | readonly Cbor[] | CborMap | Tagged;

export type CborFault =
  | { code: "CborTruncated" }
  | { code: "CborTrailing" }
  | { code: "CborTooDeep" }
  | { code: "CborTooLarge" }
  | { code: "CborNotDeterministic" }
  | { code: "CborKeyRepeated" }
  | { code: "CborUnsupported" };

/** Nesting of arrays, maps and tags. */
export const CBOR_DEPTH_MAX = 16;
/** The longest input that is looked at: a governance request with a whole app bundle is below. */
export const CBOR_BYTES_MAX = 32 * 1024 * 1024;
/** Elements of an array, pairs of a map. */
const COUNT_MAX = 65_536;

const MAJOR = { unsigned: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, tag: 6, simple: 7 } as const;
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

/** A value under a tag number. */
export class Tagged {
  readonly tag: number;
  readonly value: Cbor;

  constructor(tag: number, value: Cbor) {
    this.tag = tag;
    this.value = value;
  }
}

/** Encodes a value; map entries in the order of the map. */
export function encodeCbor(value: Cbor): Buffer {
  const parts: Uint8Array[] = [];
  write(value, parts, 0);
  return Buffer.concat(parts);
}

/**
 * Decodes exactly one value. Byte strings are views into `bytes`.
 * @throws Fault<CborFault | BytesFault>
 */
export function decodeCbor(bytes: Uint8Array): Cbor {
  if (bytes.length > CBOR_BYTES_MAX) throw refused("CborTooLarge", `CBOR of more than ${CBOR_BYTES_MAX} bytes`);
  const input = { bytes: view(bytes), at: 0 };
  const value = read(input, 0);
  if (input.at < input.bytes.length) throw refused("CborTrailing", "bytes after the end of a CBOR value");
  return value;
}

/** True for a CBOR map, which no other value here is. */
export function isMap(value: Cbor | undefined): value is CborMap {
  return value instanceof Map;
}

export function isBytes(value: Cbor | undefined): value is Uint8Array {
  return value instanceof Uint8Array;
}

export function isArray(value: Cbor | undefined): value is readonly Cbor[] {
  return Array.isArray(value);
}

function write(value: Cbor, parts: Uint8Array[], depth: number): void {
  assert(depth <= CBOR_DEPTH_MAX, "what is encoded is not nested deeper than what is decoded");
  if (typeof value === "number") {
    assert(Number.isSafeInteger(value), "a CBOR number is a safe integer");
    parts.push(value < 0 ? head(MAJOR.negative, -1 - value) : head(MAJOR.unsigned, value));
  } else if (typeof value === "string") {
    const text = utf8(value);
    parts.push(head(MAJOR.text, text.length), text);
  } else if (typeof value === "boolean") parts.push(Buffer.of(value ? TRUE : FALSE));
  else if (value === null) parts.push(Buffer.of(NULL));
  else if (isBytes(value)) parts.push(head(MAJOR.bytes, value.length), value);
  else if (isArray(value)) {
    parts.push(head(MAJOR.array, value.length));
    for (const element of value) write(element, parts, depth + 1);
  } else if (isMap(value)) {
    parts.push(head(MAJOR.map, value.size));
    for (const [key, inner] of value) {
      write(key, parts, depth + 1);
      write(inner, parts, depth + 1);
    }
  } else if (value instanceof Tagged) {
    parts.push(head(MAJOR.tag, value.tag));
    write(value.value, parts, depth + 1);
  } else assert(false, "every CBOR value has an encoding");
}

function head(major: number, argument: number): Buffer {
  const first = major << 5;
  if (argument < 24) return Buffer.of(first | argument);
  if (argument < 2 ** 8) return Buffer.of(first | 24, argument);
  if (argument < 2 ** 16) return Buffer.of(first | 25, argument >> 8, argument & 0xff);
  const wide = argument < 2 ** 32;
  const bytes = Buffer.alloc(wide ? 5 : 9, first | (wide ? 26 : 27));
  if (wide) bytes.writeUInt32BE(argument, 1);
  else bytes.writeBigUInt64BE(BigInt(argument), 1);
  return bytes;
}

type Input = { readonly bytes: Buffer; at: number };

function read(input: Input, depth: number): Cbor {
  if (depth > CBOR_DEPTH_MAX) throw refused("CborTooDeep", `CBOR nested deeper than ${CBOR_DEPTH_MAX}`);
  const first = take(input, 1).readUInt8(0);
  const major = first >> 5;
  if (major === MAJOR.simple) return readSimple(first);
  const argument = readArgument(input, first & 0x1f);
  switch (major) {
    case MAJOR.unsigned:
      return argument;
    case MAJOR.negative:
      if (argument === Number.MAX_SAFE_INTEGER) throw refused("CborUnsupported", "an integer beyond 2^53");
      return -1 - argument;
    case MAJOR.bytes:
      return take(input, argument);
    case MAJOR.text:
      return fromUtf8(take(input, argument));
    case MAJOR.array:
      return readArray(input, argument, depth);
    case MAJOR.map:
      return readMap(input, argument, depth);
    default:
      return new Tagged(argument, read(input, depth + 1));
  }
}

function readSimple(first: number): boolean | null {
  if (first === FALSE) return false;
  if (first === TRUE) return true;
  if (first === NULL) return null;
  throw refused("CborUnsupported", `CBOR simple value or float (first byte 0x${first.toString(16)})`);
}

function readArgument(input: Input, info: number): number {
  if (info < 24) return info;
  if (info === 31) throw refused("CborNotDeterministic", "a CBOR value of indefinite length");
  if (info > 27) throw refused("CborUnsupported", "a reserved CBOR head");
  const size = 1 << (info - 24);
  const bytes = take(input, size);
  const high = size === 8 ? bytes.readUInt32BE(0) : 0;
  if (high > 0x1fffff) throw refused("CborUnsupported", "a CBOR number beyond 2^53");
  const argument = size === 8 ? high * 2 ** 32 + bytes.readUInt32BE(4) : bytes.readUIntBE(0, size);
  const least = size === 1 ? 24 : 2 ** (size * 4);
  if (argument < least) throw refused("CborNotDeterministic", "a CBOR number that is not in its shortest form");
  return argument;
}

function readArray(input: Input, length: number, depth: number): Cbor[] {
  bounded(input, length, 1);
  const elements: Cbor[] = [];
  for (let i = 0; i < length; i++) elements.push(read(input, depth + 1));
  return elements;
}

function readMap(input: Input, size: number, depth: number): CborMap {
  bounded(input, size, 2);
  const map = new Map<CborKey, Cbor>();
  for (let i = 0; i < size; i++) {
    const key = read(input, depth + 1);
    if (typeof key !== "number" && typeof key !== "string")
      throw refused("CborUnsupported", "a CBOR map key that is neither integer nor text");
    if (map.has(key)) throw refused("CborKeyRepeated", `a CBOR map has the key ${JSON.stringify(key)} twice`);
    map.set(key, read(input, depth + 1));
  }
  return map;
}

/** Refuses a count that the bytes left cannot hold before anything is made for it. */
function bounded(input: Input, count: number, bytesEach: number): void {
  if (count * bytesEach > input.bytes.length - input.at) throw refused("CborTruncated", "CBOR ends too early");
  if (count > COUNT_MAX) throw refused("CborTooLarge", `a CBOR array or map of more than ${COUNT_MAX} elements`);
}

function take(input: Input, length: number): Buffer {
  const start = input.at;
  if (length > input.bytes.length - start) throw refused("CborTruncated", "CBOR ends too early");
  input.at += length;
  return input.bytes.subarray(start, input.at);
}

function refused(code: CborFault["code"], message: string): Fault<CborFault> {
  return new Fault<CborFault>({ code }, message);
}
