/**
 * Chunk files: a range of ledger entries as CCF keeps them on disk.
 *
 *   offset  size  field
 *   ------  ----  ---------------------------------------------------------------------------------
 *   0       8     offset of the positions table, little-endian; 0 while the chunk is open
 *   8       ...   entries, back to back
 *   table   4     for each entry, the offset of its first byte, little-endian; to the end of the file
 *
 * A chunk ends after an entry with the flag `closeAfter` (always a signature transaction) or before one with
 * `closeBefore`, so the chunks of a ledger are the same on every node. Names say which entries lie inside:
 * `ledger_<first>-<last>.committed` for a closed and committed chunk, `ledger_<first>` for an open one. (CCF 7.0.2
 * `src/host/ledger.h`, `src/host/ledger_filenames.h`.)
 *
 * Neutral. Pure.
 */
import { view } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import type { Seqno } from "../ids.ts";
import { decodeHeader, ENTRY_FLAGS, ENTRY_HEADER_BYTES } from "./entry.ts";

export type ChunkFault =
  | { code: "ChunkTruncated"; have: number }
  | { code: "ChunkTableWrong"; why: string }
  | { code: "ChunkTooLarge"; sizeBytes: number }
  | { code: "ChunkNameUnknown"; name: string };

/** Positions are 32 bits. */
export const CHUNK_BYTES_MAX = 2 ** 32 - 1;

export type Chunk = Readonly<{
  /** False while the chunk is open, without a positions table. */
  complete: boolean;
  entries: readonly Buffer[];
  /** Bytes of an entry that was being written when the node stopped, at the end of an open chunk. */
  partialBytes: number;
}>;

export type ChunkName = Readonly<{
  first: Seqno;
  /** Undefined in the name of an open chunk. */
  last: Seqno | undefined;
  committed: boolean;
  /** Written during a recovery that is not finished. */
  recovery: boolean;
}>;

export type FinishedChunk = Readonly<{ name: string; first: Seqno; last: Seqno; bytes: Buffer }>;

const HEAD_BYTES = 8;
const POSITION_BYTES = 4;
const NAME = /^ledger_([1-9]\d{0,15})(?:-([1-9]\d{0,15}))?(\.committed)?(\.recovery)?$/;

/**
 * Reads a chunk file; entries are views into `bytes` and are not opened.
 * @throws Fault<ChunkFault | EntryFault>
 */
export function parseChunk(bytes: Uint8Array): Chunk {
  const file = view(bytes);
  if (file.length < HEAD_BYTES)
    throw new Fault<ChunkFault>(
      { code: "ChunkTruncated", have: file.length },
      `a chunk file begins with ${HEAD_BYTES} bytes that say where its table is; this one has ${file.length} bytes`,
    );
  if (file.length > CHUNK_BYTES_MAX) throw tooLarge(file.length);
  const table = file.readBigUInt64LE(0);
  return table === 0n ? scanOpen(file) : readComplete(file, table);
}

/** The bytes of a chunk file. @throws Fault `ChunkTooLarge` */
export function buildChunk(entries: readonly Uint8Array[], complete = true): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  const table = Buffer.alloc(complete ? entries.length * POSITION_BYTES : 0);
  let position = HEAD_BYTES;
  for (const [i, entry] of entries.entries()) {
    if (complete) table.writeUInt32LE(position, i * POSITION_BYTES);
    position += entry.length;
    if (position + table.length > CHUNK_BYTES_MAX) throw tooLarge(position);
  }
  if (complete) head.writeUInt32LE(position, 0);
  return Buffer.concat([head, ...entries, table]);
}

/** The name of a chunk file. */
export function chunkFileName(name: ChunkName): string {
  const { first, last, committed, recovery } = name;
  return `ledger_${first}${last === undefined ? "" : `-${last}`}${committed ? ".committed" : ""}${recovery ? ".recovery" : ""}`;
}

