/**
 * A typed view of a map: a name, how keys become bytes, how values become bytes.
 *
 * Values read back were written by this code or by code that consensus agreed on, so a value that does not decode is a
 * broken invariant, not an input.
 *
 * Trusted. Pure.
 */
import { fromUtf8, utf8, ZERO_KEY } from "../../../protocol/bytes.ts";
import type { Seqno } from "../../../protocol/ids.ts";
import type { MapReader, MapWriter, Tx } from "./tx.ts";

export type Codec<T> = Readonly<{ encode(value: T): Uint8Array; decode(bytes: Uint8Array): T }>;

export type Table<K, V> = Readonly<{ name: string; key: Codec<K>; value: Codec<V> }>;
/** A table of one row, under eight zero bytes. */
export type Singleton<V> = Readonly<{ name: string; value: Codec<V> }>;

export interface TableReader<K, V> {
  get(key: K): V | undefined;
  has(key: K): boolean;
  versionOf(key: K): Seqno | undefined;
  forEach(visit: (key: K, value: V) => void | boolean): void;
  entries(): [K, V][];
}

export interface TableWriter<K, V> extends TableReader<K, V> {
  set(key: K, value: V): void;
  delete(key: K): void;
  clear(): void;
}

/** The bytes as they are. */
export const rawCodec: Codec<Uint8Array> = { encode: (bytes) => bytes, decode: (bytes) => bytes };
/** UTF-8 without quotes. */
export const textCodec: Codec<string> = { encode: utf8, decode: fromUtf8 };

/** Compact JSON with keys sorted, as CCF writes it. */
export function jsonCodec<T>(): Codec<T> {
  return { encode: (value) => utf8(sortedJson(value)), decode: (bytes) => JSON.parse(fromUtf8(bytes)) as T };
}

/** Members of a set: the value is eight zero bytes and says nothing. */
export const unitCodec: Codec<true> = { encode: () => ZERO_KEY, decode: () => true };

/**
 * Compact JSON with object keys in order; members whose value is undefined are left out. Written by hand because
 * `JSON.stringify` puts keys that look like numbers first, whatever order an object was made in.
 */
export function sortedJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((one) => (one === undefined ? "null" : sortedJson(one))).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, inner]) => inner !== undefined);
  members.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${members.map(([key, inner]) => `${JSON.stringify(key)}:${sortedJson(inner)}`).join(",")}}`;
}

/** Opens a table in a transaction. */
export function open<K, V>(tx: Tx, table: Table<K, V>): TableWriter<K, V> {
  return new TypedMap(tx.map(table.name), table);
}

/** The single row of a table, or undefined before it was first written. */
export function getOne<V>(tx: Tx, singleton: Singleton<V>): V | undefined {
  const bytes = tx.map(singleton.name).get(ZERO_KEY);
  return bytes === undefined ? undefined : singleton.value.decode(bytes);
}

export function setOne<V>(tx: Tx, singleton: Singleton<V>, value: V): void {
  tx.map(singleton.name).set(ZERO_KEY, singleton.value.encode(value));
}

/** Seqno of the last write of the single row. */
export function versionOfOne(tx: Tx, singleton: Singleton<unknown>): Seqno | undefined {
  return tx.map(singleton.name).versionOf(ZERO_KEY);
}

class TypedMap<K, V> implements TableWriter<K, V> {
  readonly #map: MapWriter & MapReader;
  readonly #table: Table<K, V>;

  constructor(map: MapWriter, table: Table<K, V>) {
    this.#map = map;
    this.#table = table;
  }

  get(key: K): V | undefined {
    const bytes = this.#map.get(this.#table.key.encode(key));
    return bytes === undefined ? undefined : this.#table.value.decode(bytes);
  }

  has(key: K): boolean {
    return this.#map.has(this.#table.key.encode(key));
  }

  versionOf(key: K): Seqno | undefined {
    return this.#map.versionOf(this.#table.key.encode(key));
  }

  forEach(visit: (key: K, value: V) => void | boolean): void {
    this.#map.forEach((key, value) => visit(this.#table.key.decode(key), this.#table.value.decode(value)));
  }

  entries(): [K, V][] {
    const all: [K, V][] = [];
    this.forEach((key, value) => {
      all.push([key, value]);
    });
    return all;
  }

  set(key: K, value: V): void {
    this.#map.set(this.#table.key.encode(key), this.#table.value.encode(value));
  }

  delete(key: K): void {
    this.#map.delete(this.#table.key.encode(key));
  }

  clear(): void {
    this.#map.clear();
  }
}
