import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createEncryptionKeyPair } from "../../../../protocol/crypto/participant.ts";
import { decryptWith, encryptTo, openBlob, sealBlob } from "../../../../protocol/crypto/sealed-blob.ts";
import {
  deserialiseShare,
  joinShares,
  serialiseShare,
  splitSecret,
  unwrapLedgerSecret,
  wrapLedgerSecret,
  wrappingKey,
} from "../../../../protocol/crypto/sharing.ts";
import { codeOf } from "../codes.ts";

function hex(text: string): Buffer {
  return Buffer.from(text, "hex");
}

describe("the recorded shares, 2 of 3", () => {
  const P = 2n ** 31n - 1n;
  let drawn = 0;
  // Limb and slope of each of the ten polynomials, in turn.
  const sample = () => {
    const [limb, isSlope] = [Math.floor(drawn / 2), drawn % 2 === 1];
    drawn++;
    return Number(((isSlope ? 998244353n : 1000000007n) * BigInt(limb + 1)) % P);
  };
  const { secret, shares } = splitSecret(2, 3, sample);
  const ledgerSecret = Uint8Array.from({ length: 32 }, (_, i) => i);

  test("have the recorded bytes", () => {
    expect([secret, ...shares].map((share) => serialiseShare(share).toString("hex"))).toEqual([
      "0000000007ca9a3b0e943577165ed0321d286b6e25f2052a2cbca06534863b213b50d65c431a71184ae40b54",
      "0100000008ca1a771194356e1a5e506523286b5c2cf2855335bca04a3e86bb414750d638501af12f59e40b27",
      "020000000aca9a32149435651f5ed01729286b4a33f2057d3ebca02f48863b625350d6145d1a714767e40b7a",
      "030000000bca1a6e1794355c235e504a2f286b383bf2852647bca0145386bb025e50d6706a1af15e76e40b4d",
    ]);
  });

  test("give the recorded wrapping key, whichever two are joined", () => {
    const key = "73a993c4d012f12c801ba91007b962456e77c15b7ad279d2e2152a198fa7dc42";
    expect(wrappingKey(secret).toString("hex")).toBe(key);
    for (const [a, b] of [
      [0, 1],
      [0, 2],
      [1, 2],
      [2, 0],
    ] as const)
      expect(wrappingKey(joinShares([shares[a]!, shares[b]!], 2)).toString("hex")).toBe(key);
  });

  test("wrap the ledger secret as recorded", () => {
    const wrapped = wrapLedgerSecret(ledgerSecret, wrappingKey(secret));
    expect(wrapped.toString("hex")).toBe(
      "50245f624bb6c0189051cc70c71a10bb0000000000000000000000003a801b4a486bd0a1661ee8d8eb8915962eec8ca645e01ef2ec118aa799e94522",
    );
    expect(unwrapLedgerSecret(wrapped, wrappingKey(secret))).toEqual(Buffer.from(ledgerSecret));
  });
});

test("a wrapped secret of a service that CCF ran is unwrapped", () => {
  const limbs = hex("96937a715cef116095e7645ed312d44eabb67b6106065d6e3c718c3ba8b8b835ce422a0d24c54d36");
  const key = wrappingKey(deserialiseShare(Buffer.concat([Buffer.alloc(4), limbs])));
  expect(key.toString("hex")).toBe("c210863d3a90d12cf776a2690c08fc0418386536abcb2e7b04b96f6e04feec14");
  const wrapped = hex(
    "826446cd54f4891981cc2ef9021518d70000000000000000000000001696347c8ba886ab563328e34dab32ae852ce601b8c3f8113fbd71228252d08d",
  );
  expect(unwrapLedgerSecret(wrapped, key).toString("hex")).toBe(
    "d917951c0773a06148d2ff5bf0c984d075fdceb601255157ac004bb53b351079",
  );
});

test("any threshold of the shares gives the secret, one fewer does not", () => {
  const shape = fc
    .integer({ min: 1, max: 12 })
    .chain((count) => fc.record({ count: fc.constant(count), threshold: fc.integer({ min: 1, max: count }) }));
  fc.assert(
    fc.property(shape, fc.infiniteStream(fc.nat()), ({ count, threshold }, order) => {
      const { secret, shares } = splitSecret(threshold, count);
      const shuffled = shares
        .map((share) => ({ share, rank: order.next().value ?? 0 }))
        .sort((a, b) => a.rank - b.rank)
        .map(({ share }) => share);
      expect(joinShares(shuffled, threshold)).toEqual(secret);
      if (threshold > 1) expect(joinShares(shuffled, threshold - 1)).not.toEqual(secret);
      expect(shares.map((share) => deserialiseShare(serialiseShare(share)))).toEqual(shares);
    }),
  );
});

test("a secret is new each time, and its limbs are below 2^31 - 1", () => {
  const [one, other] = [splitSecret(1, 1).secret, splitSecret(1, 1).secret];
  expect(one).not.toEqual(other);
  expect(one.limbs.every((limb) => limb >= 0 && limb < 2 ** 31 - 1)).toBe(true);
});

describe("refused:", () => {
  const { secret, shares } = splitSecret(2, 3);
  const first = shares[0]!;

  test.each([
    ["too few shares", [first], "SharesTooFew"],
    ["a share twice", [first, first], "ShareRepeated"],
    ["a share twice, once as x + p", [first, { ...first, x: first.x + 2 ** 31 - 1 }], "ShareRepeated"],
    ["the full secret among shares", [secret, first], "ShareMalformed"],
    ["a share with nine limbs", [first, { x: 9, limbs: first.limbs.slice(1) }], "ShareMalformed"],
  ])("%s", (_, some, code) => {
    expect(codeOf(() => joinShares(some, 2))).toBe(code);
  });

  test.each([0, 43, 45, 113])("a share of %i bytes", (length) => {
    expect(codeOf(() => deserialiseShare(Buffer.alloc(length)))).toBe("ShareMalformed");
  });

  test("a wrapped secret under wrong shares", () => {
    const wrapped = wrapLedgerSecret(Buffer.alloc(32), wrappingKey(secret));
    expect(codeOf(() => unwrapLedgerSecret(wrapped, wrappingKey(splitSecret(2, 3).secret)))).toBe("BlobNotAuthentic");
  });

  test("a blob with any bit changed or cut anywhere", () => {
    const key = Buffer.alloc(32, 7);
    const blob = sealBlob(key, hex("00112233"));
    expect(openBlob(key, blob)).toEqual(hex("00112233"));
    for (let bit = 0; bit < blob.length * 8; bit++) {
      const flipped = Buffer.from(blob);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(codeOf(() => openBlob(key, flipped))).toBe("BlobNotAuthentic");
    }
    for (let cut = 0; cut < blob.length; cut++)
      expect(codeOf(() => openBlob(key, blob.subarray(0, cut)))).toBe("BlobNotAuthentic");
  });
});

test("a share encrypted to a member's RSA key opens with that key alone", async () => {
  const [member, other] = await Promise.all([createEncryptionKeyPair(), createEncryptionKeyPair()]);
  const share = serialiseShare(splitSecret(1, 1).shares[0]!);
  const encrypted = encryptTo(member.publicKeyPem, share);
  expect(encrypted.length).toBe(256);
  expect(decryptWith(member.privateKeyPem, encrypted)).toEqual(share);
  expect(codeOf(() => decryptWith(other.privateKeyPem, encrypted))).toBe("BlobNotAuthentic");
  expect(codeOf(() => decryptWith(member.privateKeyPem, encrypted.subarray(1)))).toBe("BlobNotAuthentic");
});
