import { decode as oracleDecode, encode as oracleEncode, Tag } from "cbor2";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Cbor, decodeCbor, encodeCbor, Tagged } from "../../../../protocol/crypto/cbor.ts";
import { codeOf } from "../codes.ts";

function hex(text: string): Buffer {
  return Buffer.from(text, "hex");
}

// RFC 8949, appendix A: those that this subset has.
const EXAMPLES: [string, Cbor][] = [
  ["00", 0],
  ["17", 23],
  ["1818", 24],
  ["1903e8", 1000],
  ["1a000f4240", 1000000],
  ["1b000000e8d4a51000", 1000000000000],
  ["20", -1],
  ["3863", -100],
  ["3903e7", -1000],
  ["f4", false],
  ["f5", true],
  ["f6", null],
  ["4401020304", hex("01020304")],
  ["60", ""],
  ["62c3bc", "ü"],
  ["83010203", [1, 2, 3]],
  ["8301820203820405", [1, [2, 3], [4, 5]]],
  [
    "a201020304",
    new Map([
      [1, 2],
      [3, 4],
    ]),
  ],
  [
    "a26161016162820203",
    new Map<string, Cbor>([
      ["a", 1],
      ["b", [2, 3]],
    ]),
  ],
  ["c11a514b67b0", new Tagged(1, 1363896240)],
  ["1b001fffffffffffff", Number.MAX_SAFE_INTEGER],
  ["3b001ffffffffffffe", Number.MIN_SAFE_INTEGER],
];

test.each(EXAMPLES)("%s is written and read as in RFC 8949", (text, value) => {
  expect(encodeCbor(value).toString("hex")).toBe(text);
  expect(decodeCbor(hex(text))).toEqual(value);
});

const anyCbor: fc.Arbitrary<Cbor> = fc.letrec<{ value: Cbor; leaf: Cbor }>((tie) => ({
  leaf: fc.oneof(
    fc.maxSafeInteger(),
    fc.integer({ min: -70000, max: 70000 }),
    fc.string({ unit: "grapheme" }),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  ),
  value: fc.oneof(
    { maxDepth: 4 },
    tie("leaf"),
    fc.array(tie("value"), { maxLength: 4 }),
    fc
      .uniqueArray(fc.tuple(fc.oneof(fc.integer(), fc.string()), tie("value")), {
        maxLength: 4,
        selector: ([key]) => key,
      })
      .map((pairs) => new Map(pairs)),
  ),
})).value;

/** The value as the oracle spells it. */
function toOracle(value: Cbor): unknown {
  if (value instanceof Map) return new Map([...value].map(([key, inner]) => [key, toOracle(inner)]));
  if (Array.isArray(value)) return value.map(toOracle);
  if (value instanceof Tagged) return new Tag(value.tag, toOracle(value.value));
  return value instanceof Uint8Array ? new Uint8Array(value) : value;
}

test("another implementation writes the same bytes, and we read them back", () => {
  fc.assert(
    fc.property(anyCbor, (value) => {
      const bytes = encodeCbor(value);
      expect(decodeCbor(bytes)).toEqual(value);
      expect(Buffer.from(oracleEncode(toOracle(value)))).toEqual(bytes);
    }),
  );
});

test("what we accept, another implementation reads, and we write it back as it was", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 12 }), (noise) => {
      let value: Cbor;
      try {
        value = decodeCbor(noise);
      } catch {
        // Whatever was refused must have been refused with a fault.
        expect(codeOf(() => decodeCbor(noise))).toMatch(/^(Cbor|NotUtf8)/);
        return;
      }
      expect(encodeCbor(value)).toEqual(Buffer.from(noise));
      // Tags stay tags: what they mean is not CBOR's business.
      oracleDecode(noise, { ignoreGlobalTags: true });
    }),
    { numRuns: 5000 },
  );
});

test("every truncation is refused", () => {
  const bytes = encodeCbor([new Map<string, Cbor>([["key", hex("aabb")]]), -1000, new Tagged(18, "text")]);
  for (let cut = 0; cut < bytes.length; cut++)
    expect(codeOf(() => decodeCbor(bytes.subarray(0, cut)))).toBe("CborTruncated");
});

describe("refused:", () => {
  test.each([
    ["a longer head than needed", "1817", "CborNotDeterministic"],
    ["two bytes for a number of one", "1900ff", "CborNotDeterministic"],
    ["four bytes for a number of two", "1a0000ffff", "CborNotDeterministic"],
    ["eight bytes for a number of four", "1b00000000ffffffff", "CborNotDeterministic"],
    ["a string length that is too long", "580161", "CborNotDeterministic"],
    ["an indefinite string", "5f4101ff", "CborNotDeterministic"],
    ["an indefinite array", "9f01ff", "CborNotDeterministic"],
    ["an indefinite map", "bf0102ff", "CborNotDeterministic"],
    ["a number beyond 2^53", "1b0020000000000000", "CborUnsupported"],
    ["a negative number beyond 2^53", "3b001fffffffffffff", "CborUnsupported"],
    ["a half float", "f93c00", "CborUnsupported"],
    ["a double", "fb3ff199999999999a", "CborUnsupported"],
    ["undefined", "f7", "CborUnsupported"],
    ["a simple value", "f820", "CborUnsupported"],
    ["a reserved head", "1c", "CborUnsupported"],
    ["a map with a bytes key", "a1414101", "CborUnsupported"],
    ["a repeated key", "a201020103", "CborKeyRepeated"],
    ["trailing bytes", "0000", "CborTrailing"],
    ["a lone break", "ff", "CborUnsupported"],
    ["an array length beyond its bytes", "9b001fffffffffffff", "CborTruncated"],
    ["text that is not UTF-8", "61ff", "NotUtf8"],
    ["nesting of arrays", "81".repeat(17) + "00", "CborTooDeep"],
    ["nesting of tags", "c1".repeat(100_000) + "00", "CborTooDeep"],
  ])("%s", (_, text, code) => {
    expect(codeOf(() => decodeCbor(hex(text)))).toBe(code);
  });

  test("an array of more elements than anything here has", () => {
    expect(codeOf(() => decodeCbor(Buffer.concat([hex("9a00010001"), Buffer.alloc(65_537)])))).toBe("CborTooLarge");
  });
});

test("nesting up to the bound is accepted", () => {
  expect(codeOf(() => decodeCbor(hex("81".repeat(16) + "00")))).toBe("accepted");
});
