import { createHash, X509Certificate } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serveGuest } from "../../../../enclave-app/ccf/globals.ts";
import { accessOf, isReserved, refusal } from "../../../../enclave-app/ccf/permissions.ts";
import { createInterpreter } from "../../../../enclave-app/interpreter.ts";
import { GuestError } from "../../../../enclave-app/js/sync-call.ts";
import type { GuestResult, Purpose } from "../../../../governance/enclave/interpreter.ts";
import { Store } from "../../../../node/enclave/kv/store.ts";
import { Tx } from "../../../../node/enclave/kv/tx.ts";
import type { Operations } from "../../../../node/enclave/service/operations.ts";
import { Fault } from "../../../../protocol/check.ts";
import { generateEcKey } from "../../../../protocol/crypto/keys.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";
import { createCsr, endorse, selfSigned } from "../../../../protocol/crypto/x509.ts";
import { guestWorkerText, quickjsWasm } from "../engine.ts";

const PURPOSES: readonly Purpose[] = ["decide", "ballot", "apply"];
const INFO = "public:ccf.gov.members.info";

let interpreter: ReturnType<typeof createInterpreter>;
const store = new Store();
const asked: string[] = [];

beforeAll(async () => {
  const operations: Operations = {
    rootAt: () => Promise.resolve(new Uint8Array(32)),
    transitionServiceToOpen: (_tx, previous, next) => void asked.push(`open ${previous} ${next}`),
    endorseCertificate(_tx, csr, from, days) {
      if (days > 10) throw new Fault({ code: "ValidityInvalid" }, `not for ${days} days`);
      return `${csr} ${from} ${days}`;
    },
    refreshRecoveryShares: () => void asked.push("refresh"),
    latestLedgerSecretSeqno: () => 7,
  };
  interpreter = createInterpreter({ operations, workerText: await guestWorkerText(), wasm: quickjsWasm(), threads: 2 });
  store.apply(
    1,
    new Map([
      [
        INFO,
        new Map([
          ["a", Buffer.from('{"n":1}')],
          ["b", Buffer.from('{"n":2}')],
        ]),
      ],
      ["private", new Map([["a", Buffer.from("secret")]])],
    ]),
  );
});
afterAll(() => interpreter.close());

function evaluate(expression: string, purpose: Purpose = "decide", tx = new Tx(store)): Promise<GuestResult> {
  const source = `const buf = (text) => ccf.strToBuf(text); const str = (b) => b === undefined ? undefined : ccf.bufToStr(b);
    export function f() { ${expression.includes("return") ? expression : `return ${expression}`} }`;
  return interpreter.call({ purpose, source, export: "f", args: [], tx });
}

async function value(expression: string, purpose?: Purpose, tx?: Tx): Promise<unknown> {
  const result = await evaluate(expression, purpose, tx);
  if (!result.ok) throw new Error(`${result.reason}\n${result.trace}`);
  return result.value;
}

async function reason(expression: string, purpose?: Purpose): Promise<string> {
  const result = await evaluate(expression, purpose);
  return result.ok ? "no error" : result.reason;
}

