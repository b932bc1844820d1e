import { X509Certificate } from "node:crypto";
import { decode, type Tag } from "cbor2";
import { describe, expect, test } from "vitest";
import { toHex, utf8 } from "../../../protocol/bytes.ts";
import { present } from "../../../protocol/check.ts";
import { type Cbor, encodeCbor } from "../../../protocol/crypto/cbor.ts";
import { decodeSign1, encodeSign1 } from "../../../protocol/crypto/cose.ts";
import { sha256 } from "../../../protocol/crypto/hash.ts";
import { createCsr, endorse, selfSigned } from "../../../protocol/crypto/x509.ts";
import { readPublic } from "../../../protocol/ledger/entry.ts";
import { decodeCoseSignatureRow, decodeRawSignature } from "../../../protocol/ledger/signature.ts";
import { coseReceipt, jsonReceipt, verifyCoseReceipt, verifyJsonReceipt } from "../../../protocol/receipt.ts";
import { codeOfAsync } from "./codes.ts";
import { MAPS, MadeLedger, newNode, newService, ROW } from "./ledger/made-ledger.ts";

const ledger = await new MadeLedger().genesis().sign();
for (let i = 0; i < 4; i++) ledger.log(`record ${i}`);
const rows = await ledger.signature();
const signedAt = ledger.seqno;
const txId = { view: 2, seqno: 4 };
const entry = readPublic(ledger.entries[txId.seqno - 1]!);
const leaf = {
  writeSetDigest: entry.writeSetDigest,
  commitEvidence: ledger.secret.commitEvidence(txId),
  claimsDigest: Buffer.alloc(32),
};
const path = present(ledger.tree.path(txId.seqno, signedAt), "the leaf is there");
const raw = decodeRawSignature(rows[MAPS.node]![ROW]!);
const cose = decodeCoseSignatureRow(rows[MAPS.cose]![ROW]!);
const { service, node } = ledger;
const serviceKey = new X509Certificate(service.certificate).publicKey;

const json = jsonReceipt({ leaf, path, node: node.id, certificate: node.certificate, signature: raw.signature });
const bytes = coseReceipt({ leaf, path, signature: cose });

describe("a JSON receipt", () => {
  test("proves its transaction to whoever trusts the service", async () => {
    const proven = await verifyJsonReceipt(JSON.parse(JSON.stringify(json)), service.certificate);
    expect(proven.txId).toEqual(txId);
    expect(Buffer.from(proven.writeSetDigest)).toEqual(Buffer.from(entry.writeSetDigest));
    expect(proven.root).toEqual(ledger.tree.root());
  });

  test("has CCF's fields", () => {
    expect(Object.keys(json)).toEqual(["cert", "leaf_components", "node_id", "proof", "signature"]);
    expect(Object.keys(json.leaf_components)).toEqual(["claims_digest", "commit_evidence", "write_set_digest"]);
    expect(json.proof.every((step) => Object.keys(step).length === 1)).toBe(true);
  });

  test("may lead to the service of today over an endorsement of the one that signed", async () => {
    const today = newService();
    // An old service's key, vouched for by the new service: what a node makes on the fly after a recovery.
    const endorsement = endorse({
      csr: createCsr({ subjectName: "CN=CCF Service", sans: [], key: service.key }),
      issuerCertificatePem: today.certificate,
      issuerKey: today.key,
      validFrom: new Date("2026-01-01T00:00:00Z"),
      days: 1,
    });
    const receipt = { ...json, service_endorsements: [endorsement] };
    expect((await verifyJsonReceipt(receipt, today.certificate)).txId).toEqual(txId);
    expect(await codeOfAsync(() => verifyJsonReceipt(json, today.certificate))).toBe("ReceiptInvalid");
    expect(await codeOfAsync(() => verifyJsonReceipt(receipt, service.certificate))).toBe("ReceiptInvalid");
  });

  const zero = "0".repeat(64);
  test.each<[string, unknown, string]>([
    [
      "for other claims",
      { ...json, leaf_components: { ...json.leaf_components, claims_digest: "1".repeat(64) } },
      "ReceiptInvalid",
    ],
    [
      "for another write set",
      { ...json, leaf_components: { ...json.leaf_components, write_set_digest: zero } },
      "ReceiptInvalid",
    ],
    [
      "for another TxID",
      {
        ...json,
        leaf_components: { ...json.leaf_components, commit_evidence: leaf.commitEvidence.replace("2.4", "2.5") },
      },
      "ReceiptInvalid",
    ],
    [
      "with evidence in another form",
      { ...json, leaf_components: { ...json.leaf_components, commit_evidence: "2.4" } },
      "ReceiptMalformed",
    ],
    ["with a shorter path", { ...json, proof: json.proof.slice(1) }, "ReceiptInvalid"],
    [
      "with sides exchanged",
      { ...json, proof: json.proof.map((step) => ("left" in step ? { right: step.left } : { left: step.right })) },
      "ReceiptInvalid",
    ],
    ["with a step on both sides", { ...json, proof: [{ left: zero, right: zero }] }, "ReceiptMalformed"],
    ["without a path", { ...json, proof: [] }, "ReceiptMalformed"],
    [
      "with a path without end",
      { ...json, proof: Array.from({ length: 65 }, () => ({ left: zero })) },
      "ReceiptMalformed",
    ],
    [
      "of a signature transaction",
      { cert: json.cert, leaf: zero, proof: [], signature: json.signature },
      "ReceiptMalformed",
    ],
    [
      "with another node's certificate",
      { ...json, node_id: undefined, cert: newNode(service).certificate },
      "ReceiptInvalid",
    ],
    ["with another node's id", { ...json, node_id: zero }, "ReceiptInvalid"],
    [
      "with a certificate that nobody signed",
      { ...json, cert: selfSigned({ subjectName: "CN=x", key: node.key, validFrom: new Date(0), days: 1 }) },
      "ReceiptInvalid",
    ],
    ["with no certificate", { ...json, cert: 7 }, "ReceiptMalformed"],
    ["with a signature in hex", { ...json, signature: "ab!" }, "ReceiptMalformed"],
    ["with an empty signature", { ...json, signature: "" }, "ReceiptInvalid"],
    ["that is a list", [json], "ReceiptMalformed"],
    ["that is null", null, "ReceiptMalformed"],
  ])("%s is refused", async (_, receipt, code) => {
    expect(await codeOfAsync(() => verifyJsonReceipt(receipt, service.certificate))).toBe(code);
  });
});