/** @throws Fault `ChunkNameUnknown`, also for files that CCF has set aside (`.ignored`) */
export function parseChunkFileName(name: string): ChunkName {
  const match = NAME.exec(name);
  const [first, last] = [Number(match?.[1]), match?.[2] === undefined ? undefined : Number(match[2])];
  const committed = match?.[3] !== undefined;
  if (
    match === null ||
    !Number.isSafeInteger(first) ||
    (last !== undefined && last < first) ||
    (committed && last === undefined)
  )
    throw new Fault<ChunkFault>(
      { code: "ChunkNameUnknown", name: name.slice(0, 128) },
      `${JSON.stringify(name.slice(0, 128))} is not the name of a ledger chunk, like ledger_1-14.committed or ledger_15`,
    );
  return { first, last, committed, recovery: match[4] !== undefined };
}

/** Cuts a ledger into chunk files, entry by entry. */
export class ChunkSplitter {
  #first: Seqno;
  #entries: Uint8Array[] = [];

  /** @param first seqno of the first entry that will be added. */
  constructor(first: Seqno = 1) {
    this.#first = first;
  }

  /** Takes the next entry. @returns the chunks that are finished now: none, one, or two. @throws Fault<EntryFault | ChunkFault> */
  add(entry: Uint8Array): FinishedChunk[] {
    const { flags } = decodeHeader(entry);
    const finished: FinishedChunk[] = [];
    if ((flags & ENTRY_FLAGS.closeBefore) !== 0 && this.#entries.length > 0) finished.push(this.#close(true));
    this.#entries.push(entry);
    if ((flags & ENTRY_FLAGS.closeAfter) !== 0) finished.push(this.#close(true));
    return finished;
  }

  /**
   * What is left at the end.
   * @param how "open" as a node keeps it, or "committed" when the caller knows that the last entry is committed and wants
   *   readers of committed files to see it.
   */
  finish(how: "open" | "committed"): FinishedChunk | undefined {
    return this.#entries.length === 0 ? undefined : this.#close(how === "committed");
  }

  #close(committed: boolean): FinishedChunk {
    const [first, entries] = [this.#first, this.#entries];
    assert(entries.length > 0, "a chunk has an entry");
    const last = first + entries.length - 1;
    this.#first = last + 1;
    this.#entries = [];
    const name = chunkFileName({ first, last: committed ? last : undefined, committed, recovery: false });
    return { name, first, last, bytes: buildChunk(entries, committed) };
  }
}

function scanOpen(file: Buffer): Chunk {
  const entries: Buffer[] = [];
  let at = HEAD_BYTES;
  while (file.length - at >= ENTRY_HEADER_BYTES) {
    const { sizeBytes } = decodeHeader(file.subarray(at));
    if (sizeBytes > file.length - at) break;
    entries.push(file.subarray(at, at + sizeBytes));
    at += sizeBytes;
  }
  return { complete: false, entries, partialBytes: file.length - at };
}

function readComplete(file: Buffer, table: bigint): Chunk {
  if (table < HEAD_BYTES || table >= file.length) throw tableWrong(`it would begin at ${table}, outside the file`);
  const end = Number(table);
  if ((file.length - end) % POSITION_BYTES !== 0) throw tableWrong("its last position is cut off");
  const entries: Buffer[] = [];
  let at = HEAD_BYTES;
  for (let row = end; row < file.length; row += POSITION_BYTES) {
    const position = file.readUInt32LE(row);
    if (position !== at) throw tableWrong(`it says ${position} where an entry begins at ${at}`);
    const { sizeBytes } = decodeHeader(file.subarray(at, end));
    if (sizeBytes > end - at) throw tableWrong(`the entry at ${at} reaches beyond it`);
    entries.push(file.subarray(at, at + sizeBytes));
    at += sizeBytes;
  }
  if (at !== end) throw tableWrong(`there are bytes between the last entry and it, from ${at} to ${end}`);
  return { complete: true, entries, partialBytes: 0 };
}

function tableWrong(why: string): Fault<ChunkFault> {
  return new Fault<ChunkFault>(
    { code: "ChunkTableWrong", why },
    `the positions table of a chunk file is wrong: ${why}`,
  );
}

function tooLarge(sizeBytes: number): Fault<ChunkFault> {
  return new Fault<ChunkFault>(
    { code: "ChunkTooLarge", sizeBytes },
    `a chunk file of ${sizeBytes} bytes is larger than its 32-bit positions can say`,
  );
}
