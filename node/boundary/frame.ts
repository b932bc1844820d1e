/**
 * Which msgpack may be decoded at all.
 *
 * msgpackr reads far more than the boundary says: extensions that build classes and cycles, records for which it
 * compiles code, nesting until the stack ends. Its error texts quote what it decoded. So a frame is walked first, and
 * only one complete value made of plain things (null, booleans, numbers, text, bytes, arrays, maps with text keys) gets
 * as far as the decoder. The walk allocates nothing and skips the content of text and bytes.
 *
 * Neutral. Pure.
 */

/** Nesting of the deepest message: the frame's array, a field that is a list or a map, its items; one to spare. */
const DEPTH_MAX = 4;
const REFUSED = -1;

/** True when `bytes` from `start` to `end` is exactly one plain MessagePack value. */
export function isPlainFrame(bytes: Buffer, start: number, end: number): boolean {
  return walk(bytes, start, end, DEPTH_MAX) === end;
}

/** The offset behind the value at `at`, or `REFUSED`. */
function walk(bytes: Buffer, at: number, end: number, depth: number): number {
  if (at >= end) return REFUSED;
  const token = bytes[at]!;
  at += 1;

  if (token <= 0x7f || token >= 0xe0) return at; // small integers
  if (token <= 0x8f) return walkItems(bytes, at, end, depth, token & 0x0f, true);
  if (token <= 0x9f) return walkItems(bytes, at, end, depth, token & 0x0f, false);
  if (token <= 0xbf) return skip(at, end, token & 0x1f);

  switch (token) {
    case 0xc0: // null
    case 0xc2: // false
    case 0xc3: // true
      return at;
    case 0xc4: // bytes
    case 0xd9: // text
      return at + 1 > end ? REFUSED : skip(at + 1, end, bytes[at]!);
    case 0xc5:
    case 0xda:
      return at + 2 > end ? REFUSED : skip(at + 2, end, bytes.readUInt16BE(at));
    case 0xc6:
    case 0xdb:
      return at + 4 > end ? REFUSED : skip(at + 4, end, bytes.readUInt32BE(at));
    case 0xcc: // u8, i8
    case 0xd0:
      return skip(at, end, 1);
    case 0xcd: // u16, i16
    case 0xd1:
      return skip(at, end, 2);
    case 0xca: // f32, u32, i32
    case 0xce:
    case 0xd2:
      return skip(at, end, 4);
    case 0xcb: // f64: integers beyond 32 bits travel so, exactly up to 2^53
      return skip(at, end, 8);
    case 0xdc:
      return at + 2 > end ? REFUSED : walkItems(bytes, at + 2, end, depth, bytes.readUInt16BE(at), false);
    case 0xdd:
      return at + 4 > end ? REFUSED : walkItems(bytes, at + 4, end, depth, bytes.readUInt32BE(at), false);
    case 0xde:
      return at + 2 > end ? REFUSED : walkItems(bytes, at + 2, end, depth, bytes.readUInt16BE(at), true);
    case 0xdf:
      return at + 4 > end ? REFUSED : walkItems(bytes, at + 4, end, depth, bytes.readUInt32BE(at), true);
    default: // extensions, 64-bit integers (which would decode to bigint), the unused code
      return REFUSED;
  }
}

function walkItems(bytes: Buffer, at: number, end: number, depth: number, items: number, pairs: boolean): number {
  if (depth === 0) return REFUSED;
  for (let i = 0; i < items && at !== REFUSED; i++) {
    if (pairs) {
      if (at >= end || !isText(bytes[at]!)) return REFUSED;
      at = walk(bytes, at, end, depth - 1);
      if (at === REFUSED) return REFUSED;
    }
    at = walk(bytes, at, end, depth - 1);
  }
  return at;
}

function isText(token: number): boolean {
  return (token >= 0xa0 && token <= 0xbf) || (token >= 0xd9 && token <= 0xdb);
}

function skip(at: number, end: number, length: number): number {
  return at + length > end ? REFUSED : at + length;
}