describe("which tables a script may touch", () => {
  // Reference ccf-api-governance.md 5.2.
  test.each<[string, string, string]>([
    ["public:ccf.internal.signatures", "read-only", "read-only"],
    ["public:ccf.gov.members.info", "read-only", "read-write"],
    ["public:records", "inaccessible", "write-only"],
    ["records", "inaccessible", "inaccessible"],
    ["ccf.gov.x", "inaccessible", "inaccessible"],
    ["ccf.internal.x", "inaccessible", "inaccessible"],
    ["ccf.other", "inaccessible", "inaccessible"],
    ["public:ccf.other", "inaccessible", "inaccessible"],
    ["PUBLIC:ccf.gov.members.info", "inaccessible", "inaccessible"],
    ["public:ccf.govx", "inaccessible", "inaccessible"],
    ["", "inaccessible", "inaccessible"],
  ])("%j: decided by %s, applied to %s", (table, deciding, applying) => {
    expect(accessOf(table, "decide")).toBe(deciding);
    expect(accessOf(table, "ballot")).toBe(deciding);
    expect(accessOf(table, "apply")).toBe(applying);
  });

  test("only names below ccf. that are neither gov nor internal are reserved", () => {
    expect(["ccf.x", "public:ccf.x", "public:ccf.govx"].every(isReserved)).toBe(true);
    expect(["ccf.gov.x", "public:ccf.internal.x", "ccfx", "public:x", ""].some(isReserved)).toBe(false);
  });

  test("a refusal is in CCF's words", () => {
    expect(refusal("set", INFO, "ballot")).toBe(
      `Cannot call set on table named ${INFO}. This table is read-only in current (read-only governance) execution context. ` +
        "See https://microsoft.github.io/CCF/main/audit/read_write_restrictions.html for more detail.",
    );
    expect(refusal("get", "public:records", "apply")).toMatch(/write-only in current \(read-write governance\)/);
    expect(refusal("get", INFO, "ballot")).toBeUndefined();
    expect(refusal("__proto__", INFO, "apply")).toBeDefined();
  });

  const readers = [
    "has(buf('a'))",
    "get(buf('a'))",
    "getVersionOfPreviousWrite(buf('a'))",
    "forEach(() => {})",
    "size",
  ];
  const writers = ["set(buf('a'), buf('b'))", "delete(buf('a'))", "clear()"];

  test.each(PURPOSES)("every method asks before it acts, for %s", async (purpose) => {
    for (const table of ["private", "ccf.gov.x", "PUBLIC:x"])
      for (const method of [...readers, ...writers])
        expect(await reason(`ccf.kv["${table}"].${method}`, purpose)).toMatch(
          /^TypeError: Cannot call .* inaccessible/,
        );
    for (const method of writers)
      expect(await reason(`ccf.kv["public:ccf.internal.tree"].${method}`, purpose)).toMatch(/read-only/);
    for (const method of readers) {
      const words = purpose === "apply" ? /write-only/ : /inaccessible/;
      expect(await reason(`ccf.kv["public:records"].${method}`, purpose)).toMatch(words);
    }
    for (const method of writers)
      if (purpose === "apply")
        expect(await reason(`ccf.kv["public:records"].${method}; return 1`, purpose)).toBe("no error");
      else expect(await reason(`ccf.kv["${INFO}"].${method}`, purpose)).toMatch(/read-only/);
  });

  test("a reserved table cannot even be opened", async () => {
    expect(await reason('ccf.kv["public:ccf.x"]')).toMatch(/^TypeError: .*reserved/);
    expect(await reason('ccf.kv["ccf.x"]', "apply")).toMatch(/reserved/);
  });

  test("the main thread decides, whatever the script made of its side", () => {
    const tx = new Tx(store);
    const serve = serveGuest("ballot", tx, {} as Operations);
    const key = new Uint8Array([1]);
    expect(() => serve("kv.set", [INFO, key, key])).toThrow(/read-only/);
    expect(() => serve("kv.get", ["private", key])).toThrow(/inaccessible/);
    expect(() => serve("kv.get", [INFO, "a"])).toThrow("a key must be an ArrayBuffer");
    expect(() => serve("kv.get", [INFO])).toThrow(GuestError);
    expect(() => serve("kv.get", [undefined, key])).toThrow("a table's name must be a string");
    for (const name of ["node.open", "node.refreshShares", "network.endorse", "constructor", "__proto__", "kv"])
      expect(() => serve(name, [])).toThrow(GuestError);
    expect(tx.writes().size).toBe(0);
  });
});

