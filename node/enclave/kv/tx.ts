/**
 * A transaction: reads at one version, writes kept aside.
 *
 * Nothing here changes the store. Whoever commits asks `conflicts`, and installs `writes` if nothing conflicts.
 *
 * Trusted. Pure.
 */
import { Fault } from "../../../protocol/check.ts";
import type { Seqno } from "../../../protocol/ids.ts";
import { keyBytes, keyText } from "../../../protocol/ledger/write-set.ts";
import type { Cell, Store } from "./store.ts";

/** What was read has changed meanwhile: run the transaction again. */
export type TxFault = { code: "TxConflict"; map: string };

export interface MapReader {
  get(key: Uint8Array): Uint8Array | undefined;
  has(key: Uint8Array): boolean;
  /** Every entry in byte order of keys; stops when `visit` returns false. */
  forEach(visit: (key: Uint8Array, value: Uint8Array) => void | boolean): void;
  size(): number;
  /** Seqno of the last write to a key as this transaction sees it; undefined for a key without a value. */
  versionOf(key: Uint8Array): Seqno | undefined;
}

export interface MapWriter extends MapReader {
  set(key: Uint8Array, value: Uint8Array): void;
  delete(key: Uint8Array): void;
  clear(): void;
}

export class Tx {
  readonly #store: Store;
  readonly #maps = new Map<string, TxMap>();
  /** The version that all reads see. */
  readonly readVersion: Seqno;
  /** SHA-256 of what the application claims; becomes part of the Merkle leaf. */
  claimsDigest: Uint8Array | undefined;

  constructor(store: Store, readVersion: Seqno = store.version) {
    this.#store = store;
    this.readVersion = readVersion;
  }

  map(name: string): MapWriter {
    let map = this.#maps.get(name);
    if (map === undefined) {
      map = new TxMap(this.#store, name, this.readVersion);
      this.#maps.set(name, map);
    }
    return map;
  }

  /** True once any map was asked for: such a request is answered with a transaction id. */
  get touched(): boolean {
    return this.#maps.size > 0;
  }

  /** The name of a map in which something read is no longer current, if any. */
  conflicts(): string | undefined {
    for (const map of this.#maps.values()) if (map.stale()) return map.name;
    return undefined;
  }

  /** What was written, maps and keys in byte order; empty for a transaction that only read. */
  writes(): Map<string, Map<string, Uint8Array | undefined>> {
    const sets = new Map<string, Map<string, Uint8Array | undefined>>();
    const written = [...this.#maps.values()].filter((map) => map.writes.size > 0);
    written.sort((a, b) => order(a.name, b.name));
    for (const map of written)
      sets.set(map.name, map.writes.size === 1 ? map.writes : new Map([...map.writes].sort(([a], [b]) => order(a, b))));
    return sets;
  }

  /** Throws away every write, for a request that failed; what was read stays recorded. */
  discardWrites(): void {
    for (const map of this.#maps.values()) map.writes.clear();
  }
}

class TxMap implements MapWriter {
  readonly name: string;
  readonly writes = new Map<string, Uint8Array | undefined>();
  readonly #store: Store;
  readonly #readVersion: Seqno;
  /**
   * What was first seen of each key read, undefined for no value. Cells are compared as objects, because after a rollback
   * another write may take the same seqno.
   */
  readonly #reads = new Map<string, Cell | undefined>();
  /** The map's count of changes when it was first iterated. */
  #iteratedAt: number | undefined;

  constructor(store: Store, name: string, readVersion: Seqno) {
    this.#store = store;
    this.name = name;
    this.#readVersion = readVersion;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const text = keyText(key);
    if (this.writes.has(text)) return this.writes.get(text);
    return this.#cell(text)?.value;
  }

  has(key: Uint8Array): boolean {
    return this.get(key) !== undefined;
  }

  versionOf(key: Uint8Array): Seqno | undefined {
    const cell = this.#cell(keyText(key));
    return cell?.value === undefined ? undefined : cell.seqno;
  }

  forEach(visit: (key: Uint8Array, value: Uint8Array) => void | boolean): void {
    const state = this.#store.map(this.name);
    this.#iteratedAt ??= state?.changes ?? 0;
    if ((state?.seqno ?? 0) > this.#readVersion) throw conflict(this.name);
    const keys = new Set(state?.cells.keys());
    for (const key of this.writes.keys()) keys.add(key);
    for (const key of [...keys].sort(order)) {
      const value = this.writes.has(key) ? this.writes.get(key) : state?.cells.get(key)?.value;
      if (value !== undefined && visit(keyBytes(key), value) === false) return;
    }
  }

  size(): number {
    let count = 0;
    this.forEach(() => {
      count++;
    });
    return count;
  }

  set(key: Uint8Array, value: Uint8Array): void {
    this.writes.set(keyText(key), value);
  }

  delete(key: Uint8Array): void {
    const text = keyText(key);
    // A removal of what is not there leaves no trace in the ledger.
    if (this.#cell(text)?.value !== undefined) this.writes.set(text, undefined);
    else this.writes.delete(text);
  }

  clear(): void {
    const keys: Uint8Array[] = [];
    this.forEach((key) => {
      keys.push(key);
    });
    for (const key of keys) this.delete(key);
  }

  stale(): boolean {
    const state = this.#store.map(this.name);
    if (this.#iteratedAt !== undefined && (state?.changes ?? 0) !== this.#iteratedAt) return true;
    for (const [key, seen] of this.#reads) if (withValue(state?.cells.get(key)) !== seen) return true;
    return false;
  }

  #cell(text: string) {
    const cell = this.#store.cellAt(this.name, text, this.#readVersion);
    if (cell === "gone") throw conflict(this.name);
    if (!this.#reads.has(text)) this.#reads.set(text, withValue(cell));
    return cell;
  }
}

/** A deletion is the same as nothing; commit drops its cell. */
function withValue(cell: Cell | undefined): Cell | undefined {
  return cell?.value === undefined ? undefined : cell;
}

function conflict(map: string): Fault<TxFault> {
  return new Fault<TxFault>({ code: "TxConflict", map }, "what this transaction read has changed");
}

/** Latin1 strings compare as their bytes do. */
function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
