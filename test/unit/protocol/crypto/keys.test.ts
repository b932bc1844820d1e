import { createHash, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { p256, p384 } from "@noble/curves/nist.js";
import { describe, expect, test } from "vitest";
import { sha256, sha256Hex, sha256Into } from "../../../../protocol/crypto/hash.ts";
import {
  certificateId,
  generateEcKey,
  signRoot,
  spkiDer,
  spkiDigest,
  verifyRoot,
} from "../../../../protocol/crypto/keys.ts";
import { derToPem, pemToDer } from "../../../../protocol/crypto/pem.ts";

const preimage = Buffer.concat([sha256(Buffer.from("left")), sha256(Buffer.from("right"))]);
const root = sha256(preimage);

const CURVES = [
  { curve: "P-384", noble: p384, bytes: 48 },
  { curve: "P-256", noble: p256, bytes: 32 },
] as const;

function scalar(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: "jwk" }).d ?? "", "base64url");
}

function point(key: KeyObject): Buffer {
  const jwk = createPublicKey(key).export({ format: "jwk" });
  return Buffer.concat([Buffer.of(4), Buffer.from(jwk.x ?? "", "base64url"), Buffer.from(jwk.y ?? "", "base64url")]);
}

describe.each(CURVES)("a root signature on $curve", ({ curve, noble }) => {
  const { privateKey, publicKey } = generateEcKey(curve);

  test("is ECDSA over the root as a prehash, by another implementation's judgement", async () => {
    const der = await signRoot(preimage, privateKey);
    const options = { prehash: false, lowS: false, format: "der" } as const;
    expect(noble.verify(der, root, point(privateKey), options)).toBe(true);
    expect(noble.verify(der, sha256(root), point(privateKey), options)).toBe(false);
  });

  test("made by another implementation is accepted", async () => {
    const der = noble.sign(root, scalar(privateKey), { prehash: false, lowS: false, format: "der" });
    expect(await verifyRoot(preimage, der, publicKey)).toBe(true);
  });

  test("is refused for another root, another key, and when it is not a signature", async () => {
    const der = await signRoot(preimage, privateKey);
    const other = Buffer.concat([preimage.subarray(32), preimage.subarray(0, 32)]);
    expect(await verifyRoot(other, der, publicKey)).toBe(false);
    expect(await verifyRoot(preimage, der, generateEcKey(curve).publicKey)).toBe(false);
    for (let cut = 0; cut < der.length; cut++)
      expect(await verifyRoot(preimage, der.subarray(0, cut), publicKey)).toBe(false);
    expect(await verifyRoot(preimage, Buffer.concat([der, Buffer.of(0)]), publicKey)).toBe(false);
  });
});

test("a key and its public part have one id: the digest of the DER SubjectPublicKeyInfo", () => {
  const { privateKey, publicKey } = generateEcKey("P-384");
  const der = publicKey.export({ type: "spki", format: "der" });
  expect(spkiDer(privateKey)).toEqual(der);
  expect(spkiDigest(privateKey)).toBe(createHash("sha256").update(der).digest("hex"));
  expect(spkiDigest(createPrivateKey(privateKey.export({ type: "pkcs8", format: "pem" })))).toBe(spkiDigest(publicKey));
});

test("a certificate has one id, whether it comes as DER or as PEM", () => {
  const der = Buffer.from("3003020101", "hex");
  expect(certificateId(derToPem("CERTIFICATE", der))).toBe(certificateId(der));
});

test("the three shapes of a digest agree", () => {
  const target = Buffer.alloc(40, 0xff);
  sha256Into(target, 4, root);
  expect(target.subarray(4, 36)).toEqual(sha256(root));
  expect(target.subarray(36)).toEqual(Buffer.alloc(4, 0xff));
  expect(sha256(root).toString("hex")).toBe(sha256Hex(root));
  const self = Buffer.from(root);
  sha256Into(self, 0, self);
  expect(self).toEqual(sha256(root));
});

describe("PEM", () => {
  const der = Buffer.from("00112233445566778899aabbccddeeff".repeat(9), "hex");
  const pem = derToPem("CERTIFICATE", der);

  test("there and back, with lines of 64 characters", () => {
    expect(pemToDer(pem)).toEqual(der);
    expect(pemToDer(pem.replaceAll("\n", "\r\n"))).toEqual(der);
    expect(pem.split("\n").every((line) => line.length <= 64)).toBe(true);
    expect(pem.endsWith("-----END CERTIFICATE-----\n")).toBe(true);
  });

  test.each([
    ["an empty text", ""],
    ["another label", derToPem("PUBLIC KEY", der)],
    ["two blocks", pem + pem],
    ["text before the block", `subject: someone\n${pem}`],
    ["no contents", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"],
    ["a character that is not base64", pem.replace("A", "!")],
    ["missing padding", "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n"],
    ["bits beyond the last byte", "-----BEGIN CERTIFICATE-----\nAB==\n-----END CERTIFICATE-----\n"],
  ])("is refused with %s", (_, text) => {
    expect(() => pemToDer(text)).toThrow(/PEM block|base64/);
  });
});