describe("ccf.kv", () => {
  test("reads, iterates and counts", async () => {
    expect(
      await value(`[str(ccf.kv["${INFO}"].get(buf("a"))), ccf.kv["${INFO}"].get(buf("z")) === undefined]`),
    ).toEqual(['{"n":1}', true]);
    expect(
      await value(`const seen = []; const returned = ccf.kv["${INFO}"].forEach((v, k, map) => seen.push([str(k), str(v), map.size]));
      return [seen, returned === undefined]`),
    ).toEqual([
      [
        ["a", '{"n":1}', 2],
        ["b", '{"n":2}', 2],
      ],
      true,
    ]);
    expect(
      await value(`[ccf.kv["${INFO}"].has(buf("a")), ccf.kv["${INFO}"].has(buf("z")), ccf.kv["${INFO}"].size]`),
    ).toEqual([true, false, 2]);
    expect(
      await value(
        `[ccf.kv["${INFO}"].getVersionOfPreviousWrite(buf("a")), ccf.kv["${INFO}"].getVersionOfPreviousWrite(buf("z")) === undefined]`,
      ),
    ).toEqual([1, true]);
  });

  test("writes into the transaction and nowhere else", async () => {
    const tx = new Tx(store);
    expect(
      await value(
        `const map = ccf.kv["${INFO}"];
         const chained = map.set(buf("c"), buf("3")) === map;
         map.delete(buf("a")); map.delete(buf("never"));
         let visited = 0; map.forEach((v, k, m) => { visited++; m.set(buf("later" + visited), buf("")); });
         return [chained, str(map.get(buf("c"))), map.has(buf("a")), visited, map.size, map.getVersionOfPreviousWrite(buf("c")) === undefined]`,
        "apply",
        tx,
      ),
    ).toEqual([true, "3", false, 2, 4, true]);
    expect([...(tx.writes().get(INFO)?.keys() ?? [])]).toEqual(["a", "c", "later1", "later2"]);
    expect(store.version).toBe(1);
  });

  test("clears", async () => {
    const tx = new Tx(store);
    expect(await value(`const map = ccf.kv["${INFO}"]; map.clear(); return map.size`, "apply", tx)).toBe(0);
    expect(tx.writes().get(INFO)?.size).toBe(2);
  });

  test("a table of any size is visited as it was when the visit began", async () => {
    const large = new Store();
    const row = (n: number) => [`key ${String(n).padStart(2, "0")}`, Buffer.alloc(1 << 20, n)] as const;
    large.apply(1, new Map([[INFO, new Map(Array.from({ length: 40 }, (_, n) => row(n)))]]));
    const visit = `const seen = [];
      ccf.kv["${INFO}"].forEach((v, k, map) => {
        seen.push(new Uint8Array(v)[0] + v.byteLength);
        map.clear();
      });
      return [seen.length, seen.every((each, i) => each === i + (1 << 20)), ccf.kv["${INFO}"].size];`;
    expect(await value(visit, "apply", new Tx(large))).toEqual([40, true, 0]);
  });

  test("visits may be nested and given up, but not without bound", async () => {
    expect(
      await value(`let n = 0; const map = ccf.kv["${INFO}"];
        for (let i = 0; i < 100; i++) try { map.forEach(() => { throw 1; }); } catch { n++; }
        map.forEach(() => map.forEach(() => n++));
        return n`),
    ).toBe(104);
    expect(await reason(`(function f() { ccf.kv["${INFO}"].forEach(f); })()`)).toBe(
      "RangeError: too many tables are being visited at once",
    );
    const serve = serveGuest("ballot", new Tx(store), {} as Operations);
    expect(() => serve("kv.page", [1])).toThrow("no table is being visited");
    expect(() => serve("kv.page", ["x"])).toThrow(GuestError);
  });

  test("an error in a callback ends the iteration and reaches the script", async () => {
    expect(await reason(`ccf.kv["${INFO}"].forEach(() => { throw new RangeError("stop"); })`)).toBe("RangeError: stop");
  });

  test.each([
    ["get()", "TypeError: Passed 0 arguments, but expected 1"],
    ['get(buf("a"), 1)', "TypeError: Passed 2 arguments, but expected 1"],
    ['set(buf("a"))', "TypeError: Passed 1 arguments, but expected 2"],
    ['get("a")', "TypeError: Argument must be an ArrayBuffer"],
    ["get(new Uint8Array(1))", "TypeError: Argument must be an ArrayBuffer"],
    ['set(buf("a"), "b")', "TypeError: Arguments must be ArrayBuffers"],
    ["clear(1)", "TypeError: Passed 1 arguments, but expected 0"],
    ["forEach(1)", "TypeError: Argument must be a function"],
  ])("%s is refused in CCF's words", async (call, expected) => {
    expect(await reason(`ccf.kv["${INFO}"].${call}`, "apply")).toBe(expected);
  });

  test("has no names to list and cannot be assigned to", async () => {
    expect(await value("Object.keys(ccf.kv)")).toEqual([]);
    expect(await reason("return (ccf.kv.x = 1)")).toMatch(/^TypeError/);
    expect(await reason("return (ccf.kv = 1)")).toMatch(/^TypeError/);
  });
});

