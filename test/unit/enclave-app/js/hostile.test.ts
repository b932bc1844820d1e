/**
 * Hostile scripts: each ends within its limits, says why, and leaves an engine that works.
 *
 * The limits are small so that the tests are quick; what is shown does not depend on their size. Nothing here measures
 * time: a script that were not stopped would hang its test.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createInterpreter } from "../../../../enclave-app/interpreter.ts";
import type { GuestResult, Purpose } from "../../../../governance/enclave/interpreter.ts";
import { Store } from "../../../../node/enclave/kv/store.ts";
import { Tx } from "../../../../node/enclave/kv/tx.ts";
import type { Operations } from "../../../../node/enclave/service/operations.ts";
import { Broken, Fault } from "../../../../protocol/check.ts";
import { guestWorkerText, quickjsWasm } from "../engine.ts";

let interpreter: ReturnType<typeof createInterpreter>;
const logged: string[] = [];
let store: Store;

beforeAll(async () => {
  const parts = { workerText: await guestWorkerText(), wasm: quickjsWasm(), threads: 1 };
  const limits = { heapBytes: 24 * 1024 * 1024, stackBytes: 1024 * 1024, executionMs: 1000, graceMs: 500 };
  const log = (_: string, text: string) => void logged.push(text);
  interpreter = createInterpreter({ ...parts, limits, log, operations: {} as Operations });
  store = new Store();
  store.apply(1, new Map([["public:ccf.gov.members.info", new Map([["k", Buffer.from("v")]])]]));
});
afterAll(() => interpreter.close());

function run(body: string, purpose: Purpose = "ballot"): Promise<GuestResult> {
  const source = body.includes("export") ? body : `export function vote() { ${body} }`;
  return interpreter.call({ purpose, source, export: "vote", args: ["{}", "ab"], tx: new Tx(store) });
}

const stillWorks = async () => expect(await run("return 40 + 2")).toEqual({ ok: true, value: 42 });

describe("a script that does not end", () => {
  test.each<[string, string]>([
    ["loops", "for (;;);"],
    ["loops at its top level", "for (;;); export function vote() {}"],
    ["loops and catches what stops it", "for (;;) { try { for (;;); } catch {} finally { for (;;); } }"],
    ["stays in one built-in", "const s = 'a'.repeat(1e6); for (let n = 0; ; ) n += s.indexOf('b');"],
    ["stays in another", "return new Array(1_000_000_000) + '';"],
    ["matches a catastrophic pattern", "return /^(a+)+$/.test('a'.repeat(40) + 'b');"],
    ["loops where its error is described", "throw { toString() { for (;;); } };"],
    ["loops where its result is turned into JSON", "return { toJSON() { for (;;); } };"],
    ["loops in a getter of its exports", "const e = {}; export { e as vote }; for (;;);"],
    ["sorts with a comparison that loops", "[1, 2].sort(() => { for (;;); });"],
    ["calls the tables for ever", "for (;;) ccf.kv['public:ccf.gov.members.info'].get(new ArrayBuffer(1));"],
    ["loops in a constitution that it has checked", "ccf.gov.validateConstitution('for (;;);');"],
    ["iterates for ever", "function* g() { for (;;) yield 1; } for (const _ of g());"],
  ])("%s, and is stopped", async (_, body) => {
    expect(await run(body)).toMatchObject({ ok: false, why: "timeout" });
    await stillWorks();
  });
});

describe("a script that wants all memory", () => {
  test.each<[string, string]>([
    ["in large strings", "const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length);"],
    ["in small objects", "const a = []; for (;;) a.push({ n: 1 });"],
    ["in one buffer", "return new ArrayBuffer(1 << 30).byteLength;"],
    ["in typed arrays", "const a = []; for (;;) a.push(new Uint8Array(1 << 20));"],
    ["by doubling", "let s = 'x'; for (;;) s += s;"],
  ])("%s, does not get it", async (_, body) => {
    const result = await run(body);
    expect(result).toMatchObject({ ok: false });
    // What the engine makes of it differs: no memory, no string of that length, or no time.
    expect(["memory", "timeout", "exception", "crashed"]).toContain((result as { why: string }).why);
    await stillWorks();
  });

  test("a script may catch its lack of memory, and is still the only one that lacks it", async () => {
    await run("try { const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length); } catch { return 'caught'; }");
    await stillWorks();
  });
});

describe("a script that wants all of the stack", () => {
  test.each<[string, string]>([
    ["by recursion", "(function f() { f(); })();"],
    ["by reading a deep document", "return JSON.parse('['.repeat(200000));"],
    ["by a deep expression", `return ${"(".repeat(50_000)}1${")".repeat(50_000)};`],
    ["by the toString of its error", "throw { toString() { return String(this); } };"],
    ["by a proxy of itself", "const p = new Proxy({}, { get: (t, k, r) => r[k] }); return p.x;"],
  ])("%s, gets an error", async (_, body) => {
    const result = await run(body);
    expect(result.ok).toBe(false);
    expect(JSON.stringify(result)).toMatch(/stack overflow|took too long|cannot be described/);
    await stillWorks();
  });
});

describe("a script that breaks its own world", () => {
  test.each<[string, string, unknown]>([
    [
      "JSON",
      "JSON.parse = JSON.stringify = () => { throw 1; }; return ccf.bufToJsonCompatible(ccf.strToBuf('[1]'));",
      [1],
    ],
    ["Array.prototype.push", "Array.prototype.push = () => 0; return ccf.bufToStr(ccf.strToBuf('ok'));", "ok"],
    ["Reflect and Object", "Reflect.apply = Object.freeze = null; return ccf.bufToStr(ccf.strToBuf('ok'));", "ok"],
    ["ArrayBuffer", "globalThis.ArrayBuffer = null; return ccf.bufToStr(ccf.strToBuf('ok'));", "ok"],
    [
      "String.prototype",
      "String.prototype.startsWith = () => false; return ccf.kv['public:ccf.gov.members.info'].size;",
      1,
    ],
  ])("%s, breaks nothing of ours", async (_, body, value) => {
    expect(await run(body)).toEqual({ ok: true, value });
    await stillWorks();
  });

  test("finds no way out of it", async () => {
    const names =
      "['process', 'require', 'module', 'Worker', 'fetch', 'std', 'os', 'host', 'call', 'tools', 'Atomics']";
    expect(await run(`return ${names}.filter((name) => name in globalThis)`)).toEqual({ ok: true, value: [] });
    expect(await run("return (0, eval)('typeof process') + new Function('return typeof require')()")).toEqual({
      ok: true,
      value: "undefinedundefined",
    });
    expect(await run("import('fs'); return 1;")).toEqual({ ok: true, value: 1 });
    expect(await run("import fs from 'fs'; export function vote() {}")).toMatchObject({ ok: false, why: "exception" });
  });

  test("keeps nothing for the next run", async () => {
    await run("globalThis.kept = 1; Object.prototype.kept = 1; return 1;");
    expect(await run("return [typeof kept, typeof {}.kept]")).toEqual({ ok: true, value: ["undefined", "undefined"] });
  });

  test("cannot pass off something else as a buffer", async () => {
    for (const value of ["Object.setPrototypeOf({}, ArrayBuffer.prototype)", "new Uint8Array(4)", "'x'", "null"])
      expect(await run(`return ccf.bufToStr(${value})`)).toMatchObject({
        ok: false,
        reason: "TypeError: Argument must be an ArrayBuffer",
      });
  });

  test("cannot hand over more than a call may carry", async () => {
    const result = await run("return ccf.kv['public:ccf.gov.' + 'x'.repeat(1000)].size");
    expect(result).toMatchObject({ ok: false, reason: "RangeError: a table's name is longer than 512 characters" });
    expect(await run("return ccf.kv['public:ccf.gov.x'].has(new ArrayBuffer(1 << 17))")).toMatchObject({
      ok: false,
      reason: "RangeError: a key is larger than 65536 bytes",
    });
  });
});

describe("a script that only fails", () => {
  test.each<[string, string, object]>([
    ["does not parse", "export function vote( {", { why: "syntax" }],
    [
      "exports nothing",
      "export const other = 1",
      { why: "exception", reason: "the module exports no function named vote" },
    ],
    ["exports no function", "export const vote = 1", { why: "exception" }],
    ["throws an error", "throw new Error('no')", { why: "exception", reason: "Error: no" }],
    ["throws null", "throw null", { why: "exception", reason: "null" }],
    ["throws a symbol", "throw Symbol('s')", { why: "exception" }],
    ["throws at its top level", "throw new TypeError('no'); export function vote() {}", { reason: "TypeError: no" }],
    ["returns itself", "const a = []; a.push(a); return a;", { why: "exception" }],
    ["returns too much", "return 'x'.repeat(5 << 20);", { reason: /at most 4194304 characters/ }],
    ["returns a big integer", "return 1n;", { why: "exception" }],
  ])("%s: the answer says so", async (_, body, expected) => {
    const { reason, ...rest } = expected as { reason?: string | RegExp };
    const result = await run(body);
    expect(result).toMatchObject({ ok: false, ...rest });
    if (reason !== undefined) expect((result as { reason: string }).reason).toMatch(reason);
    await stillWorks();
  });

  test.each(["", "return undefined", "return () => 1", "return Symbol()"])(
    "%j is no value",
    async (body) => void expect(await run(body)).toEqual({ ok: true, value: undefined }),
  );
});

test("strings cross whole, whatever is in them", async () => {
  const text = "a\u0000b \ud83d\ude00 \u2028 é";
  const source = "export function vote(t) { return [t, ccf.bufToStr(ccf.strToBuf(t)), t.length]; }";
  const result = await interpreter.call({ purpose: "decide", source, export: "vote", args: [text], tx: new Tx(store) });
  expect(result).toEqual({ ok: true, value: [text, text, text.length] });
});

test("a log is bounded in lines and in their length", async () => {
  logged.length = 0;
  await run("for (let i = 0; i < 500; i++) console.log('x'.repeat(5000), i); return 1;");
  expect(logged).toHaveLength(100);
  expect(logged[0]).toHaveLength(1000);
});

test("time stands still unless a script asks for the host's clock", async () => {
  expect(
    await run("return [Date.now(), new Date().getTime(), +new Date(5), new (new Date().constructor)().getTime()]"),
  ).toEqual({
    ok: true,
    value: [0, 0, 5, 0],
  });
  expect(await run("ccf.enableUntrustedDateTime(true); return Date.now() > 1e12")).toEqual({ ok: true, value: true });
});

test("random numbers differ from run to run and lie in [0, 1)", async () => {
  const source = "return Array.from({ length: 50 }, () => Math.random())";
  const [a, b] = [await run(source), await run(source)] as { value: number[] }[];
  expect(a?.value).not.toEqual(b?.value);
  for (const value of a?.value ?? []) expect(value >= 0 && value < 1).toBe(true);
});

describe("what the node throws while it serves a script", () => {
  test.each([
    ["a conflict", new Fault({ code: "TxConflict", map: "m" })],
    ["a broken invariant", new Broken("no")],
  ])("%s ends the run and reaches the caller, not the script", async (_, error) => {
    const tx = {
      map: () => ({
        get: () => {
          throw error;
        },
      }),
    } as unknown as Tx;
    const source = `export function vote() { for (;;) { try { ccf.kv["public:ccf.gov.x"].get(new ArrayBuffer(1)); } catch {} } }`;
    await expect(interpreter.call({ purpose: "ballot", source, export: "vote", args: [], tx })).rejects.toBe(error);
    await stillWorks();
  });
});

test("more runs than threads wait for their turn, and the main thread goes on meanwhile", async () => {
  let turns = 0;
  const counting = setInterval(() => turns++, 1);
  const results = await Promise.all([run("for (;;);"), run("return 1"), run("return 2")]);
  clearInterval(counting);
  expect(results.map((result) => result.ok)).toEqual([false, true, true]);
  expect(turns).toBeGreaterThan(0);
});

test("ending the engine ends what still runs", async () => {
  const parts = { workerText: await guestWorkerText(), wasm: quickjsWasm(), threads: 1 };
  const limits = { heapBytes: 1 << 24, stackBytes: 1 << 20, executionMs: 60_000, graceMs: 1000 };
  const other = createInterpreter({ ...parts, limits, operations: {} as Operations });
  const call = { purpose: "ballot", export: "vote", args: [], tx: new Tx(store) } as const;
  const endless = other.call({ ...call, source: "export function vote() { for (;;); }" });
  const waiting = other.call({ ...call, source: "export function vote() {}" });
  await other.close();
  expect(await endless).toMatchObject({ ok: false, why: "crashed" });
  expect(await waiting).toMatchObject({ ok: false, why: "crashed" });
});
