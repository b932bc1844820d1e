import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Store } from "../../../../../node/enclave/kv/store.ts";
import {
  getOne,
  jsonCodec,
  open,
  rawCodec,
  setOne,
  sortedJson,
  textCodec,
  unitCodec,
  versionOfOne,
} from "../../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { Tx } from "../../../../../node/enclave/kv/tx.ts";
import { utf8, ZERO_KEY } from "../../../../../protocol/bytes.ts";

const table = { name: "public:t", key: textCodec, value: jsonCodec<{ n: number }>() };
const single = { name: "public:s", value: jsonCodec<string>() };

test("a table gives back what was set, under keys that are the text's bytes", () => {
  const store = new Store();
  const tx = new Tx(store);
  const rows = open(tx, table);
  rows.set("b", { n: 2 });
  rows.set("a", { n: 1 });
  expect(rows.get("a")).toEqual({ n: 1 });
  expect(rows.entries()).toEqual([
    ["a", { n: 1 }],
    ["b", { n: 2 }],
  ]);
  expect([rows.has("a"), rows.has("c"), rows.get("c")]).toEqual([true, false, undefined]);
  expect(
    [...(tx.writes().get("public:t") ?? [])].map(([key, value]) => [key, value && Buffer.from(value).toString()]),
  ).toEqual([
    ["a", '{"n":1}'],
    ["b", '{"n":2}'],
  ]);
  store.apply(1, tx.writes());
  expect(open(new Tx(store), table).versionOf("a")).toBe(1);
  const later = new Tx(store);
  open(later, table).delete("a");
  expect(open(later, table).entries()).toEqual([["b", { n: 2 }]]);
  open(later, table).clear();
  expect(open(later, table).entries()).toEqual([]);
});

test("a visit that returns false ends the iteration", () => {
  const tx = new Tx(new Store());
  for (const key of ["a", "b", "c"]) open(tx, table).set(key, { n: 1 });
  const visited: string[] = [];
  open(tx, table).forEach((key) => {
    visited.push(key);
    return key !== "b";
  });
  expect(visited).toEqual(["a", "b"]);
});

test("a singleton is one row under eight zero bytes", () => {
  const store = new Store();
  const tx = new Tx(store);
  expect([getOne(tx, single), versionOfOne(tx, single)]).toEqual([undefined, undefined]);
  setOne(tx, single, "text");
  expect(getOne(tx, single)).toBe("text");
  expect(tx.map("public:s").get(ZERO_KEY)).toEqual(utf8('"text"'));
  store.apply(1, tx.writes());
  expect(versionOfOne(new Tx(store), single)).toBe(1);
});

test("codecs spell values as CCF does", () => {
  expect(Buffer.from(unitCodec.encode(true)).toString("hex")).toBe("0000000000000000");
  expect(rawCodec.encode(utf8("x"))).toEqual(utf8("x"));
  expect(textCodec.encode("ü")).toEqual(Buffer.from("c3bc", "hex"));
  const codec = jsonCodec<unknown>();
  expect(Buffer.from(codec.encode({ b: 1, a: [{ d: 1, c: 2 }] })).toString()).toBe('{"a":[{"c":2,"d":1}],"b":1}');
  expect(codec.decode(utf8('{"a":1}'))).toEqual({ a: 1 });
});

describe("sorted JSON", () => {
  test.each([
    [{ 10: 1, 9: 2, a: 3 }, '{"10":1,"9":2,"a":3}'],
    [{ b: undefined, a: [undefined, null, 1.5, true, "x"] }, '{"a":[null,null,1.5,true,"x"]}'],
    [{ "a\n": '"' }, '{"a\\n":"\\""}'],
    [JSON.parse('{"__proto__":1,"a":2}'), '{"__proto__":1,"a":2}'],
    [null, "null"],
  ])("of %j is %s", (value, text) => {
    expect(sortedJson(value)).toBe(text);
  });

  test("says the same as JSON does, in an order of its own", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(sortedJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

test("built-in tables have names of their own, and all are public but none of the application's", () => {
  const names = Object.values(TABLES).map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^public:ccf\.(gov|internal)\./);
});
