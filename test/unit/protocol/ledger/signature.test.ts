import { createPublicKey } from "node:crypto";
import { describe, expect, test } from "vitest";
import { toBase64, toHex, utf8 } from "../../../../protocol/bytes.ts";
import { decodeSign1, encodeSign1 } from "../../../../protocol/crypto/cose.ts";
import { sha256 } from "../../../../protocol/crypto/hash.ts";
import { generateEcKey, spkiDigest } from "../../../../protocol/crypto/keys.ts";
import {
  decodeCoseSignatureRow,
  decodeRawSignature,
  encodeRawSignature,
  ledgerSignature,
  verifyLedgerSignature,
} from "../../../../protocol/ledger/signature.ts";
import { codeOf } from "../codes.ts";

const { privateKey, publicKey } = generateEcKey("P-384");
const root = sha256(utf8("root"));
const txId = { view: 2, seqno: 16 };
const parts = {
  root,
  txId,
  key: privateKey,
  issuer: "service.example.com",
  subject: "ledger.signature",
  issuedAt: 0x68246497,
};

describe("a ledger signature", () => {
  test("has the bytes of the recorded one, but for key and signature", async () => {
    const kid = toHex(utf8(spkiDigest(privateKey)));
    const text = toHex(ledgerSignature(parts));
    const head =
      `d284588ca50138220458${"40"}${kid}19018b020fa3061a682464970173${toHex(utf8("service.example.com"))}` +
      `0270${toHex(utf8("ledger.signature"))}6663${"63662e7631"}a16474786964${"64"}${toHex(utf8("2.16"))}a0f65860`;
    expect(text.slice(0, head.length)).toBe(head);
    expect(text.length).toBe(head.length + 2 * 96);
  });

  test("verifies for its root, key and transaction", async () => {
    const cose = ledgerSignature(parts);
    expect(await verifyLedgerSignature(cose, root, publicKey)).toBeUndefined();
    expect(await verifyLedgerSignature(cose, root, publicKey, txId)).toBeUndefined();
    expect(await verifyLedgerSignature(cose, sha256(root), publicKey)).toMatch("does not verify");
    expect(await verifyLedgerSignature(cose, root, publicKey, { view: 2, seqno: 17 })).toMatch("for transaction 2.16");
    expect(await verifyLedgerSignature(cose, root, generateEcKey("P-384").publicKey)).toMatch("another key");
    expect(await verifyLedgerSignature(cose, root, createPublicKey(privateKey), txId)).toBeUndefined();
  });

  test("with any byte changed or cut off is refused, and nothing is thrown", async () => {
    const cose = ledgerSignature(parts);
    for (let at = 0; at < cose.length; at++) {
      const flipped = Buffer.from(cose);
      flipped[at] = (flipped[at] ?? 0) ^ 0x01;
      expect(await verifyLedgerSignature(flipped, root, publicKey, txId), `byte ${at}`).toEqual(expect.any(String));
      expect(await verifyLedgerSignature(cose.subarray(0, at), root, publicKey)).toEqual(expect.any(String));
    }
  });

  test("with the root attached is refused", async () => {
    const message = decodeSign1(ledgerSignature(parts));
    expect(await verifyLedgerSignature(encodeSign1({ ...message, payload: root }), root, publicKey)).toMatch(
      "detached",
    );
  });

  test("lies in the ledger as a JSON string", async () => {
    const cose = ledgerSignature(parts);
    expect(decodeCoseSignatureRow(utf8(`"${toBase64(cose)}"`))).toEqual(cose);
    for (const row of ["", toBase64(cose), "17", '"%%"', `"${"A".repeat(70_000)}"`])
      expect(codeOf(() => decodeCoseSignatureRow(utf8(row)))).toBe("SignatureMalformed");
  });
});

describe("a node signature", () => {
  const row = {
    node: "a".repeat(64),
    seqno: 16,
    view: 2,
    root: toHex(root),
    signature: Buffer.from("3003020101", "hex"),
    certificate: "-----BEGIN CERTIFICATE-----\n",
  };

  test("has its fields in byte order, the deprecated ones included", () => {
    expect(encodeRawSignature(row).toString()).toBe(
      `{"cert":"-----BEGIN CERTIFICATE-----\\n","commit_seqno":0,"commit_view":0,"hashed_nonce":"${"0".repeat(64)}",` +
        `"node":"${row.node}","root":"${row.root}","seqno":16,"sig":"MAMCAQE=","view":2}`,
    );
  });

  test("there and back, with and without the certificate", () => {
    expect(decodeRawSignature(encodeRawSignature(row))).toEqual(row);
    const { certificate: _, ...bare } = row;
    expect(decodeRawSignature(encodeRawSignature(bare))).toEqual(bare);
  });

  test.each([
    ["no JSON", "{"],
    ["an array", "[]"],
    ["null", "null"],
    ["no node", JSON.stringify({ seqno: 1, view: 2, root: row.root, sig: "" })],
    ["a short root", JSON.stringify({ node: row.node, seqno: 1, view: 2, root: "ab", sig: "" })],
    ["a text as seqno", JSON.stringify({ node: row.node, seqno: "1", view: 2, root: row.root, sig: "" })],
    ["a negative view", JSON.stringify({ node: row.node, seqno: 1, view: -2, root: row.root, sig: "" })],
    ["no signature", JSON.stringify({ node: row.node, seqno: 1, view: 2, root: row.root })],
    ["a signature in hex", JSON.stringify({ node: row.node, seqno: 1, view: 2, root: row.root, sig: "3003020" })],
    [
      "a number as certificate",
      JSON.stringify({ node: row.node, seqno: 1, view: 2, root: row.root, sig: "", cert: 1 }),
    ],
  ])("is refused with %s", (_, text) => {
    expect(codeOf(() => decodeRawSignature(utf8(text)))).toBe("SignatureMalformed");
  });
});
