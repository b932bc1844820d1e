import { describe, expect, test } from "vitest";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { Tx } from "../../../../../node/enclave/kv/tx.ts";
import { Ledger, type LedgerFault } from "../../../../../node/enclave/ledger/ledger.ts";
import { LedgerSecrets } from "../../../../../node/enclave/ledger/secrets.ts";
import { equal, utf8, ZERO_KEY } from "../../../../../protocol/bytes.ts";
import { isFault } from "../../../../../protocol/check.ts";
import { decodeHeader, LedgerSecret } from "../../../../../protocol/ledger/entry.ts";
import { keyText, type WriteSet } from "../../../../../protocol/ledger/write-set.ts";

const secrets = new LedgerSecrets([{ from: 1, secret: new LedgerSecret(Buffer.alloc(32, 7)) }]);
const ledger = (chunkBytes = 1_000_000) => new Ledger(secrets, chunkBytes);

function writes(key: string, value: string, map = "records"): WriteSet {
  return new Map([[map, new Map([[keyText(utf8(key)), utf8(value)]])]]);
}

/** What a signature transaction writes, with made-up signatures. */
function signature(tree: Uint8Array): WriteSet {
  const one = keyText(ZERO_KEY);
  return new Map([
    [TABLES.coseSignatures.name, new Map([[one, utf8('"AA=="')]])],
    [TABLES.signatures.name, new Map([[one, utf8("{}")]])],
    [TABLES.tree.name, new Map([[one, tree]])],
  ]);
}

function valueIn(of: Ledger, key: string): string | undefined {
  const value = new Tx(of.store).map("records").get(utf8(key));
  return value === undefined ? undefined : Buffer.from(value).toString();
}

describe("the leader's ledger", () => {
  test("entries behind a pending signature become complete with it, in the order of their seqnos", () => {
    const it = ledger();
    expect(it.append(2, writes("a", "1"), undefined).ready.length).toBe(1);
    const signable = it.beginSignature();
    expect(signable.seqno).toBe(2);
    expect(it.append(2, writes("b", "2"), undefined)).toEqual({ seqno: 3, ready: [] });
    expect(it.append(2, writes("a", "3"), undefined).seqno).toBe(4);
    expect(it.lastComplete).toBe(1);
    expect(valueIn(it, "a")).toBe("3");

    const ready = it.completeSignature(2, signable, signature(signable.tree));
    expect(ready.map(({ info }) => [info.seqno, info.committable])).toEqual([
      [2, true],
      [3, false],
      [4, false],
    ]);
    expect(it.lastComplete).toBe(4);
    expect(it.unsigned).toBe(2);
  });

  test("a backup that receives the same bytes has the same roots and the same state", () => {
    const leader = ledger();
    const backup = ledger();
    const sent: Uint8Array[] = [];
    const keep = (entries: readonly { bytes: Uint8Array }[]) => sent.push(...entries.map(({ bytes }) => bytes));
    keep(leader.append(2, writes("a", "1"), undefined).ready);
    keep(leader.append(2, writes("b", "public", "public:notes"), undefined).ready);
    const signable = leader.beginSignature();
    leader.append(2, writes("c", "2"), undefined);
    keep(leader.completeSignature(2, signable, signature(signable.tree)));

    const received = sent.map((bytes, i) => backup.receive(bytes, i + 1, 2));
    expect(received[2]?.signable?.root).toEqual(signable.root);
    for (let seqno = 0; seqno <= 4; seqno++)
      expect(equal(backup.rootAt(seqno) ?? Buffer.alloc(0), leader.rootAt(seqno) ?? Buffer.alloc(1))).toBe(true);
    expect(valueIn(backup, "c")).toBe("2");
  });

  test("rolling back undoes state, tree and a pending signature", () => {
    const it = ledger();
    it.append(2, writes("a", "1"), undefined);
    const root = it.rootAt(1);
    it.append(2, writes("a", "2"), undefined);
    it.beginSignature();
    it.append(2, writes("b", "3"), undefined);
    it.rollback(1);
    expect([it.lastComplete, it.signaturePending, it.store.version]).toEqual([1, false, 1]);
    expect([valueIn(it, "a"), valueIn(it, "b")]).toEqual(["1", undefined]);
    expect(it.rootAt(1)).toEqual(root);
    expect(it.append(3, writes("a", "4"), undefined).seqno).toBe(2);
  });

  test("the signature that fills a chunk says so, and counting begins again", () => {
    const it = ledger(2000);
    const flags: number[] = [];
    for (let round = 0; round < 6; round++) {
      it.append(2, writes("a", "x".repeat(500)), undefined);
      const signable = it.beginSignature();
      const [signed] = it.completeSignature(2, signable, signature(signable.tree));
      flags.push(decodeHeader(signed?.bytes ?? Buffer.alloc(0)).flags);
    }
    expect(flags.filter((flag) => flag === 1).length).toBeGreaterThan(1);
    expect(flags[0]).toBe(0);
  });
});

describe("a backup's ledger", () => {
  test.each([
    ["another seqno", 2, 2],
    ["another view", 1, 3],
  ])("refuses an entry for %s and stays as it was", (_, seqno, view) => {
    const { ready } = ledger().append(2, writes("a", "1"), undefined);
    const backup = ledger();
    if (seqno === 2) backup.append(2, writes("z", "0"), undefined);
    const before = backup.store.version;
    try {
      backup.receive(ready[0]?.bytes ?? Buffer.alloc(0), seqno, view);
      expect.unreachable();
    } catch (error) {
      expect(isFault(error, "EntryRefused" satisfies LedgerFault["code"])).toBe(true);
    }
    expect(backup.store.version).toBe(before);
  });

  test("refuses a signature table beside others", () => {
    const leader = ledger();
    const mixed = new Map([...writes("a", "1"), ...signature(Buffer.alloc(8))]);
    const sorted = new Map([...mixed].sort(([a], [b]) => (a < b ? -1 : 1)));
    const { ready } = leader.append(2, sorted, undefined);
    expect(() => ledger().receive(ready[0]?.bytes ?? Buffer.alloc(0), 1, 2)).toThrow(/nothing else/);
  });

  test("a stored entry that the host changed is found out", () => {
    const it = ledger();
    const bytes = Buffer.from(it.append(2, writes("a", "1"), undefined).ready[0]?.bytes ?? []);
    it.checkStored(bytes, 1, 2);
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    expect(() => it.checkStored(bytes, 1, 2)).toThrow();
  });
});
