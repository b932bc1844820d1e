/**
 * The host's ledger: entries in order, durable when it says so.
 *
 * Operations take effect in the order they are given. While a write is being synced, whatever arrives is collected and
 * becomes the next write (group commit): under load one fsync carries hundreds of entries, idle one costs a single
 * fsync. Only after the fsync is an operation reported durable; if a write fails, nothing is reported ever again and the
 * node stops, because the enclave counts on that word for what it calls committed.
 *
 * In level, all under binary keys:
 *   "e" ‖ u64 BE seqno   entries back to back, from that seqno to before the next key (an entry names its own size)
 *   "c"                  u64 BE seqno up to which the ledger is committed, written with the next batch
 *   "f"                  the format's name
 *
 * The host cannot read what it stores. It checks sizes and positions only so that it notices its own disk's damage.
 *
 * Untrusted.
 */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { Fault } from "../../protocol/check.ts";
import type { Seqno } from "../../protocol/ids.ts";
import { decodeHeader, splitEntries } from "../../protocol/ledger/entry.ts";
import { damageInLog } from "./level-log.ts";

export type LedgerStoreFault =
  | { code: "LedgerLocked"; directory: string }
  | { code: "LedgerMissing"; directory: string }
  | { code: "LedgerFormatUnknown"; directory: string }
  | { code: "LedgerWriteFailed" }
  | { code: "LedgerDamaged"; seqno: Seqno }
  | { code: "LedgerGap"; seqno: Seqno }
  | { code: "LedgerCommitted"; seqno: Seqno };

export type LedgerStoreParts = Readonly<{
  /** Every operation up to this one is on the disk. */
  onDurable(op: number): void;
  /** The store can go on no more. Called once. */
  onFault(fault: Fault<LedgerStoreFault>): void;
}>;

export interface LedgerStore {
  /** Seqno of the newest entry given, durable or not; 0 for an empty ledger. */
  last(): Seqno;
  /** Adds entries `first`, `first` + 1, …; `first` must be `last() + 1`. */
  append(op: number, first: Seqno, entries: readonly Uint8Array[]): void;
  /** Removes every entry after `after`, which must not be committed. */
  truncate(op: number, after: Seqno): void;
  /** Everything up to `seqno` is final. */
  commit(seqno: Seqno): void;
  /**
   * Entries from `first` to at most `last`, at least one if `first` exists, at most `READ_BYTES_MAX` and
   * `READ_ENTRIES_MAX` of them beyond the first. What was given before is seen. @throws Fault<LedgerStoreFault>
   */
  read(first: Seqno, last: Seqno): Promise<Uint8Array[]>;
  /** Writes what waits and closes. */
  close(): Promise<void>;
}

export const READ_BYTES_MAX = 1024 * 1024;
export const READ_ENTRIES_MAX = 4096;

/** A stored value is closed at this size; smaller ones are cheaper to cut, larger ones cheaper to write. */
const BLOB_BYTES_MAX = 512 * 1024;
const FORMAT = "camerata-ledger-1";
const ENTRY_PREFIX = 0x65;
const KEY_COMMIT = Buffer.from("c");
const KEY_FORMAT = Buffer.from("f");

type Database = Level<Buffer, Buffer>;
type BatchOp = { type: "put"; key: Buffer; value: Buffer } | { type: "del"; key: Buffer };
type Snapshot = ReturnType<Database["snapshot"]>;
type Operation =
  | { kind: "append"; op: number; first: Seqno; entries: readonly Uint8Array[] }
  | { kind: "truncate"; op: number; after: Seqno };

/** Opens or makes the store in a directory. @throws Fault<LedgerStoreFault> */
export async function openLedgerStore(directory: string, parts: LedgerStoreParts): Promise<LedgerStore> {
  const database = await openDatabase(directory, true);
  const store = new LevelLedgerStore(database, parts);
  await store.start();
  return store;
}

/**
 * The entries of a stopped node's store, in order from the first. A store whose newest files are damaged is not opened,
 * because level would cut it there and remove what is behind: it stays as it is, as evidence.
 * @throws Fault<LedgerStoreFault>
 */
export async function* readStoredLedger(directory: string): AsyncGenerator<Uint8Array> {
  const damage = damagedFile(directory);
  if (damage !== undefined) throw await locate(directory, damage);
  yield* storedEntries(directory);
}

