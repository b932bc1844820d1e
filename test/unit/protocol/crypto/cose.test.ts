import { generateKeyPairSync, sign, verify } from "node:crypto";
import { decode, encode, Tag } from "cbor2";
import { describe, expect, test } from "vitest";
import { utf8 } from "../../../../protocol/bytes.ts";
import { type Cbor, encodeCbor, Tagged } from "../../../../protocol/crypto/cbor.ts";
import {
  algorithmFor,
  COSE_HEADER,
  decodeSign1,
  encodeSign1,
  signSign1,
  toBeSigned,
  verifySign1,
  verifySign1Sync,
} from "../../../../protocol/crypto/cose.ts";
import { codeOf } from "../codes.ts";

const CURVES = [
  { curve: "P-256", algorithm: -7, hash: "sha256", bytes: 64 },
  { curve: "P-384", algorithm: -35, hash: "sha384", bytes: 96 },
  { curve: "P-521", algorithm: -36, hash: "sha512", bytes: 132 },
] as const;

const headers = new Map<number | string, Cbor>([[COSE_HEADER.kid, utf8("key")]]);
const payload = utf8("payload");

describe.each(CURVES)("a COSE_Sign1 with $curve", ({ curve, algorithm, hash, bytes }) => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: curve });

  test("is what RFC 9052 says, by another implementation's reading", async () => {
    const message = signSign1({ key: privateKey, headers, payload });
    const tagged = decode<Tag>(message, { ignoreGlobalTags: true });
    expect(tagged.tag).toBe(18);
    const [protectedBytes, unprotected, content, signature] = tagged.contents as [
      Uint8Array,
      unknown,
      Uint8Array,
      Uint8Array,
    ];
    expect(decode(protectedBytes, { preferMap: true })).toEqual(
      new Map<number, unknown>([
        [1, algorithm],
        [4, utf8("key")],
      ]),
    );
    expect(unprotected).toEqual({});
    expect(Buffer.from(content)).toEqual(payload);
    expect(signature.length).toBe(bytes);
    const structure = encode([
      "Signature1",
      new Uint8Array(protectedBytes),
      new Uint8Array(0),
      new Uint8Array(payload),
    ]);
    expect(Buffer.from(structure)).toEqual(toBeSigned(protectedBytes, payload));
    expect(verify(hash, structure, { key: publicKey, dsaEncoding: "ieee-p1363" }, signature)).toBe(true);
  });

  test("verifies with its key, and with nothing else", async () => {
    const message = decodeSign1(signSign1({ key: privateKey, headers, payload }));
    expect(algorithmFor(publicKey)).toBe(algorithm);
    expect(await verifySign1(message, publicKey)).toBe(true);
    expect(verifySign1Sync(message, publicKey)).toBe(true);

    const other = generateKeyPairSync("ec", { namedCurve: curve }).publicKey;
    expect(await verifySign1(message, other)).toBe(false);
    expect(await verifySign1({ ...message, payload: utf8("another") }, publicKey)).toBe(false);
    const flipped = Buffer.from(message.signature);
    flipped[5] = (flipped[5] ?? 0) ^ 1;
    expect(await verifySign1({ ...message, signature: flipped }, publicKey)).toBe(false);
    expect(await verifySign1({ ...message, signature: Buffer.alloc(0) }, publicKey)).toBe(false);
    for (const { curve: otherCurve } of CURVES.filter((row) => row.curve !== curve)) {
      const wrongCurve = generateKeyPairSync("ec", { namedCurve: otherCurve }).publicKey;
      expect(await verifySign1(message, wrongCurve)).toBe(false);
    }
  });
});

describe("a detached payload", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });

  test("must be known to the verifier", async () => {
    const message = decodeSign1(signSign1({ key: privateKey, headers, payload, detached: true }));
    expect(message.payload).toBeNull();
    expect(await verifySign1(message, publicKey, payload)).toBe(true);
    expect(await verifySign1(message, publicKey)).toBe(false);
    expect(await verifySign1(message, publicKey, utf8("another"))).toBe(false);
  });

  test("beside an attached one is refused, even if they are equal", async () => {
    const message = decodeSign1(signSign1({ key: privateKey, headers, payload }));
    expect(verifySign1Sync(message, publicKey, payload)).toBe(false);
  });
});

test("a signature whose header names another curve's algorithm is refused, good as it may be", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const protectedBytes = encodeCbor(new Map([[COSE_HEADER.algorithm, -7]]));
  const key = { key: privateKey, dsaEncoding: "ieee-p1363" } as const;
  const signature = sign("sha384", toBeSigned(protectedBytes, payload), key);
  expect(verifySign1Sync(decodeSign1(encodeSign1({ protectedBytes, payload, signature })), publicKey)).toBe(false);
});

test("an unprotected algorithm counts for nothing", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const message = decodeSign1(signSign1({ key: privateKey, headers, payload }));
  const unprotected = new Map([[COSE_HEADER.algorithm, -7]]);
  const bare = decodeSign1(encodeSign1({ ...message, protectedBytes: encodeCbor(new Map()), unprotected }));
  expect(verifySign1Sync(bare, publicKey)).toBe(false);
});

test("a key that no COSE signature is made with is refused", () => {
  expect(codeOf(() => algorithmFor(generateKeyPairSync("ed25519").publicKey))).toBe("CoseKeyUnsupported");
  expect(codeOf(() => algorithmFor(generateKeyPairSync("ec", { namedCurve: "secp256k1" }).publicKey))).toBe(
    "CoseKeyUnsupported",
  );
});

describe("refused as COSE_Sign1:", () => {
  const good: Cbor[] = [encodeCbor(new Map([[1, -7]])), new Map(), Buffer.alloc(0), Buffer.alloc(64)];
  const changed = (index: number, value: Cbor) =>
    encodeCbor(
      new Tagged(
        18,
        good.map((old, i) => (i === index ? value : old)),
      ),
    );

  test("(the unchanged one is accepted)", () => {
    expect(codeOf(() => decodeSign1(encodeCbor(new Tagged(18, good))))).toBe("accepted");
    expect(Buffer.from(encode(new Tag(18, [])))[0]).toBe(0xd2);
  });

  test.each([
    ["no bytes", Buffer.alloc(0)],
    ["no tag", encodeCbor(good)],
    ["another tag", encodeCbor(new Tagged(98, good))],
    ["three elements", encodeCbor(new Tagged(18, good.slice(0, 3)))],
    ["a protected header that is not bytes", changed(0, new Map())],
    ["a protected header that is not CBOR", changed(0, Buffer.from("ff", "hex"))],
    ["a protected header that is not a map", changed(0, encodeCbor([1]))],
    ["a protected header with a label twice", changed(0, Buffer.from("a201260127", "hex"))],
    ["an unprotected header that is not a map", changed(1, [])],
    ["a payload that is text", changed(2, "text")],
    ["a signature that is text", changed(3, "text")],
    ["bytes after it", Buffer.concat([encodeCbor(new Tagged(18, good)), Buffer.of(0)])],
  ])("%s", (_, bytes) => {
    expect(codeOf(() => decodeSign1(bytes))).toBe("CoseMalformed");
  });
});
