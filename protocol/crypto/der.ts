/**
 * DER (X.690), as much of it as certificates and certificate requests need.
 *
 * The reader walks one element at a time along a structure that its caller knows, so that nothing recurses and nothing is
 * skipped unseen. Lengths must be definite and in their shortest form; tags are single bytes.
 *
 * Neutral. Pure.
 */
import { view } from "../bytes.ts";
import { assert, Fault } from "../check.ts";

export type DerFault = { code: "DerMalformed" };

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The tag of a context-specific element: `constructed` for explicit tagging and for structures. */
export function contextTag(number: number, constructed: boolean): number {
  return 0x80 | (constructed ? 0x20 : 0) | number;
}

/** One element: tag, length, contents. */
export function element(tag: number, ...contents: Uint8Array[]): Buffer {
  const length = contents.reduce((sum, part) => sum + part.length, 0);
  const lengthBytes: number[] = [];
  for (let rest = length; rest > 0 && length > 0x7f; rest = Math.floor(rest / 256)) lengthBytes.unshift(rest % 256);
  const head = length > 0x7f ? [tag, 0x80 | lengthBytes.length, ...lengthBytes] : [tag, length];
  return Buffer.concat([Buffer.from(head), ...contents]);
}

export function sequence(...contents: Uint8Array[]): Buffer {
  return element(TAG.sequence, ...contents);
}

/** An INTEGER from unsigned big-endian bytes. */
export function unsignedInteger(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const shortest = bytes.subarray(start);
  // A set top bit would make the number negative.
  return element(TAG.integer, (shortest[0] ?? 0) > 0x7f ? Buffer.concat([Buffer.of(0), shortest]) : shortest);
}

export function objectId(dotted: string): Buffer {
  const arcs = dotted.split(".").map(Number);
  const [first, second, ...rest] = arcs;
  assert(
    first !== undefined && second !== undefined && arcs.every(Number.isSafeInteger),
    "an object id is numbers with dots",
  );
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const septets = [arc % 128];
    for (let more = Math.floor(arc / 128); more > 0; more = Math.floor(more / 128))
      septets.unshift((more % 128) | 0x80);
    bytes.push(...septets);
  }
  return element(TAG.oid, Buffer.from(bytes));
}

/** A BIT STRING whose last `unused` bits do not count. */
export function bitString(bytes: Uint8Array, unused = 0): Buffer {
  return element(TAG.bitString, Buffer.of(unused), bytes);
}

/** Reads the elements of one structure in their order. Contents are views. */
export class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = view(bytes);
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** True if the next element has this tag. */
  next(tag: number): boolean {
    return this.#bytes[this.#at] === tag;
  }

  /** The contents of the next element, which must have this tag. @throws Fault `DerMalformed` */
  contents(tag: number): Buffer {
    return this.#element(tag).contents;
  }

  /** The next element with its head. @throws Fault `DerMalformed` */
  whole(tag: number): Buffer {
    return this.#element(tag).whole;
  }

  /** A reader of the next element's contents. @throws Fault `DerMalformed` */
  inside(tag: number): DerReader {
    return new DerReader(this.contents(tag));
  }

  /** The next element, an object id, as numbers with dots. @throws Fault `DerMalformed` */
  objectId(): string {
    const bytes = this.contents(TAG.oid);
    const last = bytes.at(-1);
    if (last === undefined || last > 0x7f || bytes.length > 32) throw malformed("an object id does not end");
    const arcs: number[] = [];
    let arc = 0;
    for (const byte of bytes) {
      if (arc === 0 && byte === 0x80) throw malformed("an object id is not in its shortest form");
      if (arc > 2 ** 40) throw malformed("an object id has a number that is too large");
      arc = arc * 128 + (byte & 0x7f);
      if (byte > 0x7f) continue;
      arcs.push(arc);
      arc = 0;
    }
    const [head = 0, ...rest] = arcs;
    const first = Math.min(2, Math.floor(head / 40));
    return [first, head - first * 40, ...rest].join(".");
  }

  /** The bytes of the next element, a BIT STRING of whole bytes. @throws Fault `DerMalformed` */
  wholeBytes(): Buffer {
    const bytes = this.contents(TAG.bitString);
    if (bytes[0] !== 0) throw malformed("a bit string does not end at a byte");
    return bytes.subarray(1);
  }

  /** @throws Fault `DerMalformed` unless everything was read. */
  end(): void {
    if (!this.done) throw malformed("there is more in a structure than belongs there");
  }

  #element(tag: number): { contents: Buffer; whole: Buffer } {
    const start = this.#at;
    const bytes = this.#bytes;
    if (bytes[start] !== tag) throw malformed(`expected tag ${tag}, found ${bytes[start] ?? "the end"}`);
    let length = bytes[start + 1] ?? Number.NaN;
    let at = start + 2;
    if (length > 0x7f) {
      const size = length & 0x7f;
      if (size === 0 || size > 4 || at + size > bytes.length) throw malformed("a length is of unknown form");
      length = bytes.readUIntBE(at, size);
      at += size;
      if (length < 0x80 || length < 2 ** (8 * (size - 1))) throw malformed("a length is not in its shortest form");
    }
    // Not a number, too, ends here: the comparison is false for it.
    if (!(at + length <= bytes.length)) throw malformed("an element is cut off");
    this.#at = at + length;
    return { contents: bytes.subarray(at, this.#at), whole: bytes.subarray(start, this.#at) };
  }
}

export function malformed(why: string): Fault<DerFault> {
  return new Fault<DerFault>({ code: "DerMalformed" }, `not the DER that was expected: ${why}`);
}
