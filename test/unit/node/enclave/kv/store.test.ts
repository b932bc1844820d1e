import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Store } from "../../../../../node/enclave/kv/store.ts";
import { utf8 } from "../../../../../protocol/bytes.ts";
import type { WriteSet } from "../../../../../protocol/ledger/write-set.ts";

function writes(map: string, rows: Record<string, string | undefined>): WriteSet {
  return new Map([
    [map, new Map(Object.entries(rows).map(([key, value]) => [key, value === undefined ? undefined : utf8(value)]))],
  ]);
}

function seen(store: Store, map: string, key: string, version = store.version): string | undefined {
  const cell = store.cellAt(map, key, version);
  if (cell === "gone") return "gone";
  return cell?.value === undefined ? undefined : Buffer.from(cell.value).toString();
}

/** What a list of versions says: the newest write to the key at or before the version. */
type Version = { seqno: number; rows: WriteSet };
function expected(versions: readonly Version[], map: string, key: string, at: number) {
  const found = versions
    .filter(({ seqno, rows }) => seqno <= at && rows.get(map)?.has(key))
    .sort((a, b) => b.seqno - a.seqno)[0];
  const value = found?.rows.get(map)?.get(key);
  return { seqno: found?.seqno, value: value === undefined ? undefined : Buffer.from(value).toString() };
}

const MAPS = ["a", "b"];
const KEYS = ["x", "y", "z"];
const row = fc.tuple(fc.constantFrom(...KEYS), fc.option(fc.string({ maxLength: 3 }), { nil: undefined }));
const rowsOf = fc.uniqueArray(row, { minLength: 1, maxLength: 3, selector: ([key]) => key });
const command = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("apply" as const), map: fc.constantFrom(...MAPS), rows: rowsOf }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reserve" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("install" as const), rows: rowsOf }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("rollback" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("commit" as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
  },
);

test("whatever is applied, installed late, rolled back and committed, reads agree with a plain list of versions", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const store = new Store();
      let versions: Version[] = [];
      let [version, committed] = [0, 0];
      /** A version that is taken and has no contents yet; commit never reaches it. */
      let reserved: number | undefined;
      for (const step of commands) {
        if (step.do === "apply") {
          const rows: WriteSet = new Map([
            [step.map, new Map(step.rows.map(([k, v]) => [k, v === undefined ? v : utf8(v)]))],
          ]);
          store.apply(++version, rows);
          versions.push({ seqno: version, rows });
        } else if (step.do === "reserve" && reserved === undefined) {
          reserved = ++version;
          store.reserve(reserved);
        } else if (step.do === "install" && reserved !== undefined) {
          const rows: WriteSet = new Map([
            ["late", new Map(step.rows.map(([k, v]) => [k, v === undefined ? v : utf8(v)]))],
          ]);
          store.apply(reserved, rows);
          versions.push({ seqno: reserved, rows });
          reserved = undefined;
        } else if (step.do === "rollback") {
          version = committed + Math.floor((version - committed) * step.share);
          store.rollback(version);
          versions = versions.filter(({ seqno }) => seqno <= version);
          if (reserved !== undefined && reserved > version) reserved = undefined;
        } else if (step.do === "commit") {
          const most = reserved === undefined ? version : reserved - 1;
          committed += Math.floor(Math.max(0, most - committed) * step.share);
          store.commit(committed);
        }
        expect([store.version, store.committed]).toEqual([version, committed]);
        for (const map of [...MAPS, "late"]) {
          for (const key of KEYS)
            for (let at = 0; at <= version; at++) {
              const want = expected(versions, map, key, at);
              const cell = store.cellAt(map, key, at);
              if (at < committed && cell === "gone") continue;
              expect(cell, `${map}.${key} at ${at}`).not.toBe("gone");
              if (cell === "gone") continue;
              expect(cell?.value === undefined ? undefined : Buffer.from(cell.value).toString()).toBe(want.value);
              if (want.value !== undefined) expect(cell?.seqno).toBe(want.seqno);
            }
          const last = versions
            .filter(({ rows }) => rows.has(map))
            .reduce((most, { seqno }) => Math.max(most, seqno), 0);
          expect(store.map(map)?.seqno ?? 0).toBe(last);
        }
      }
    }),
    { numRuns: 300 },
  );
});

