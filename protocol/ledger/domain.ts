/**
 * The maps of a ledger entry's domain, as bytes.
 *
 *   field         encoding                             (u64 little-endian; lp64(x) = u64 length ‖ x)
 *   ------------  ---------------------------------------------------------------
 *   map name      lp64(UTF-8)
 *   read version  u64, always 0
 *   read count    u64, always 0
 *   write count   u64
 *   writes        lp64(key) ‖ lp64(value), each
 *   remove count  u64
 *   removes       lp64(key), each
 *
 * Maps follow one another to the end of the domain. Layout as in CCF 7.0.2 `src/kv/raw_serialise.h`. Every reader must
 * see the same writes in the same bytes, so a map or key that is named twice is refused: CCF's own two readers differ on
 * which of the two counts.
 *
 * Neutral. Pure.
 */
import { fromUtf8, Reader } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import { isPublicMap, keyText, type WriteSet } from "./write-set.ts";

export type DomainFault =
  | { code: "MapInWrongDomain"; map: string }
  | { code: "MapRepeated"; map: string }
  | { code: "MapEmpty"; map: string }
  | { code: "MapHasReads"; map: string }
  | { code: "KeyRepeated"; map: string }
  | { code: "CountTooLarge"; map: string };

type Writes = ReadonlyMap<string, Uint8Array | undefined>;

const MAP_FIXED_BYTES = 5 * 8;

/** Bytes that `writeMap` needs. */
export function mapBytes(name: string, writes: Writes): number {
  let size = MAP_FIXED_BYTES + Buffer.byteLength(name, "utf8");
  for (const [key, value] of writes) size += value === undefined ? 8 + key.length : 16 + key.length + value.length;
  return size;
}

/** Writes one map at `offset` in the order of `writes`. @returns the offset after it. */
export function writeMap(target: Buffer, offset: number, name: string, writes: Writes): number {
  assert(writes.size > 0, "a map in a write set is written to");
  let removes = 0;
  for (const value of writes.values()) if (value === undefined) removes++;

  const nameBytes = target.write(name, offset + 8, "utf8");
  offset = putU64(target, offset, nameBytes) + nameBytes;
  offset = putU64(target, offset, 0);
  offset = putU64(target, offset, 0);
  offset = putU64(target, offset, writes.size - removes);
  for (const [key, value] of writes) {
    if (value === undefined) continue;
    offset = putKey(target, offset, key);
    offset = putU64(target, offset, value.length);
    target.set(value, offset);
    offset += value.length;
  }
  offset = putU64(target, offset, removes);
  if (removes > 0) for (const [key, value] of writes) if (value === undefined) offset = putKey(target, offset, key);
  return offset;
}

/** Writes a u64 at `offset`. @returns the offset after it. */
export function putU64(target: Buffer, offset: number, value: number): number {
  target.writeUInt32LE(value % 2 ** 32, offset);
  target.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
  return offset + 8;
}

/**
 * Adds every map of `domain` to `into`. Values are views into `domain`.
 * @throws Fault<DomainFault | BytesFault>
 */
export function readMaps(domain: Reader, side: "public" | "private", into: Map<string, Writes>): void {
  while (domain.remaining > 0) {
    const name = fromUtf8(domain.lp64());
    if (isPublicMap(name) !== (side === "public"))
      throw refused("MapInWrongDomain", name, `map ${name} may not lie in the ${side} domain`);
    if (into.has(name)) throw refused("MapRepeated", name, `map ${name} is there twice`);
    into.set(name, readMap(domain, name));
  }
}

/** The write set that the bytes of one domain hold. @throws Fault<DomainFault | BytesFault> */
export function decodeMaps(bytes: Uint8Array, side: "public" | "private"): WriteSet {
  const maps = new Map<string, Writes>();
  readMaps(new Reader(bytes), side, maps);
  return maps;
}

function readMap(domain: Reader, name: string): Writes {
  const readVersion = domain.u64();
  const reads = domain.u64();
  if (readVersion !== 0 || reads !== 0)
    throw refused("MapHasReads", name, `map ${name} holds reads; only writes are known`);

  const writes = new Map<string, Uint8Array | undefined>();
  const sets = boundedCount(domain, name, 16);
  for (let i = 0; i < sets; i++) {
    const key = readKey(domain, name, writes);
    writes.set(key, domain.lp64());
  }
  const removes = boundedCount(domain, name, 8);
  for (let i = 0; i < removes; i++) writes.set(readKey(domain, name, writes), undefined);
  if (writes.size === 0) throw refused("MapEmpty", name, `map ${name} is named but not written to`);
  return writes;
}

function readKey(domain: Reader, name: string, seen: Writes): string {
  const key = keyText(domain.lp64());
  if (seen.has(key)) throw refused("KeyRepeated", name, `a key of map ${name} is there twice`);
  return key;
}

/** A count that the bytes left can hold, so that a lie about it ends here and not after a long loop. */
function boundedCount(domain: Reader, name: string, bytesEach: number): number {
  const count = domain.u64();
  if (count > domain.remaining / bytesEach)
    throw refused("CountTooLarge", name, `map ${name} claims ${count} entries, more than the bytes left can hold`);
  return count;
}

function putKey(target: Buffer, offset: number, key: string): number {
  offset = putU64(target, offset, key.length);
  return offset + target.write(key, offset, key.length, "latin1");
}

function refused(code: DomainFault["code"], map: string, message: string): Fault<DomainFault> {
  return new Fault<DomainFault>({ code, map }, message);
}
