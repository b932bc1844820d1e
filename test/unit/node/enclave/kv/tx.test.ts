import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Store } from "../../../../../node/enclave/kv/store.ts";
import { Tx } from "../../../../../node/enclave/kv/tx.ts";
import { utf8 } from "../../../../../protocol/bytes.ts";
import { isFault } from "../../../../../protocol/check.ts";

type Rows = Record<string, string | undefined>;

function storeWith(rows: Rows, map = "m"): Store {
  const store = new Store();
  put(store, rows, map);
  return store;
}

function put(store: Store, rows: Rows, map = "m"): void {
  const keys = Object.entries(rows).map(
    ([key, value]) => [key, value === undefined ? undefined : utf8(value)] as const,
  );
  store.apply(store.version + 1, new Map([[map, new Map(keys)]]));
}

function get(tx: Tx, key: string): string | undefined {
  const value = tx.map("m").get(utf8(key));
  return value === undefined ? undefined : Buffer.from(value).toString();
}

function all(tx: Tx): [string, string][] {
  const rows: [string, string][] = [];
  tx.map("m").forEach((key, value) => {
    rows.push([Buffer.from(key).toString("latin1"), Buffer.from(value).toString()]);
  });
  return rows;
}

function shown(tx: Tx): unknown {
  return [...tx.writes()].map(([name, keys]) => [
    name,
    [...keys].map(([key, value]) => [key, value && Buffer.from(value).toString()]),
  ]);
}

const key = fc.constantFrom("a", "b", "c", "\x80", "\xff");
const operation = fc.oneof(
  fc.record({ do: fc.constant("set" as const), key, value: fc.string({ maxLength: 2 }) }),
  fc.record({ do: fc.constant("delete" as const), key }),
  fc.record({ do: fc.constant("get" as const), key }),
  fc.record({ do: fc.constant("all" as const) }),
  fc.record({ do: fc.constant("clear" as const) }),
);

test("a transaction sees what it wrote over what was there, and leaves exactly the difference", () => {
  const start = fc.dictionary(fc.constantFrom("a", "b", "c"), fc.string({ maxLength: 2 }));
  fc.assert(
    fc.property(start, fc.array(operation, { maxLength: 30 }), (rows, operations) => {
      const store = storeWith({ ...rows, other: "o" });
      const model = new Map<string, string>(Object.entries({ ...rows, other: "o" }));
      const tx = new Tx(store);
      const map = tx.map("m");
      for (const step of operations) {
        if (step.do === "set") {
          map.set(Buffer.from(step.key, "latin1"), utf8(step.value));
          model.set(step.key, step.value);
        } else if (step.do === "delete") {
          map.delete(Buffer.from(step.key, "latin1"));
          model.delete(step.key);
        } else if (step.do === "get") {
          const value = map.get(Buffer.from(step.key, "latin1"));
          expect(value === undefined ? undefined : Buffer.from(value).toString()).toBe(model.get(step.key));
          expect(map.has(Buffer.from(step.key, "latin1"))).toBe(model.has(step.key));
        } else if (step.do === "all") {
          const sorted = [...model].sort(([a], [b]) => (a < b ? -1 : 1));
          expect(all(tx)).toEqual(sorted);
          expect(map.size()).toBe(model.size);
        } else {
          map.clear();
          model.clear();
        }
      }
      expect(tx.conflicts()).toBeUndefined();
      const sets = tx.writes();
      if (sets.size > 0) store.apply(store.version + 1, sets);
      const after = new Tx(store);
      expect(all(after)).toEqual([...model].sort(([a], [b]) => (a < b ? -1 : 1)));
      // A removal is only written for what was there before.
      for (const [written, value] of sets.get("m") ?? [])
        if (value === undefined) expect(written in rows || written === "other").toBe(true);
    }),
  );
});