async function* storedEntries(directory: string): AsyncGenerator<Uint8Array> {
  const database = await openDatabase(directory, false);
  try {
    let expected = 1;
    for await (const [key, value] of database.iterator({ ...ENTRY_RANGE })) {
      const first = seqnoOf(key);
      if (first !== expected) throw damaged(expected, `entries from ${expected} to ${first - 1} are missing`);
      const entries = split(first, value);
      yield* entries;
      expected = first + entries.length;
    }
  } finally {
    await database.close();
  }
}

/** Over an open database, so that a test can hand in one whose disk fails. */
export class LevelLedgerStore implements LedgerStore {
  readonly #database: Database;
  readonly #parts: LedgerStoreParts;
  #last: Seqno = 0;
  #committed: Seqno = 0;
  #committedStored: Seqno = 0;
  #queue: Operation[] = [];
  /** Operations given and operations on the disk, and who waits for the second to reach what the first was. */
  #given = 0;
  #done = 0;
  #waiters: Array<{ upTo: number; resolve(): void }> = [];
  #writing: Promise<void> | undefined;
  #failed = false;

  constructor(database: Database, parts: LedgerStoreParts) {
    this.#database = database;
    this.#parts = parts;
  }

  /** Reads where the stored ledger ends. Must be done before anything else. */
  async start(): Promise<void> {
    for await (const [key, value] of this.#database.iterator({ ...ENTRY_RANGE, reverse: true, limit: 1 })) {
      const first = seqnoOf(key);
      this.#last = first + split(first, value).length - 1;
    }
    const committed = await this.#database.get(KEY_COMMIT);
    this.#committed = this.#committedStored = committed === undefined ? 0 : Number(committed.readBigUInt64BE());
  }

  last(): Seqno {
    return this.#last;
  }

