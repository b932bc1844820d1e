import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { concat, utf8 } from "../../../../protocol/bytes.ts";
import { sha256, sha256Hex } from "../../../../protocol/crypto/hash.ts";
import { decodeMaps } from "../../../../protocol/ledger/domain.ts";
import {
  decodeHeader,
  ENTRY_BYTES_MAX,
  ENTRY_FLAGS,
  encodeEntry,
  entryTxId,
  LedgerSecret,
  openEntry,
  readPublic,
  splitEntries,
} from "../../../../protocol/ledger/entry.ts";
import type { WriteSet } from "../../../../protocol/ledger/write-set.ts";
import { codeOf } from "../codes.ts";

// Entry 2.17 of a service that CCF itself ran; see test/vectors/README.md.
const SECRET = hex("d917951c0773a06148d2ff5bf0c984d075fdceb601255157ac004bb53b351079");
const ENTRY = hex(
  "0100bb0000000000" +
    "67b30d330439b435fcd37fd402addd90" +
    "110000000000000002000000" +
    "5100000000000000" +
    "041100000000000000" +
    "0000000000000000000000000000000000000000000000000000000000000000" +
    "266ee6ffc4bd003458c67798796e06e07ee60c105c3fddeabdf831dca3572b78" +
    "0000000000000000" +
    "d0575ea51389082b5384f1a6d6687dd5c47fd010e7f45e60cde4ec13609ff144981837" +
    "ad3823855b1e8fd3e453b907752957c335e40c659d7b3270fe87db64f87cdb12b232c1",
);
const WRITE_SET_DIGEST = "c5496af8ff336bca85edc3ee95843622b16b0d08296d7f43674e65cfb6d07980";
const LEAF = "520d2e9a61bac7ea344c60b5c31563cd2f6ce3474e8680d44029e8cad13a9aaa";
const EVIDENCE = "ce:2.17:c6b549e9831683c505c6b39792b47f6f3a8897384090dbab705c349182ece503";
const WRITES: WriteSet = new Map([["records", new Map([["42", utf8("hello")]])]]);

const secret = new LedgerSecret(SECRET);

function hex(text: string): Buffer {
  return Buffer.from(text, "hex");
}

/** An entry whose public domain is given, made without the code under test. */
function forge(publicDomain: Uint8Array, privateDomain: Uint8Array, seqno = 17, view = 2): Buffer {
  const iv = Buffer.alloc(12);
  iv.writeBigUInt64LE(BigInt(seqno), 0);
  iv.writeUInt32LE(view, 8);
  const cipher = createCipheriv("aes-256-gcm", SECRET, iv);
  cipher.setAAD(publicDomain);
  const ciphertext = Buffer.concat([cipher.update(privateDomain), cipher.final()]);
  const rest = concat([cipher.getAuthTag(), iv, lp64(publicDomain), ciphertext]);
  const header = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
  header.writeUIntLE(rest.length, 2, 6);
  return concat([header, rest]);
}