describe("commit", () => {
  test("drops what nobody can see: replaced values and deletions", () => {
    const store = new Store();
    store.apply(1, writes("m", { k: "1", d: "1" }));
    store.apply(2, writes("m", { k: "2", d: undefined }));
    store.apply(3, writes("m", { k: "3" }));
    store.commit(2);
    const cell = store.map("m")?.cells.get("k");
    expect([cell?.seqno, cell?.before?.seqno, cell?.before?.before]).toEqual([3, 2, undefined]);
    expect(store.map("m")?.cells.has("d")).toBe(false);
    expect([seen(store, "m", "k", 1), seen(store, "m", "k", 2), seen(store, "m", "k", 3)]).toEqual(["gone", "2", "3"]);
    expect([seen(store, "m", "d", 1), seen(store, "m", "d", 2)]).toEqual(["gone", undefined]);
  });

  test("keeps a deletion that an uncommitted write stands on from coming back", () => {
    const store = new Store();
    store.apply(1, writes("m", { k: "1" }));
    store.apply(2, writes("m", { k: undefined }));
    store.apply(3, writes("m", { k: "3" }));
    store.commit(2);
    store.rollback(2);
    expect(seen(store, "m", "k")).toBeUndefined();
    expect(store.map("m")?.cells.size).toBe(0);
  });

  test("of what is committed already changes nothing", () => {
    const store = new Store();
    store.apply(1, writes("m", { k: "1" }));
    store.commit(1);
    store.commit(0);
    expect(store.committed).toBe(1);
  });
});

describe("a version that is installed late", () => {
  test("is seen at its own seqno, below those that went ahead", () => {
    const store = new Store();
    store.apply(1, writes("m", { k: "1" }));
    store.reserve(2);
    store.apply(3, writes("m", { k: "3" }));
    expect(seen(store, "late", "s", 3)).toBeUndefined();
    store.apply(2, writes("late", { s: "2" }));
    expect([seen(store, "late", "s", 1), seen(store, "late", "s", 2), seen(store, "late", "s", 3)]).toEqual([
      undefined,
      "2",
      "2",
    ]);
    expect(store.version).toBe(3);
    store.commit(3);
    expect([seen(store, "late", "s"), seen(store, "m", "k")]).toEqual(["2", "3"]);
  });

  test("is gone after a rollback below it, and its seqno is free again", () => {
    const store = new Store();
    store.apply(1, writes("m", { k: "1" }));
    store.reserve(2);
    store.apply(3, writes("m", { k: "3" }));
    store.rollback(1);
    store.apply(2, writes("m", { k: "2" }));
    expect([store.version, seen(store, "m", "k")]).toEqual([2, "2"]);
  });
});

describe("a broken invariant stops the node:", () => {
  const store = () => {
    const made = new Store();
    made.apply(1, writes("m", { k: "1" }));
    made.apply(2, writes("m", { k: "2" }));
    made.commit(1);
    return made;
  };

  test.each<[string, (made: Store) => void]>([
    ["a version installed twice", (made) => made.apply(2, writes("m", { k: "again" }))],
    ["a version at or below the commit", (made) => made.apply(1, writes("m", { k: "again" }))],
    ["a reserved version that leaves a gap", (made) => made.reserve(4)],
    ["a rollback of what is committed", (made) => made.rollback(0)],
    ["a commit of what is not there", (made) => made.commit(3)],
    [
      "a late write under a newer one",
      (made) => {
        made.reserve(3);
        made.apply(4, writes("m", { k: "4" }));
        made.apply(3, writes("m", { k: "3" }));
      },
    ],
  ])("%s", (_, run) => {
    expect(() => run(store())).toThrow(expect.objectContaining({ name: "Broken" }));
  });
});

test("a map counts its changes, and a rollback is one", () => {
  const store = new Store();
  store.apply(1, writes("m", { k: "1" }));
  const before = store.map("m")?.changes ?? 0;
  store.apply(2, writes("m", { k: "2" }));
  store.rollback(1);
  store.apply(2, writes("m", { k: "other" }));
  expect(store.map("m")?.changes).toBe(before + 3);
  expect(store.map("unknown")).toBeUndefined();
});