describe("reads are at one version", () => {
  test("also when the state goes on", () => {
    const store = storeWith({ a: "1", b: "1" });
    const tx = new Tx(store);
    put(store, { a: "2" });
    expect([get(tx, "a"), get(tx, "b")]).toEqual(["1", "1"]);
    expect(tx.map("m").versionOf(utf8("a"))).toBe(1);
    expect(tx.conflicts()).toBe("m");
  });

  test("that may be the committed one", () => {
    const store = storeWith({ a: "1" });
    store.commit(1);
    put(store, { a: "2", b: "2" });
    const tx = new Tx(store, store.committed);
    expect([get(tx, "a"), get(tx, "b")]).toEqual(["1", undefined]);
    expect(tx.map("m").versionOf(utf8("b"))).toBeUndefined();
  });

  test("and a version too long ago is a conflict, not a wrong answer", () => {
    const store = storeWith({ a: "1" });
    const tx = new Tx(store);
    put(store, { a: "2" });
    store.commit(2);
    expect(() => get(tx, "a")).toThrow(expect.objectContaining({ name: "Fault" }));
  });

  test("an iteration cannot be given later, so it conflicts at once", () => {
    const store = storeWith({ a: "1" });
    const tx = new Tx(store);
    put(store, { b: "1" });
    let thrown: unknown;
    try {
      all(tx);
    } catch (error) {
      thrown = error;
    }
    expect(isFault(thrown, "TxConflict")).toBe(true);
  });
});

describe("a transaction conflicts", () => {
  const conflictAfter = (
    read: (tx: Tx) => unknown,
    change: (store: Store) => void,
    start: Rows = { a: "1", b: "1" },
  ) => {
    const store = storeWith(start);
    const tx = new Tx(store);
    read(tx);
    change(store);
    return tx.conflicts();
  };

  test.each<[string, (tx: Tx) => unknown, (store: Store) => void]>([
    ["when a key that it read was written", (tx) => get(tx, "a"), (store) => put(store, { a: "2" })],
    [
      "when a key that it read was written with the same value",
      (tx) => get(tx, "a"),
      (store) => put(store, { a: "1" }),
    ],
    ["when a key that it read was removed", (tx) => get(tx, "a"), (store) => put(store, { a: undefined })],
    ["when a key that it missed appeared", (tx) => get(tx, "c"), (store) => put(store, { c: "1" })],
    ["when a map that it iterated got a key", all, (store) => put(store, { c: "1" })],
    ["when a map that it iterated lost a key", all, (store) => put(store, { a: undefined })],
    [
      "when a map that it found empty got a key",
      (tx) => tx.map("none").size(),
      (store) => put(store, { a: "1" }, "none"),
    ],
    [
      "when a key that it asked the version of was written",
      (tx) => tx.map("m").versionOf(utf8("a")),
      (store) => put(store, { a: "2" }),
    ],
    [
      "when a key that it removed was written",
      (tx) => tx.map("m").delete(utf8("a")),
      (store) => put(store, { a: "2" }),
    ],
    [
      "when a key that it removed in vain appeared",
      (tx) => tx.map("m").delete(utf8("c")),
      (store) => put(store, { c: "2" }),
    ],
  ])("%s", (_, read, change) => {
    expect(conflictAfter(read, change)).toBeDefined();
  });

  test.each<[string, (tx: Tx) => unknown, (store: Store) => void]>([
    ["when another key was written", (tx) => get(tx, "a"), (store) => put(store, { b: "2" })],
    [
      "when a key that it only wrote was written",
      (tx) => tx.map("m").set(utf8("a"), utf8("x")),
      (store) => put(store, { a: "2" }),
    ],
    ["when another map was written", all, (store) => put(store, { a: "2" }, "other")],
    ["when what it read was committed meanwhile", (tx) => [get(tx, "a"), all(tx)], (store) => store.commit(1)],
    [
      "when a key that it missed came and went, and both are committed",
      (tx) => get(tx, "c"),
      (store) => {
        put(store, { c: "1" });
        put(store, { c: undefined });
        store.commit(3);
      },
    ],
    [
      "when nothing but an uncommitted write above it was rolled back",
      (tx) => get(tx, "a"),
      (store) => {
        put(store, { a: "2" });
        store.rollback(1);
      },
    ],
  ])("but not %s", (_, read, change) => {
    expect(conflictAfter(read, change)).toBeUndefined();
  });

  test("when what it read was rolled back and another write took the same seqno", () => {
    const store = storeWith({ a: "1" });
    put(store, { a: "lost" });
    const [reader, iterator, twice] = [new Tx(store), new Tx(store), new Tx(store)];
    expect([get(reader, "a"), get(twice, "a")]).toEqual(["lost", "lost"]);
    expect(all(iterator)).toEqual([["a", "lost"]]);
    store.rollback(1);
    put(store, { a: "kept" });
    expect(store.version).toBe(2);
    // Reading again does not make the first answer good.
    expect(get(twice, "a")).toBe("kept");
    expect([reader.conflicts(), iterator.conflicts(), twice.conflicts()]).toEqual(["m", "m", "m"]);
  });
});