function lp64(bytes: Uint8Array): Buffer {
  return concat([u64(bytes.length), bytes]);
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function evidenceDigest(seqno = 17, view = 2): Buffer {
  const commitSecret = createHmac("sha256", SECRET).update("Commit S").digest();
  const nonce = createHmac("sha256", commitSecret).update(`${view}.${seqno}`).digest("hex");
  return sha256(utf8(`ce:${view}.${seqno}:${nonce}`));
}

function publicDomain(maps: Uint8Array, type = 4, seqno = 17): Buffer {
  const digests = type === 4 ? [Buffer.alloc(32), evidenceDigest(seqno)] : type === 3 ? [evidenceDigest(seqno)] : [];
  return concat([Buffer.from([type]), u64(seqno), ...digests, u64(0), maps]);
}

type Row = readonly [string, string | undefined];

function map(name: string, rows: readonly Row[], reads = 0): Buffer {
  const sets = rows.filter(([, value]) => value !== undefined);
  const removes = rows.filter(([, value]) => value === undefined);
  return concat([
    lp64(utf8(name)),
    u64(0),
    u64(reads),
    u64(sets.length),
    ...sets.flatMap(([key, value]) => [lp64(utf8(key)), lp64(utf8(value ?? ""))]),
    u64(removes.length),
    ...removes.map(([key]) => lp64(utf8(key))),
  ]);
}

function plain(writes: WriteSet) {
  return [...writes].map(([name, keys]) => [name, [...keys].map(([key, value]) => [key, value && Buffer.from(value)])]);
}

describe("the recorded entry 2.17", () => {
  test("is what we write, byte for byte", () => {
    const { bytes, leaf } = encodeEntry({ secret, view: 2, seqno: 17, writes: WRITES });
    expect(bytes.toString("hex")).toBe(ENTRY.toString("hex"));
    expect(leaf.toString("hex")).toBe(LEAF);
  });

  test("opens to its one private write", () => {
    const opened = openEntry(ENTRY, secret);
    expect(plain(opened.writes)).toEqual([["records", [["42", Buffer.from("hello")]]]]);
    expect(opened).toMatchObject({ seqno: 17, view: 2, flags: 0 });
    expect(opened.leaf.toString("hex")).toBe(LEAF);
  });

  test("shows its digests and no private write to one without the secret", () => {
    const entry = readPublic(ENTRY);
    expect(entry.writes.size).toBe(0);
    expect(entry.hasPrivate).toBe(true);
    expect(Buffer.from(entry.writeSetDigest).toString("hex")).toBe(WRITE_SET_DIGEST);
    expect(entry.leaf.toString("hex")).toBe(LEAF);
    expect(entryTxId(ENTRY)).toEqual({ view: 2, seqno: 17 });
    expect(decodeHeader(ENTRY)).toEqual({ flags: 0, sizeBytes: ENTRY.length });
  });

  test("has the recorded commit evidence, and its digest in clear", () => {
    expect(secret.commitEvidence({ view: 2, seqno: 17 })).toBe(EVIDENCE);
    expect(readPublic(ENTRY).commitEvidenceDigest).toEqual(sha256(utf8(EVIDENCE)));
  });
});

test("commit evidence under a synthetic secret is as recorded", () => {
  const other = new LedgerSecret(Uint8Array.from({ length: 32 }, (_, i) => i));
  expect(other.commitEvidence({ view: 2, seqno: 17 })).toBe(
    "ce:2.17:ab019227941bea5639a7afb7d46e7972b24066e7beae25b7ff290d77572b2209",
  );
});

const key = fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes).toString("latin1"));
const value = fc.option(fc.uint8Array({ maxLength: 40 }), { nil: undefined });
const keys = fc.uniqueArray(fc.tuple(key, value), { minLength: 1, maxLength: 6, selector: ([k]) => k });
const mapName = fc
  .tuple(fc.constantFrom("public:", "", "public:ccf.gov.", "ccf.internal."), fc.string({ unit: "grapheme" }))
  .map((parts) => parts.join(""));
const writeSet = fc
  .uniqueArray(fc.tuple(mapName, keys), { maxLength: 5, selector: ([name]) => name })
  .map((maps): WriteSet => new Map(maps.map(([name, rows]) => [name, new Map(rows)])));

test("what was written is what is read, public and private, removals included", () => {
  fc.assert(
    fc.property(
      writeSet,
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 }), { nil: undefined }),
      fc.constantFrom(0, ENTRY_FLAGS.closeAfter, ENTRY_FLAGS.closeBefore, 3),
      (writes, seqno, view, claimsDigest, flags) => {
        const { bytes, leaf } = encodeEntry({
          secret,
          seqno,
          view,
          writes,
          flags,
          ...(claimsDigest !== undefined && { claimsDigest }),
        });
        const opened = openEntry(bytes, secret);
        const byName = (a: unknown[], b: unknown[]) => (String(a[0]) < String(b[0]) ? -1 : 1);
        const bySet = (rows: WriteSet) =>
          plain(rows)
            .map(([name, row]) => [name, [...(row as unknown[][])].sort(byName)])
            .sort(byName);
        expect(bySet(opened.writes)).toEqual(bySet(writes));
        expect(opened).toMatchObject({ seqno, view, flags, leaf });
        expect(Buffer.from(opened.claimsDigest ?? [])).toEqual(Buffer.from(claimsDigest ?? Buffer.alloc(32)));

        const inClear = readPublic(bytes);
        expect(plain(inClear.writes).every(([name]) => String(name).startsWith("public:"))).toBe(true);
        expect(inClear).toMatchObject({ seqno, view, flags, leaf });
        expect(entryTxId(bytes)).toEqual({ view, seqno });
        expect(inClear.hasPrivate).toBe([...writes.keys()].some((name) => !name.startsWith("public:")));
      },
    ),
  );
});

