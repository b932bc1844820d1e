/**
 * `ccf.kv`: the tables, as a script sees them.
 *
 * `ccf.kv[name]` is a handle that carries the name and nothing else. Every method is a call to the main thread, which
 * decides by name and purpose whether it is allowed and answers from the request's transaction.
 *
 * Argument counts, messages and results are CCF 7.0's (reference ccf-js-apps.md 3.2).
 *
 * Trusted.
 */
import type { Purpose } from "../../governance/enclave/interpreter.ts";
import type { MapWriter, Tx } from "../../node/enclave/kv/tx.ts";
import { Writer } from "../../protocol/bytes.ts";
import type { GuestGlobal } from "../js/guest-types.ts";
import { GuestError, SYNC_BYTES_MAX, type SyncValue } from "../js/sync-call.ts";
import { refusal } from "./permissions.ts";
import { bytesOf, type Served, textOf } from "./served.ts";

export const TABLE_NAME_CHARS_MAX = 512;
export const KEY_BYTES_MAX = 64 * 1024;
export const VALUE_BYTES_MAX = 16 * 1024 * 1024;

export const kvGlobal: GuestGlobal = {
  prelude: `
const { count, isBuffer, freeze, unpack, apply } = tools;
const { startsWith, slice } = String.prototype;
const begins = (text, start) => apply(startsWith, text, [start]);
function reserved(table) {
  const name = begins(table, "public:") ? apply(slice, table, [7]) : table;
  return begins(name, "ccf.") && !begins(name, "ccf.gov.") && !begins(name, "ccf.internal.");
}
const one = (value) => {
  if (!isBuffer(value)) throw new TypeError("Argument must be an ArrayBuffer");
  return value;
};
function handle(name) {
  const map = {
    has(...args) { count(args, 1); return call("kv.has", name, one(args[0])); },
    get(...args) { count(args, 1); return call("kv.get", name, one(args[0])); },
    getVersionOfPreviousWrite(...args) { count(args, 1); return call("kv.versionOf", name, one(args[0])); },
    set(...args) {
      count(args, 2);
      if (!isBuffer(args[0]) || !isBuffer(args[1])) throw new TypeError("Arguments must be ArrayBuffers");
      call("kv.set", name, args[0], args[1]);
      return map;
    },
    delete(...args) { count(args, 1); call("kv.delete", name, one(args[0])); },
    clear(...args) { count(args, 0); call("kv.clear", name); },
    forEach(...args) {
      count(args, 1);
      const visit = args[0];
      if (typeof visit !== "function") throw new TypeError("Argument must be a function");
      const entries = unpack(call("kv.entries", name));
      for (let i = 0; i < entries.length; i += 2) visit(entries[i + 1], entries[i], map);
    },
    get size() { return call("kv.size", name); },
  };
  return freeze(map);
}
const kv = new Proxy(freeze({}), {
  get(_, name) {
    if (typeof name !== "string") return undefined;
    if (reserved(name)) throw new TypeError(name + " is in a reserved namespace and cannot be accessed");
    return handle(name);
  },
  set() { return false; },
});
tools.defineProperty(ccf, "kv", { value: kv, enumerable: true });`,
};

/** The functions behind `ccf.kv`, on one transaction. */
export function serveKv(tx: Tx, purpose: Purpose): Served {
  const map = (method: string, name: SyncValue): MapWriter => {
    const table = textOf(name, "a table's name", TABLE_NAME_CHARS_MAX);
    const why = refusal(method, table, purpose);
    if (why !== undefined) throw new GuestError("TypeError", why);
    return tx.map(table);
  };
  const keyOf = (key: SyncValue) => bytesOf(key, "a key", KEY_BYTES_MAX);
  return {
    "kv.has": (name, key) => map("has", name).has(keyOf(key)),
    "kv.get": (name, key) => map("get", name).get(keyOf(key)),
    "kv.versionOf": (name, key) => map("getVersionOfPreviousWrite", name).versionOf(keyOf(key)),
    "kv.set": (name, key, value) => {
      map("set", name).set(keyOf(key), bytesOf(value, "a value", VALUE_BYTES_MAX));
      return undefined;
    },
    "kv.delete": (name, key) => {
      map("delete", name).delete(keyOf(key));
      return undefined;
    },
    "kv.clear": (name) => {
      map("clear", name).clear();
      return undefined;
    },
    "kv.entries": (name) => packEntries(map("forEach", name)),
    "kv.size": (name) => map("size", name).size(),
  };
}

/** `u32 length ‖ bytes` for each key and value in turn. */
function packEntries(map: MapWriter): Uint8Array {
  const packed = new Writer();
  map.forEach((key, value) => {
    if (packed.length + key.length + value.length + 8 > SYNC_BYTES_MAX)
      throw new GuestError("RangeError", "the table is too large to visit as a whole");
    packed.u32(key.length).put(key).u32(value.length).put(value);
  });
  return packed.done();
}