describe("a COSE receipt", () => {
  const withProofs = (proofs: Cbor) =>
    encodeSign1({ ...decodeSign1(cose), unprotected: new Map([[396, new Map([[-1, proofs]])]]) });
  const proofOf = (parts: readonly Cbor[], steps: Cbor) =>
    encodeCbor(
      new Map<number, Cbor>([
        [1, parts],
        [2, steps],
      ]),
    );
  const goodLeaf = [leaf.writeSetDigest, leaf.commitEvidence, leaf.claimsDigest];
  const goodPath = path.map(({ side, hash }) => [side === "left", hash]);

  test("proves its transaction to whoever trusts the service's key", async () => {
    const proven = await verifyCoseReceipt(bytes, serviceKey);
    expect(proven.txId).toEqual(txId);
    expect(proven.signedAt).toBe(`2.${signedAt}`);
    expect(toHex(proven.root)).toBe(toHex(ledger.tree.root()));
  });

  test("is the ledger's own signature with the path beside it, by another implementation's reading", () => {
    const receipt = decode<Tag>(bytes, { ignoreGlobalTags: true, preferMap: true }).contents as unknown[];
    const original = decode<Tag>(cose, { ignoreGlobalTags: true, preferMap: true }).contents as unknown[];
    expect([receipt[0], receipt[2], receipt[3]]).toEqual([original[0], null, original[3]]);
    const proofs = (receipt[1] as Map<number, Map<number, Uint8Array[]>>).get(396)?.get(-1) ?? [];
    expect(proofs.length).toBe(1);
    const proof = decode(proofs[0]!, { preferMap: true }) as Map<number, unknown[]>;
    expect(proof.get(1)?.[1]).toBe(leaf.commitEvidence);
    expect(proof.get(2)?.length).toBe(path.length);
  });

  test.each<[string, Uint8Array, string]>([
    ["without proofs", cose, "ReceiptMalformed"],
    ["with an empty list of proofs", withProofs([]), "ReceiptMalformed"],
    ["with a proof that is no byte string", withProofs([1]), "ReceiptMalformed"],
    ["with a proof that is no CBOR", withProofs([Buffer.from("ff", "hex")]), "ReceiptMalformed"],
    ["with a leaf of two parts", withProofs([proofOf(goodLeaf.slice(1), goodPath)]), "ReceiptMalformed"],
    [
      "with a short digest",
      withProofs([proofOf([Buffer.alloc(31), ...goodLeaf.slice(1)], goodPath)]),
      "ReceiptMalformed",
    ],
    ["with an empty path", withProofs([proofOf(goodLeaf, [])]), "ReceiptMalformed"],
    ["with a step that is no pair", withProofs([proofOf(goodLeaf, [[true]])]), "ReceiptMalformed"],
    ["with a side that is a number", withProofs([proofOf(goodLeaf, [[1, sha256(utf8(""))]])]), "ReceiptMalformed"],
    [
      "for other claims",
      withProofs([proofOf([...goodLeaf.slice(0, 2), sha256(utf8("claims"))], goodPath)]),
      "ReceiptInvalid",
    ],
    [
      "with proofs that contradict",
      withProofs([proofOf(goodLeaf, goodPath), proofOf(goodLeaf, goodPath.slice(1))]),
      "ReceiptInvalid",
    ],
    ["with the root attached", encodeSign1({ ...decodeSign1(bytes), payload: ledger.tree.root() }), "ReceiptMalformed"],
    ["that is no COSE", utf8("{}"), "ReceiptMalformed"],
  ])("%s is refused", async (_, receipt, code) => {
    expect(await codeOfAsync(() => verifyCoseReceipt(receipt, serviceKey))).toBe(code);
  });

  test("of another service is refused", async () => {
    const other = new X509Certificate(newService().certificate).publicKey;
    expect(await codeOfAsync(() => verifyCoseReceipt(bytes, other))).toBe("ReceiptInvalid");
  });

  test("with any byte changed is refused", async () => {
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 0x01;
      expect(await codeOfAsync(() => verifyCoseReceipt(changed, serviceKey)), `byte ${at}`).toMatch(/^Receipt/);
    }
  });
});