test("the private part can be decrypted by the book: AES-256-GCM, public domain as associated data", () => {
  const writes: WriteSet = new Map([
    ["private", new Map([["k", utf8("v")]])],
    ["public:p", new Map([["k", utf8("v")]])],
  ]);
  const { bytes } = encodeEntry({ secret, seqno: 5, view: 3, writes });
  const publicLength = Number(bytes.readBigUInt64LE(36));
  const decipher = createDecipheriv("aes-256-gcm", SECRET, bytes.subarray(24, 36));
  decipher.setAAD(bytes.subarray(44, 44 + publicLength));
  decipher.setAuthTag(bytes.subarray(8, 24));
  const plaintext = Buffer.concat([decipher.update(bytes.subarray(44 + publicLength)), decipher.final()]);
  expect(plaintext).toEqual(map("private", [["k", "v"]]));
});

test("opened writes do not keep the bytes they came in", () => {
  const { bytes } = encodeEntry({
    secret,
    seqno: 5,
    view: 3,
    writes: new Map([["public:p", new Map([["k", utf8("v")]])]]),
  });
  const frame = Buffer.from(bytes);
  const opened = openEntry(frame, secret);
  frame.fill(0xee);
  expect(plain(opened.writes)).toEqual([["public:p", [["k", Buffer.from("v")]]]]);
});

describe("a changed entry is refused", () => {
  const { bytes } = encodeEntry({
    secret,
    seqno: 300,
    view: 2,
    writes: new Map([
      [
        "public:log",
        new Map([
          ["1", utf8("in clear")],
          ["2", undefined],
        ]),
      ],
      ["log", new Map([["1", utf8("secret")]])],
    ]),
  });

  test.each(Array.from({ length: bytes.length }, (_, cut) => cut))("cut at byte %i", (cut) => {
    expect(codeOf(() => openEntry(bytes.subarray(0, cut), secret))).toMatch(/^Entry/);
    expect(codeOf(() => readPublic(bytes.subarray(0, cut)))).toMatch(/^Entry/);
  });

  test("with any bit flipped, but for the flags that belong to the host's files", () => {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      if (bit === 8 || bit === 9) {
        // The two known flags are outside what GCM authenticates; the leaf covers them.
        expect(openEntry(flipped, secret).leaf).not.toEqual(openEntry(bytes, secret).leaf);
        continue;
      }
      expect(
        codeOf(() => openEntry(flipped, secret)),
        `bit ${bit}`,
      ).toMatch(/^Entry/);
    }
  });

  test("with a byte too many", () => {
    expect(codeOf(() => openEntry(concat([bytes, Buffer.of(0)]), secret))).toBe("EntrySizeWrong");
  });

  test("under another secret", () => {
    expect(codeOf(() => openEntry(bytes, LedgerSecret.generate()))).toBe("EntryNotAuthentic");
  });
});

describe("an entry that its writer made wrongly is refused", () => {
  const refused = (domain: Uint8Array, privateDomain: Uint8Array = Buffer.alloc(0)) => {
    const bytes = forge(domain, privateDomain);
    try {
      openEntry(bytes, secret);
    } catch (error) {
      const { detail } = error as { detail: { code: string; why?: string } };
      return detail.why ?? detail.code;
    }
    return "accepted";
  };

  test("the forgery itself is good", () => {
    expect(refused(publicDomain(map("public:a", [["k", "v"]])), map("b", [["k", "v"]]))).toBe("accepted");
  });

  test.each([
    ["a snapshot", publicDomain(Buffer.alloc(0), 1), undefined, "EntryTypeUnknown"],
    ["an unknown type", publicDomain(Buffer.alloc(0), 5), undefined, "EntryTypeUnknown"],
    ["another seqno than its IV's", publicDomain(Buffer.alloc(0), 4, 18), undefined, "EntryTxIdWrong"],
    ["a private map in clear", publicDomain(map("records", [["k", "v"]])), undefined, "MapInWrongDomain"],
    [
      "a public map in the private domain",
      publicDomain(Buffer.alloc(0)),
      map("public:a", [["k", "v"]]),
      "MapInWrongDomain",
    ],
    [
      "a map twice",
      publicDomain(Buffer.alloc(0)),
      concat([map("b", [["k", "v"]]), map("b", [["l", "v"]])]),
      "MapRepeated",
    ],
    ["a map without writes", publicDomain(map("public:a", [])), undefined, "MapEmpty"],
    ["reads", publicDomain(map("public:a", [["k", "v"]], 1)), undefined, "MapHasReads"],
    [
      "a key twice",
      publicDomain(
        map("public:a", [
          ["k", "v"],
          ["k", "w"],
        ]),
      ),
      undefined,
      "KeyRepeated",
    ],
    [
      "a key set and removed",
      publicDomain(
        map("public:a", [
          ["k", "v"],
          ["k", undefined],
        ]),
      ),
      undefined,
      "KeyRepeated",
    ],
    [
      "a name that is not UTF-8",
      publicDomain(concat([lp64(hex("ff")), u64(0), u64(0), u64(0), u64(0)])),
      undefined,
      "NotUtf8",
    ],
    [
      "a count beyond its bytes",
      publicDomain(concat([lp64(utf8("public:a")), u64(0), u64(0), u64(2 ** 40), u64(0)])),
      undefined,
      "CountTooLarge",
    ],
    ["a length beyond its bytes", publicDomain(u64(2 ** 52)), undefined, "BytesTruncated"],
    ["a length beyond 2^53", publicDomain(hex("ffffffffffffffff")), undefined, "NumberTooLarge"],
    ["half a digest", hex("041100000000000000" + "00".repeat(48)), undefined, "BytesTruncated"],
    [
      "bytes after the last map",
      publicDomain(concat([map("public:a", [["k", "v"]]), Buffer.of(1)])),
      undefined,
      "BytesTruncated",
    ],
  ])("with %s", (_, domain, privateDomain, why) => {
    expect(refused(domain, privateDomain)).toBe(why);
  });

  test("with commit evidence that the secret does not give", () => {
    const domain = publicDomain(map("public:a", [["k", "v"]]));
    domain[60] = (domain[60] ?? 0) ^ 1;
    expect(refused(domain)).toBe("CommitEvidenceWrong");
  });

  test("with a snapshot's IV", () => {
    expect(codeOf(() => entryTxId(forge(publicDomain(Buffer.alloc(0)), Buffer.alloc(0), 17, 0x80000000)))).toBe(
      "EntryTxIdWrong",
    );
  });
});