describe("converters", () => {
  const { certificatePem, id } = createParticipant({ name: "someone", validFrom: new Date() });

  test("turn text, JSON and certificates into bytes and ids", async () => {
    expect(await value("[...new Uint8Array(ccf.strToBuf('é'))]")).toEqual([0xc3, 0xa9]);
    expect(await value("ccf.bufToStr(new Uint8Array([0xc3, 0xa9]).buffer)")).toBe("é");
    expect(await value("ccf.bufToStr(ccf.jsonCompatibleToBuf({ a: [1, null, 'x'] }))")).toBe('{"a":[1,null,"x"]}');
    expect(await value(`ccf.bufToJsonCompatible(buf('{"a":1}'))`)).toEqual({ a: 1 });
    expect(await value(`ccf.pemToId(${JSON.stringify(certificatePem)})`)).toBe(id);
  });

  test.each([
    ["strToBuf(1)", "TypeError: Argument must be a string"],
    ["strToBuf()", "TypeError: Passed 0 arguments, but expected 1"],
    ["bufToStr('x')", "TypeError: Argument must be an ArrayBuffer"],
    ["jsonCompatibleToBuf(() => 1)", "TypeError: Argument must be a JSON-compatible value"],
    ["pemToId('x')", "InternalError: expected one PEM block that begins with -----BEGIN CERTIFICATE-----"],
  ])("%s is refused", async (call, expected) => {
    expect(await reason(`ccf.${call}`)).toBe(expected);
  });

  test("text that is not JSON is a SyntaxError", async () => {
    expect(await reason("ccf.bufToJsonCompatible(buf('{'))")).toMatch(/^SyntaxError/);
  });
});