describe("what is written", () => {
  test("comes out with maps and keys in byte order", () => {
    const tx = new Tx(new Store());
    for (const map of ["public:b", "a", "public:a"])
      for (const byte of [0xff, 0x00, 0x7f, 0x80]) tx.map(map).set(Uint8Array.of(byte), utf8("v"));
    tx.map("read").get(utf8("k"));
    const sets = tx.writes();
    expect([...sets.keys()]).toEqual(["a", "public:a", "public:b"]);
    expect([...(sets.get("a")?.keys() ?? [])]).toEqual(["\x00", "\x7f", "\x80", "\xff"]);
  });

  test("is not in the store until someone installs it", () => {
    const store = storeWith({ a: "1" });
    const tx = new Tx(store);
    tx.map("m").set(utf8("a"), utf8("2"));
    expect(get(new Tx(store), "a")).toBe("1");
    expect(get(tx, "a")).toBe("2");
  });

  test("and taken back leaves no trace", () => {
    const tx = new Tx(storeWith({ a: "1" }));
    tx.map("m").set(utf8("new"), utf8("2"));
    tx.map("m").delete(utf8("new"));
    expect(shown(tx)).toEqual([]);
    tx.map("m").delete(utf8("a"));
    expect(shown(tx)).toEqual([["m", [["a", undefined]]]]);
    tx.map("m").set(utf8("a"), utf8("3"));
    expect(shown(tx)).toEqual([["m", [["a", "3"]]]]);
  });

  test("can be thrown away, and the reads still count", () => {
    const store = storeWith({ a: "1" });
    const tx = new Tx(store);
    expect(tx.touched).toBe(false);
    get(tx, "a");
    tx.map("m").set(utf8("b"), utf8("2"));
    tx.discardWrites();
    expect(tx.writes().size).toBe(0);
    expect(tx.touched).toBe(true);
    put(store, { a: "2" });
    expect(tx.conflicts()).toBe("m");
  });
});

describe("an iteration", () => {
  test("stops when it is told to", () => {
    const tx = new Tx(storeWith({ a: "1", b: "2", c: "3" }));
    const visited: string[] = [];
    tx.map("m").forEach((visitedKey) => {
      visited.push(Buffer.from(visitedKey).toString());
      return visited.length < 2;
    });
    expect(visited).toEqual(["a", "b"]);
  });

  test("may write: what it removes ahead of itself is not visited, what it adds is not either", () => {
    const tx = new Tx(storeWith({ a: "1", b: "2", c: "3" }));
    const visited: string[] = [];
    tx.map("m").forEach((visitedKey) => {
      visited.push(Buffer.from(visitedKey).toString());
      tx.map("m").delete(utf8("b"));
      tx.map("m").set(utf8("d"), utf8("4"));
    });
    expect(visited).toEqual(["a", "c"]);
    expect(all(tx)).toEqual([
      ["a", "1"],
      ["c", "3"],
      ["d", "4"],
    ]);
  });

  test("sees keys of any bytes", () => {
    const tx = new Tx(new Store());
    const every = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte, 255 - byte));
    for (const bytes of every) tx.map("m").set(bytes, bytes);
    const visited: Uint8Array[] = [];
    tx.map("m").forEach((bytes, value) => {
      expect(Buffer.from(bytes)).toEqual(Buffer.from(value));
      visited.push(bytes);
    });
    expect(visited.map((bytes) => Buffer.from(bytes))).toEqual(every.map((bytes) => Buffer.from(bytes)));
  });
});
