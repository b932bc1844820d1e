/**
 * The state: maps of byte keys and byte values, each value with the seqno that wrote it.
 *
 * Point access is O(1). Every uncommitted write keeps what it replaced (`before`), so that any uncommitted version can be
 * rolled back to and the committed version can be read beside the newest; commit cuts those chains. Transactions are
 * optimistic: they read at one version, and `conflicts` says whether what they read is still current.
 *
 * A version may be installed late: the signature transaction reserves its seqno, later ones go ahead while it is being
 * signed, and nobody else writes its tables.
 *
 * Trusted. Pure.
 */
import { assert } from "../../../protocol/check.ts";
import type { Seqno } from "../../../protocol/ids.ts";
import type { WriteSet } from "../../../protocol/ledger/write-set.ts";

/** One version of one key. `value` undefined means that the key was deleted. */
export type Cell = {
  readonly seqno: Seqno;
  readonly value: Uint8Array | undefined;
  before: Cell | undefined;
};

/** A map at its newest version. Keys are the key's bytes spelled as latin1, one character a byte. */
export type MapState = {
  readonly name: string;
  readonly cells: Map<string, Cell>;
  /** Seqno of the last write to any key. */
  seqno: Seqno;
  /** Counts every installation and rollback that touched the map: a seqno may come again after a rollback, this does not. */
  changes: number;
};

type Written = { readonly map: MapState; readonly keys: readonly string[]; readonly seqnoBefore: Seqno };

export class Store {
  readonly #maps = new Map<string, MapState>();
  /** What each uncommitted version wrote, by seqno. */
  readonly #written = new Map<Seqno, readonly Written[]>();
  #version: Seqno = 0;
  #committed: Seqno = 0;

  /** The newest version. */
  get version(): Seqno {
    return this.#version;
  }

  get committed(): Seqno {
    return this.#committed;
  }

  map(name: string): MapState | undefined {
    return this.#maps.get(name);
  }

  /** Installs what a transaction wrote as version `seqno`. */
  apply(seqno: Seqno, writes: WriteSet): void {
    assert(seqno > this.#committed && !this.#written.has(seqno), "a version is installed once, above the commit");
    const written: Written[] = [];
    for (const [name, keys] of writes) {
      const map = this.#mapFor(name);
      written.push({ map, keys: [...keys.keys()], seqnoBefore: map.seqno });
      for (const [key, value] of keys) {
        const before = map.cells.get(key);
        assert(before === undefined || before.seqno < seqno, "writes to a key come in the order of versions");
        map.cells.set(key, { seqno, value, before });
      }
      map.seqno = Math.max(map.seqno, seqno);
      map.changes++;
    }
    this.#written.set(seqno, written);
    this.#version = Math.max(this.#version, seqno);
  }

  /** Takes the next version without contents yet: a signature transaction that is still being signed. */
  reserve(seqno: Seqno): void {
    assert(seqno === this.#version + 1, "versions are dense");
    this.#version = seqno;
  }

  /** Forgets every version after `to`. */
  rollback(to: Seqno): void {
    assert(to >= this.#committed, "what is committed is never rolled back");
    for (let seqno = this.#version; seqno > to; seqno--) {
      for (const { map, keys, seqnoBefore } of this.#written.get(seqno) ?? []) {
        for (const key of keys) {
          const before = map.cells.get(key)?.before;
          if (before === undefined) map.cells.delete(key);
          else map.cells.set(key, before);
        }
        map.seqno = seqnoBefore;
        map.changes++;
      }
      this.#written.delete(seqno);
    }
    this.#version = Math.min(this.#version, to);
  }

  /** Everything up to `upTo` is committed: drops what those versions replaced. */
  commit(upTo: Seqno): void {
    assert(upTo <= this.#version, "what is committed is known");
    for (let seqno = this.#committed + 1; seqno <= upTo; seqno++) {
      for (const { map, keys } of this.#written.get(seqno) ?? []) for (const key of keys) trim(map, key, upTo);
      this.#written.delete(seqno);
    }
    this.#committed = Math.max(this.#committed, upTo);
  }

  /** The cell of a key as it was at `version`; `gone` when that was too long ago to know. */
  cellAt(name: string, key: string, version: Seqno): Cell | undefined | "gone" {
    const map = this.#maps.get(name);
    let cell = map?.cells.get(key);
    while (cell !== undefined && cell.seqno > version) cell = cell.before;
    // Commit cuts chains and drops deletions, so silence about a version before the commit proves nothing.
    if (cell === undefined && map !== undefined && version < this.#committed && map.seqno > version) return "gone";
    return cell;
  }

  #mapFor(name: string): MapState {
    let map = this.#maps.get(name);
    if (map === undefined) {
      map = { name, cells: new Map(), seqno: 0, changes: 0 };
      this.#maps.set(name, map);
    }
    return map;
  }
}

/** Cuts the chain of a key below its newest version at or before `upTo`, and drops a deletion that nothing sees. */
function trim(map: MapState, key: string, upTo: Seqno): void {
  let above: Cell | undefined;
  let cell = map.cells.get(key);
  while (cell !== undefined && cell.seqno > upTo) {
    above = cell;
    cell = cell.before;
  }
  if (cell === undefined) return;
  cell.before = undefined;
  if (cell.value !== undefined) return;
  if (above === undefined) map.cells.delete(key);
  else above.before = undefined;
}
