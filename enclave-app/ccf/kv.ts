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
import { GuestError, type SyncValue } from "../js/sync-call.ts";
import { refusal } from "./permissions.ts";
import { bytesOf, type Served, textOf } from "./served.ts";

export const TABLE_NAME_CHARS_MAX = 512;
export const KEY_BYTES_MAX = 64 * 1024;
export const VALUE_BYTES_MAX = 4 * 1024 * 1024;
/** What one page of a visit holds, give or take one entry. */
const PAGE_BYTES = 512 * 1024;
/** Visits of tables inside visits of tables. */
const VISITS_MAX = 32;

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
      const visiting = call("kv.visit", name);
      try {
        for (let page = unpack(call("kv.page", visiting)); page.length > 0; page = unpack(call("kv.page", visiting)))
          for (let i = 0; i < page.length; i += 2) visit(page[i + 1], page[i], map);
      } finally {
        call("kv.endVisit", visiting);
      }
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
  const visits = new Visits();
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
    "kv.visit": (name) => visits.begin(map("forEach", name)),
    "kv.page": (visit) => visits.page(visit),
    "kv.endVisit": (visit) => visits.end(visit),
    "kv.size": (name) => map("size", name).size(),
  };
}

type Entry = readonly [key: Uint8Array, value: Uint8Array];

/**
 * Tables that a script is visiting: as they were when it began, whatever it writes meanwhile, and in pages, so that no
 * table is too large to be visited.
 */
class Visits {
  readonly #left = new Map<number, Entry[]>();
  #next = 1;

  begin(map: MapWriter): number {
    if (this.#left.size >= VISITS_MAX) throw new GuestError("RangeError", "too many tables are being visited at once");
    const entries: Entry[] = [];
    map.forEach((key, value) => {
      entries.push([key, value]);
    });
    this.#left.set(this.#next, entries.reverse());
    return this.#next++;
  }

  /** The next entries, `u32 length ‖ bytes` for each key and value in turn; nothing after the last. */
  page(visit: SyncValue): Uint8Array {
    const left = typeof visit === "number" ? this.#left.get(visit) : undefined;
    if (left === undefined) throw new GuestError("TypeError", "no table is being visited");
    const packed = new Writer();
    for (let entry = left.pop(); entry !== undefined; entry = left.pop()) {
      const [key, value] = entry;
      packed.u32(key.length).put(key).u32(value.length).put(value);
      if (packed.length >= PAGE_BYTES) break;
    }
    return packed.done();
  }

  end(visit: SyncValue): undefined {
    if (typeof visit === "number") this.#left.delete(visit);
  }
}