test("older entry types are read, with the leaf that they had", () => {
  const maps = map("public:a", [["k", "v"]]);
  const evidence = forge(publicDomain(maps, 3), Buffer.alloc(0));
  expect(openEntry(evidence, secret).leaf).toEqual(sha256(concat([sha256(evidence), evidenceDigest()])));
  const bare = forge(publicDomain(maps, 0), Buffer.alloc(0));
  expect(openEntry(bare, secret).leaf).toEqual(sha256(bare));
  expect(plain(openEntry(bare, secret).writes)).toEqual([["public:a", [["k", Buffer.from("v")]]]]);
});

describe("a header", () => {
  test.each([
    ["of another version", "0200bb0000000000", "EntryVersionUnknown"],
    ["with an unknown flag", "0104bb0000000000", "EntryFlagsUnknown"],
    ["of an entry that is too large", "0100ffffffffffff", "EntryTooLarge"],
    ["cut short", "0100bb", "EntryTruncated"],
  ])("%s is refused", (_, text, code) => {
    expect(codeOf(() => decodeHeader(hex(text)))).toBe(code);
  });
});

test("a transaction that is too large is refused when it is made", () => {
  const writes: WriteSet = new Map([["m", new Map([["k", Buffer.alloc(ENTRY_BYTES_MAX)]])]]);
  expect(codeOf(() => encodeEntry({ secret, seqno: 1, view: 2, writes }))).toBe("EntryTooLarge");
});

describe("entries back to back", () => {
  const entries = [1, 2, 3].map((seqno) => encodeEntry({ secret, seqno, view: 2, writes: WRITES }).bytes);

  test("are cut where they end", () => {
    expect(splitEntries(concat(entries))).toEqual(entries);
    expect(splitEntries(Buffer.alloc(0))).toEqual([]);
  });

  test("are refused when the last one is cut off", () => {
    const blob = concat(entries);
    for (const cut of [1, 8, 50, entries[0]?.length ?? 0]) {
      const rest = blob.subarray(0, blob.length - cut);
      if (cut === entries[2]?.length) expect(splitEntries(rest)).toEqual(entries.slice(0, 2));
      else expect(codeOf(() => splitEntries(rest))).toBe("EntryTruncated");
    }
  });
});

test("no bytes whatever make a reader fail in another way than a fault", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      expect(codeOf(() => decodeMaps(noise, "private"))).toEqual(expect.any(String));
      expect(codeOf(() => readPublic(forge(noise, Buffer.alloc(0))))).toEqual(expect.any(String));
      expect(codeOf(() => readPublic(noise))).toEqual(expect.any(String));
    }),
  );
});

test("a ledger secret has 32 bytes and does not show them", () => {
  expect(codeOf(() => new LedgerSecret(Buffer.alloc(31)))).toBe("LedgerSecretMalformed");
  expect(JSON.stringify(secret)).toBe("{}");
  expect(secret.export()).toEqual(SECRET);
  expect(sha256Hex(ENTRY)).toBe(WRITE_SET_DIGEST);
});