describe("ccf.crypto", () => {
  const now = new Date();
  const root = generateEcKey("P-384").privateKey;
  const rootPem = selfSigned({ subjectName: "CN=root", key: root, validFrom: now, days: 5 });
  const leafKey = generateEcKey("P-256").privateKey;
  const leafPem = endorse({
    csr: createCsr({ subjectName: "CN=leaf", key: leafKey, sans: [] }),
    issuerCertificatePem: rootPem,
    issuerKey: root,
    validFrom: now,
    days: 3,
  });
  const strangerPem = selfSigned({
    subjectName: "CN=root",
    key: generateEcKey("P-384").privateKey,
    validFrom: now,
    days: 5,
  });
  const oldPem = selfSigned({ subjectName: "CN=old", key: root, validFrom: new Date("2001-01-01"), days: 1 });
  const chain = (target: string, trusted: string) =>
    value(`ccf.crypto.isValidX509CertChain(${JSON.stringify(target)}, ${JSON.stringify(trusted)})`);
  const bundle = (pem: string) => value(`ccf.crypto.isValidX509CertBundle(${JSON.stringify(pem)})`);

  test("digests", async () => {
    const expected = [...createHash("sha256").update("abc").digest()];
    expect(await value("[...new Uint8Array(ccf.crypto.digest('SHA-256', buf('abc')))]")).toEqual(expected);
    expect(await reason("ccf.crypto.digest('MD5', buf('abc'))")).toMatch(/^RangeError/);
  });

  test("knows bundles of certificates", async () => {
    expect(await bundle(rootPem)).toBe(true);
    expect(await bundle(rootPem + leafPem)).toBe(true);
    for (const wrong of ["", "x", rootPem.slice(0, -40), `${rootPem}x`, rootPem.replace(/[A-Z]{4}/, "AAAA")])
      expect(await bundle(wrong)).toBe(false);
  });

  test("follows chains to a trusted certificate", async () => {
    expect(new X509Certificate(rootPem).ca).toBe(true);
    expect(await chain(leafPem, rootPem)).toBe(true);
    expect(await chain(rootPem, rootPem)).toBe(true);
    expect(await chain(leafPem, strangerPem)).toBe(false);
    expect(await chain(leafPem, leafPem)).toBe(false);
    expect(await chain(oldPem, oldPem)).toBe(false);
    expect(await chain("x", rootPem)).toBe(false);
  });

  test("turns RSA keys into JWKs and back, and refuses others", async () => {
    const { generateKeyPairSync } = await import("node:crypto");
    const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = publicKey.export({ type: "spki", format: "pem" }).toString();
    expect(await value(`ccf.crypto.pubRsaPemToJwk(${JSON.stringify(pem)}, "k")`)).toEqual({
      ...publicKey.export({ format: "jwk" }),
      kid: "k",
    });
    expect(await value(`ccf.crypto.pubRsaJwkToPem(ccf.crypto.pubRsaPemToJwk(${JSON.stringify(pem)}))`)).toBe(pem);
    expect(await reason("ccf.crypto.pubRsaPemToJwk('x')")).toMatch(/^InternalError/);
    expect(await reason("ccf.crypto.pubRsaJwkToPem({ kty: 'EC' })")).toMatch(/^TypeError/);
  });
});

describe("ccf.node and ccf.network", () => {
  test("exist for apply alone", async () => {
    for (const purpose of ["decide", "ballot"] as const)
      expect(await value("[typeof ccf.node, typeof ccf.network]", purpose)).toEqual(["undefined", "undefined"]);
    expect(await value("[typeof ccf.node, typeof ccf.network, typeof ccf.node.shuffleSealedShares]", "apply")).toEqual([
      "object",
      "object",
      "undefined",
    ]);
  });

  test("reach the node's operations", async () => {
    asked.length = 0;
    await value("ccf.node.transitionServiceToOpen(undefined, buf('next'))", "apply");
    await value("ccf.node.transitionServiceToOpen(buf('previous'), buf('next'))", "apply");
    await value("ccf.node.triggerRecoverySharesRefresh()", "apply");
    expect(asked).toEqual(["open undefined next", "open previous next", "refresh"]);
    expect(await value("ccf.network.getLatestLedgerSecretSeqno()", "apply")).toBe(7);
    expect(await value("ccf.network.generateEndorsedCertificate('csr', 'from', 9)", "apply")).toBe("csr from 9");
  });

  test("hand a refusal of the node to the script", async () => {
    expect(await reason("ccf.network.generateEndorsedCertificate('csr', 'from', 11)", "apply")).toBe(
      "InternalError: not for 11 days",
    );
    expect(await reason("ccf.node.transitionServiceToOpen(buf('next'))", "apply")).toBe(
      "TypeError: Passed 1 arguments, but expected 2",
    );
    expect(await reason("ccf.network.generateEndorsedCertificate('csr', 1, 9)", "apply")).toBe(
      "TypeError: valid from argument is not a string",
    );
  });

  test.each([
    "node.triggerLedgerRekey()",
    "node.triggerLedgerChunk()",
    "node.triggerSnapshot()",
    "network.generateNetworkCertificate('x', 1)",
  ])("%s says that it is not there yet", async (call) => {
    expect(await reason(`ccf.${call}`, "apply")).toMatch(/^InternalError: .* is not available in this release$/);
  });
});