  append(op: number, first: Seqno, entries: readonly Uint8Array[]): void {
    if (first !== this.#last + 1)
      return this.#fail({ code: "LedgerGap", seqno: first }, `entry ${first} was given after entry ${this.#last}`);
    for (const [i, entry] of entries.entries())
      if (!isWhole(entry))
        return this.#fail({ code: "LedgerGap", seqno: first + i }, "an entry does not name its size");
    this.#last += entries.length;
    this.#queue.push({ kind: "append", op, first, entries });
    this.#given += 1;
    this.#schedule();
  }

  truncate(op: number, after: Seqno): void {
    if (after < this.#committed)
      return this.#fail(
        { code: "LedgerCommitted", seqno: this.#committed },
        `the enclave wants entries after ${after} removed, but everything up to ${this.#committed} is committed`,
      );
    this.#last = Math.min(this.#last, after);
    this.#queue.push({ kind: "truncate", op, after });
    this.#given += 1;
    this.#schedule();
  }

  commit(seqno: Seqno): void {
    if (seqno > this.#last)
      return this.#fail({ code: "LedgerGap", seqno }, `entry ${seqno} was committed before it was given`);
    this.#committed = Math.max(this.#committed, seqno);
  }

  async read(first: Seqno, last: Seqno): Promise<Uint8Array[]> {
    await this.#settled();
    if (first < 1 || first > this.#last || last < first) return [];

    // One snapshot, or a truncation between the two look-ups would seem to be damage.
    const snapshot = this.#database.snapshot();
    try {
      return await this.#readFrom(snapshot, first, last);
    } finally {
      await snapshot.close();
    }
  }

  async #readFrom(snapshot: Snapshot, first: Seqno, last: Seqno): Promise<Uint8Array[]> {
    const found: Uint8Array[] = [];
    let expected = await this.#blobWith(snapshot, first);
    let sizeBytes = 0;
    const range = { snapshot, gte: entryKey(expected), lt: ENTRY_RANGE.lt };
    for await (const [key, value] of this.#database.iterator(range)) {
      if (seqnoOf(key) !== expected) throw damaged(expected, `entry ${expected} is missing in the store`);
      for (const entry of split(expected, value)) {
        const seqno = expected++;
        if (seqno < first) continue;
        sizeBytes += entry.length;
        const full = found.length > 0 && (sizeBytes > READ_BYTES_MAX || found.length >= READ_ENTRIES_MAX);
        if (seqno > last || full) return found;
        found.push(entry);
      }
    }
    if (found.length === 0) throw damaged(first, `entry ${first} is missing in the store`);
    return found;
  }

  async close(): Promise<void> {
    await this.#settled();
    await this.#writing;
    if (!this.#failed && this.#committed > this.#committedStored)
      await this.#database.batch(this.#commitMark(), { sync: true });
    await this.#database.close();
  }

  /** Resolves when everything given until now is on the disk, or never will be. */
  #settled(): Promise<void> {
    if (this.#failed || this.#done === this.#given) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ upTo: this.#given, resolve }));
  }

  #release(): void {
    while (this.#waiters.length > 0 && (this.#failed || this.#waiters[0]!.upTo <= this.#done))
      this.#waiters.shift()!.resolve();
  }

  #schedule(): void {
    if (this.#writing !== undefined || this.#failed) return;
    this.#writing = this.#writeAll().then(
      () => {
        this.#writing = undefined;
        // Something may have been given between the end of the loop and this callback.
        if (this.#queue.length > 0) this.#schedule();
      },
      (error: Error) => {
        this.#writing = undefined;
        if (error instanceof Fault) return this.#fail(error.detail as LedgerStoreFault, error.message);
        const why = (error.cause as Error | undefined)?.message ?? error.message;
        this.#fail({ code: "LedgerWriteFailed" }, `the ledger cannot be written: ${why}; free the disk or replace it`);
      },
    );
  }

  async #writeAll(): Promise<void> {
    while (this.#queue.length > 0 && !this.#failed) {
      const cut = this.#queue.findIndex((operation) => operation.kind === "truncate");
      const operations = this.#queue.splice(0, cut === -1 ? this.#queue.length : Math.max(cut, 1));
      const head = operations[0]!;
      const ops = head.kind === "truncate" ? await this.#cutAfter(head.after) : blobs(operations);
      const marked = this.#committed;
      if (marked > this.#committedStored) ops.push(...this.#commitMark());
      if (ops.length > 0) await this.#database.batch(ops, { sync: true });
      this.#committedStored = marked;
      this.#done += operations.length;
      this.#parts.onDurable(operations.at(-1)!.op);
      this.#release();
    }
  }

  /** What removes everything after `after`: later blobs go, the one that holds `after` is cut. */
  async #cutAfter(after: Seqno): Promise<BatchOp[]> {
    const ops: BatchOp[] = [];
    for await (const key of this.#database.keys({ gt: entryKey(after), lt: ENTRY_RANGE.lt }))
      ops.push({ type: "del", key });
    const range = { gte: ENTRY_RANGE.gte, lte: entryKey(after), reverse: true, limit: 1 };
    for await (const [key, value] of this.#database.iterator(range)) {
      const first = seqnoOf(key);
      const entries = split(first, value);
      const keep = after - first + 1;
      if (keep < entries.length) ops.push({ type: "put", key, value: Buffer.concat(entries.slice(0, keep)) });
    }
    return ops;
  }

  #commitMark(): BatchOp[] {
    const value = Buffer.alloc(8);
    value.writeBigUInt64BE(BigInt(this.#committed));
    return [{ type: "put", key: KEY_COMMIT, value }];
  }

  /** Seqno of the first entry of the value that holds `seqno`. */
  async #blobWith(snapshot: Snapshot, seqno: Seqno): Promise<Seqno> {
    const range = { snapshot, gte: ENTRY_RANGE.gte, lte: entryKey(seqno), reverse: true, limit: 1 };
    for await (const key of this.#database.keys(range)) return seqnoOf(key);
    throw damaged(seqno, `entry ${seqno} is missing in the store`);
  }

  #fail(detail: LedgerStoreFault, message: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#queue = [];
    this.#release();
    this.#parts.onFault(new Fault<LedgerStoreFault>(detail, message));
  }
}

/** Appends, joined into as few values as their size allows. */
function blobs(operations: readonly Operation[]): BatchOp[] {
  const ops: BatchOp[] = [];
  let first = 0;
  let parts: Uint8Array[] = [];
  let sizeBytes = 0;
  const finish = () => {
    if (parts.length > 0) ops.push({ type: "put", key: entryKey(first), value: Buffer.concat(parts, sizeBytes) });
    parts = [];
    sizeBytes = 0;
  };
  for (const operation of operations) {
    if (operation.kind !== "append") continue;
    for (const [i, entry] of operation.entries.entries()) {
      if (sizeBytes > 0 && sizeBytes + entry.length > BLOB_BYTES_MAX) finish();
      if (parts.length === 0) first = operation.first + i;
      parts.push(entry);
      sizeBytes += entry.length;
    }
  }
  finish();
  return ops;
}

async function openDatabase(directory: string, create: boolean): Promise<Database> {
  const database: Database = new Level(directory, {
    keyEncoding: "buffer",
    valueEncoding: "buffer",
    createIfMissing: create,
    // Entries are encrypted: compressing them costs time and gains nothing.
    compression: false,
  });
  try {
    await database.open();
  } catch (error) {
    throw openFault(directory, error as Error);
  }

  const format = await database.get(KEY_FORMAT);
  if (format === undefined && create) await database.put(KEY_FORMAT, Buffer.from(FORMAT), { sync: true });
  else if (format?.toString() !== FORMAT) {
    await database.close();
    throw new Fault<LedgerStoreFault>(
      { code: "LedgerFormatUnknown", directory },
      `${directory} holds a database, but not a ledger that this version understands`,
    );
  }
  return database;
}

function openFault(directory: string, error: Error): Fault<LedgerStoreFault> {
  const cause = error.cause as (Error & { code?: string }) | undefined;
  if (cause?.code === "LEVEL_LOCKED")
    return new Fault<LedgerStoreFault>(
      { code: "LedgerLocked", directory },
      `another process uses the ledger in ${directory}; stop that node first`,
      { cause: error },
    );
  return new Fault<LedgerStoreFault>(
    { code: "LedgerMissing", directory },
    `there is no readable ledger in ${directory}: ${cause?.message ?? error.message}`,
    { cause: error },
  );
}

/** What is wrong with a write-ahead log in the directory, in words; undefined if nothing is. */
function damagedFile(directory: string): string | undefined {
  if (!existsSync(directory)) return undefined;
  for (const name of readdirSync(directory).filter((file) => file.endsWith(".log"))) {
    const at = damageInLog(readFileSync(join(directory, name)));
    if (at !== undefined) return `${name} is damaged at byte ${at}`;
  }
  return undefined;
}

/** Finds the first entry that a damaged log has cost, in a copy that may be opened. */
async function locate(directory: string, damage: string): Promise<Fault<LedgerStoreFault>> {
  const copy = mkdtempSync(join(tmpdir(), "ledger-"));
  let seqno = 1;
  try {
    cpSync(directory, copy, { recursive: true });
    for await (const _ of storedEntries(copy)) seqno += 1;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    // What is left has a gap, or is no ledger any more: it ends before that.
  } finally {
    rmSync(copy, { recursive: true });
  }
  return damaged(seqno, `entries from ${seqno} on cannot be read: ${damage}. Nothing was changed`);
}

const ENTRY_RANGE = { gte: entryKey(0), lt: Buffer.from([ENTRY_PREFIX + 1]) };

function entryKey(seqno: Seqno): Buffer {
  const key = Buffer.allocUnsafe(9);
  key.writeUInt8(ENTRY_PREFIX, 0);
  key.writeUInt32BE(Math.floor(seqno / 2 ** 32), 1);
  key.writeUInt32BE(seqno % 2 ** 32, 5);
  return key;
}

function seqnoOf(key: Buffer): Seqno {
  return key.readUInt32BE(1) * 2 ** 32 + key.readUInt32BE(5);
}

function isWhole(entry: Uint8Array): boolean {
  try {
    return decodeHeader(entry).sizeBytes === entry.length;
  } catch (error) {
    if (error instanceof Fault) return false;
    throw error;
  }
}

function split(first: Seqno, blob: Buffer): Buffer[] {
  try {
    return splitEntries(blob);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw damaged(first, `the stored value that begins with entry ${first} is damaged: ${error.message}`);
  }
}

function damaged(seqno: Seqno, why: string): Fault<LedgerStoreFault> {
  return new Fault<LedgerStoreFault>({ code: "LedgerDamaged", seqno }, why);
}
