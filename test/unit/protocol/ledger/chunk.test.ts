import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../../../../protocol/bytes.ts";
import {
  buildChunk,
  ChunkSplitter,
  chunkFileName,
  parseChunk,
  parseChunkFileName,
} from "../../../../protocol/ledger/chunk.ts";
import { ENTRY_FLAGS, encodeEntry, LedgerSecret } from "../../../../protocol/ledger/entry.ts";
import { codeOf } from "../codes.ts";

const secret = LedgerSecret.generate();

function entry(seqno: number, flags = 0, text = "x".repeat(seqno)): Buffer {
  return encodeEntry({ secret, seqno, view: 2, flags, writes: new Map([["m", new Map([["k", utf8(text)]])]]) }).bytes;
}

const entries = [1, 2, 3, 4].map((seqno) => entry(seqno));

describe("a chunk file", () => {
  test("begins with the offset of its table, whose first position is 8", () => {
    const bytes = buildChunk(entries);
    const table = Number(bytes.readBigUInt64LE(0));
    expect(table).toBe(8 + entries.reduce((sum, one) => sum + one.length, 0));
    expect(bytes.readUInt32LE(table)).toBe(8);
    expect(bytes.readUInt32LE(table + 4)).toBe(8 + entries[0]!.length);
    expect(bytes.length).toBe(table + 16);
  });

  test("there and back, closed and open", () => {
    expect(parseChunk(buildChunk(entries))).toEqual({ complete: true, entries, partialBytes: 0 });
    expect(parseChunk(buildChunk(entries, false))).toEqual({ complete: false, entries, partialBytes: 0 });
    expect(parseChunk(buildChunk([], false))).toEqual({ complete: false, entries: [], partialBytes: 0 });
  });

  test("that is open may end in part of an entry", () => {
    const bytes = buildChunk(entries, false);
    const whole = bytes.length - entries[3]!.length;
    for (let cut = 8; cut < bytes.length; cut++) {
      const chunk = parseChunk(bytes.subarray(0, cut));
      expect(Buffer.concat([...chunk.entries]).length + chunk.partialBytes).toBe(cut - 8);
      if (cut >= whole) expect(chunk.entries).toEqual(entries.slice(0, 3));
    }
  });

  test("that is closed is refused when it is cut anywhere but after a position", () => {
    const bytes = buildChunk(entries);
    for (let cut = 0; cut < bytes.length; cut++)
      expect(
        codeOf(() => parseChunk(bytes.subarray(0, cut))),
        `cut at ${cut}`,
      ).toMatch(/^Chunk/);
  });

  test("is refused with any byte of its head, an entry's size or its table changed", () => {
    const bytes = buildChunk(entries);
    const table = Number(bytes.readBigUInt64LE(0));
    const places = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, ...Array.from({ length: 16 }, (_, i) => table + i)];
    for (const at of places) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 0x04;
      expect(
        codeOf(() => parseChunk(changed)),
        `byte ${at}`,
      ).toMatch(/^(Chunk|Entry)/);
    }
  });

  test("of noise fails with a fault or holds no entry", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
        expect(codeOf(() => parseChunk(noise))).toMatch(/^(Chunk|Entry|accepted)/);
      }),
    );
  });
});

describe("a chunk's name", () => {
  test.each([
    ["ledger_1-14.committed", { first: 1, last: 14, committed: true, recovery: false }],
    ["ledger_15", { first: 15, last: undefined, committed: false, recovery: false }],
    ["ledger_15-16", { first: 15, last: 16, committed: false, recovery: false }],
    ["ledger_15-46.committed.recovery", { first: 15, last: 46, committed: true, recovery: true }],
    ["ledger_15.recovery", { first: 15, last: undefined, committed: false, recovery: true }],
  ])("%s", (name, parts) => {
    expect(parseChunkFileName(name)).toEqual(parts);
    expect(chunkFileName(parts)).toBe(name);
  });

  test.each([
    "",
    "ledger",
    "ledger_",
    "ledger_0",
    "ledger_01",
    "ledger_5-4",
    "ledger_5.committed",
    "ledger_1-2.ignored",
    "ledger_1-2.committed.tmp",
    "x/ledger_1",
    "ledger_99999999999999999",
  ])("%j is refused", (name) => {
    expect(codeOf(() => parseChunkFileName(name))).toBe("ChunkNameUnknown");
  });
});

describe("a ledger is cut into chunks", () => {
  const flags = [0, ENTRY_FLAGS.closeAfter, 0, 0, ENTRY_FLAGS.closeBefore, ENTRY_FLAGS.closeAfter, 0];
  const ledger = flags.map((flag, i) => entry(i + 1, flag));
  const cut = (how: "open" | "committed") => {
    const splitter = new ChunkSplitter();
    const done = ledger.flatMap((one) => splitter.add(one));
    const rest = splitter.finish(how);
    expect(splitter.finish(how)).toBeUndefined();
    return rest === undefined ? done : [...done, rest];
  };

  test("after and before the entries that say so", () => {
    expect(cut("open").map(({ name }) => name)).toEqual([
      "ledger_1-2.committed",
      "ledger_3-4.committed",
      "ledger_5-6.committed",
      "ledger_7",
    ]);
    expect(cut("committed").at(-1)?.name).toBe("ledger_7-7.committed");
  });

  test("that hold all its entries", () => {
    for (const how of ["open", "committed"] as const) {
      const chunks = cut(how);
      expect(chunks.flatMap(({ bytes }) => parseChunk(bytes).entries)).toEqual(ledger);
      for (const { name, first, last, bytes } of chunks) {
        expect(parseChunkFileName(name).first).toBe(first);
        expect(parseChunk(bytes).entries.length).toBe(last - first + 1);
        expect(parseChunk(bytes).complete).toBe(name.endsWith(".committed"));
      }
    }
  });

  test("an entry that closes before and after itself makes two chunks at once", () => {
    const splitter = new ChunkSplitter(5);
    splitter.add(entry(5));
    expect(splitter.add(entry(6, 3)).map(({ name }) => name)).toEqual(["ledger_5-5.committed", "ledger_6-6.committed"]);
  });
});
