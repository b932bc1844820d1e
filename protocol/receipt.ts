/**
 * Receipts: proof, without the ledger, that a transaction is in it.
 *
 * Both kinds carry a leaf's three parts, the path from the leaf to a root, and a signature over that root. The JSON kind
 * has the node's signature and a certificate chain to the service; the COSE kind is the service's own ledger signature with
 * the path in its unprotected header (draft-ietf-scitt-receipts-ccf-profile):
 *
 *   18([ protected, { 396: { -1: [ bstr .cbor proof ] } }, null, signature ])
 *   proof = { 1: [ write set digest, commit evidence: tstr, claims digest ], 2: [ [ left: bool, sibling ], ... ] }
 *
 * Commit evidence is shown by a node only for what is committed, so whoever has a receipt knows that it is. Formats as in
 * CCF 7.0.2 (reference ccf-ledger-format.md 8 and 9). The JSON receipt of a signature transaction has no path, and its bare
 * root cannot be checked here (see crypto/keys.ts): it is refused, and the ledger verifier is the tool for it.
 *
 * Neutral. Pure; signatures are checked in OpenSSL's thread pool.
 */
import { type KeyObject, X509Certificate } from "node:crypto";
import { equal, fromBase64, fromHex, toBase64, toHex, utf8 } from "./bytes.ts";
import { Fault, present } from "./check.ts";
import { type Cbor, decodeCbor, encodeCbor, isArray, isMap } from "./crypto/cbor.ts";
import { COSE_HEADER, decodeSign1, encodeSign1, type Sign1, verifySign1 } from "./crypto/cose.ts";
import { DIGEST_BYTES, sha256 } from "./crypto/hash.ts";
import { spkiDigest, verifyRoot } from "./crypto/keys.ts";
import { type NodeId, parseTxId, type TxId } from "./ids.ts";
import { leafDigest } from "./ledger/entry.ts";
import { type PathStep, rootFromPath } from "./ledger/merkle.ts";
import { headerFault, signatureTxId } from "./ledger/signature.ts";

export type ReceiptFault =
  | { code: "ReceiptMalformed" }
  /** Well formed, and not what the service signed. */
  | { code: "ReceiptInvalid" };

/** The parts of a leaf. Digests are 32 bytes. */
export type LeafParts = Readonly<{ writeSetDigest: Uint8Array; commitEvidence: string; claimsDigest: Uint8Array }>;

/** What a good receipt says. */
export type Proven = Readonly<{
  /** Of the transaction, as its commit evidence says. */
  txId: TxId;
  writeSetDigest: Uint8Array;
  /** What the application claimed in the transaction; 32 zero bytes if nothing. */
  claimsDigest: Uint8Array;
  root: Buffer;
}>;

export type JsonReceipt = Readonly<{
  cert: string;
  node_id: NodeId;
  signature: string;
  leaf_components: Readonly<{ claims_digest: string; commit_evidence: string; write_set_digest: string }>;
  proof: readonly (Readonly<{ left: string }> | Readonly<{ right: string }>)[];
  service_endorsements?: readonly string[];
}>;

const LEAF = 1;
const PATH = 2;
const INCLUSION_PROOFS = -1;
/** A tree over 2^64 leaves has no longer paths. */
const PATH_STEPS_MAX = 64;
const PROOFS_MAX = 16;
const ENDORSEMENTS_MAX = 64;
const COMMIT_EVIDENCE = /^ce:(\d{1,16}\.\d{1,16}):[0-9a-f]{64}$/;

/**
 * A JSON receipt.
 * @param parts.signature DER ECDSA of the node over the root to which `path` leads. @param parts.certificate PEM of that node.
 */
export function jsonReceipt(parts: {
  leaf: LeafParts;
  path: readonly PathStep[];
  node: NodeId;
  certificate: string;
  signature: Uint8Array;
  serviceEndorsements?: readonly string[];
}): JsonReceipt {
  const { leaf, path, node, certificate, signature, serviceEndorsements = [] } = parts;
  return {
    cert: certificate,
    leaf_components: {
      claims_digest: toHex(leaf.claimsDigest),
      commit_evidence: leaf.commitEvidence,
      write_set_digest: toHex(leaf.writeSetDigest),
    },
    node_id: node,
    proof: path.map(({ side, hash }) => (side === "left" ? { left: toHex(hash) } : { right: toHex(hash) })),
    signature: toBase64(signature),
    ...(serviceEndorsements.length > 0 && { service_endorsements: serviceEndorsements }),
  };
}

/**
 * Verifies a JSON receipt. Dates in certificates are not judged: a receipt outlives them.
 * @param receipt parsed JSON, from anyone. @param serviceCertificatePem the service that the reader trusts.
 * @throws Fault<ReceiptFault>
 */
export async function verifyJsonReceipt(receipt: unknown, serviceCertificatePem: string): Promise<Proven> {
  const { cert, signature, leaf_components, proof, service_endorsements = [], node_id } = object(receipt, "a receipt");
  if (leaf_components === undefined)
    throw malformed(
      "the receipt has no leaf components; it is that of a signature transaction, which has no path to check",
    );
  const { write_set_digest, commit_evidence, claims_digest } = object(leaf_components, "leaf_components");
  const leaf: LeafParts = {
    writeSetDigest: hexDigest(write_set_digest, "write_set_digest"),
    commitEvidence: evidenceText(commit_evidence, "commit_evidence"),
    claimsDigest: hexDigest(claims_digest, "claims_digest"),
  };
  const path = list(proof, PATH_STEPS_MAX, "proof").map(jsonStep);
  const chain = list(service_endorsements, ENDORSEMENTS_MAX, "service_endorsements");
  const node = certificate(cert, "cert");
  if (node_id !== undefined && node_id !== spkiDigest(node.publicKey))
    throw invalid("the node id is not that of the certificate in the receipt");

  let endorsed = node;
  for (const endorser of [
    ...chain.map((pem) => certificate(pem, "service_endorsements")),
    certificate(serviceCertificatePem, "the service certificate"),
  ]) {
    if (!endorsed.verify(endorser.publicKey)) throw invalid("the node's certificate does not lead to the service");
    endorsed = endorser;
  }
  const { proven, preimage } = follow(leaf, path);
  if (!(await signedBy(node.publicKey, preimage, base64(signature))))
    throw invalid("the node's signature does not verify");
  return proven;
}

/**
 * A COSE receipt.
 * @param parts.signature the ledger signature (COSE_Sign1) over the root to which `path` leads.
 */
export function coseReceipt(parts: { leaf: LeafParts; path: readonly PathStep[]; signature: Uint8Array }): Buffer {
  const { leaf, path, signature } = parts;
  const proof = encodeCbor(
    new Map<number, Cbor>([
      [LEAF, [leaf.writeSetDigest, leaf.commitEvidence, leaf.claimsDigest]],
      [PATH, path.map(({ side, hash }) => [side === "left", hash])],
    ]),
  );
  const unprotected = new Map([[COSE_HEADER.verifiableDataProofs, new Map([[INCLUSION_PROOFS, [proof]]])]]);
  return encodeSign1({ ...decodeSign1(signature), unprotected });
}

/**
 * Verifies a COSE receipt.
 * @param servicePublicKey of the service that the reader trusts.
 * @returns what it proves, and the TxID, as text, of the signature transaction that it comes from.
 * @throws Fault<ReceiptFault>
 */
export async function verifyCoseReceipt(
  bytes: Uint8Array,
  servicePublicKey: KeyObject,
): Promise<Proven & { signedAt: string | undefined }> {
  const message = understood(() => decodeSign1(bytes));
  const headers = message.unprotected.get(COSE_HEADER.verifiableDataProofs);
  const proofs = list(isMap(headers) ? headers.get(INCLUSION_PROOFS) : undefined, PROOFS_MAX, "the inclusion proofs");
  const [first, ...others] = proofs.map(readProof);
  if (first === undefined) throw malformed("a receipt has at least one inclusion proof");
  for (const other of others)
    if (!equal(other.proven.root, first.proven.root) || !equal(other.proven.claimsDigest, first.proven.claimsDigest))
      throw invalid("the proofs in the receipt contradict one another");
  await checkServiceSignature(message, servicePublicKey, first.proven.root);
  return { ...first.proven, signedAt: signatureTxId(message) };
}

async function checkServiceSignature(message: Sign1, key: KeyObject, root: Uint8Array): Promise<void> {
  if (message.payload !== null) throw malformed("a receipt's payload is detached");
  const fault = headerFault(message, key);
  if (fault !== undefined) throw invalid(fault);
  if (!(await verifySign1(message, key, root))) throw invalid("the service signature does not verify");
}

function readProof(bytes: unknown): ReturnType<typeof follow> {
  if (!(bytes instanceof Uint8Array)) throw malformed("an inclusion proof is a byte string");
  const proof = understood(() => decodeCbor(bytes));
  const leaf = isMap(proof) ? proof.get(LEAF) : undefined;
  const steps = isMap(proof) ? proof.get(PATH) : undefined;
  if (!isArray(leaf) || leaf.length !== 3) throw malformed("an inclusion proof has a leaf of three parts");
  const [writeSetDigest, commitEvidence, claimsDigest] = leaf;
  const path = list(steps, PATH_STEPS_MAX, "the path").map((step): PathStep => {
    const [left, hash] = Array.isArray(step) && step.length === 2 ? step : [];
    if (typeof left !== "boolean") throw malformed("a step of a path is a side and a digest");
    return { side: left ? "left" : "right", hash: digest(hash, "a step of a path") };
  });
  return follow(
    {
      writeSetDigest: digest(writeSetDigest, "the write set digest"),
      commitEvidence: evidenceText(commitEvidence, "the commit evidence"),
      claimsDigest: digest(claimsDigest, "the claims digest"),
    },
    path,
  );
}

/** Hashes a leaf up to the root. `preimage` is the root's two children. */
function follow(leaf: LeafParts, path: readonly PathStep[]): { proven: Proven; preimage: Buffer } {
  const last = path.at(-1);
  if (last === undefined) throw malformed("a path has at least one step");
  const txId = present(COMMIT_EVIDENCE.exec(leaf.commitEvidence)?.[1], "commit evidence was checked");
  const hash = leafDigest(leaf.writeSetDigest, sha256(utf8(leaf.commitEvidence)), leaf.claimsDigest);
  const below = rootFromPath(hash, path.slice(0, -1));
  const preimage = last.side === "left" ? Buffer.concat([last.hash, below]) : Buffer.concat([below, last.hash]);
  const { writeSetDigest, claimsDigest } = leaf;
  return {
    proven: { txId: understood(() => parseTxId(txId)), writeSetDigest, claimsDigest, root: sha256(preimage) },
    preimage,
  };
}

function jsonStep(step: unknown): PathStep {
  const { left, right } = object(step, "a step of the proof");
  if ((left === undefined) === (right === undefined)) throw malformed("a step of the proof is either left or right");
  return left === undefined
    ? { side: "right", hash: hexDigest(right, "a step of the proof") }
    : { side: "left", hash: hexDigest(left, "a step of the proof") };
}

async function signedBy(key: KeyObject, preimage: Buffer, signature: Uint8Array): Promise<boolean> {
  if (key.asymmetricKeyType !== "ec") return false;
  return verifyRoot(preimage, signature, key);
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw malformed(`${what} is not a JSON object`);
  return value as Record<string, unknown>;
}

function list(value: unknown, most: number, what: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw malformed(`${what}: not a list of at most ${most}`);
  return value;
}

/** Commit evidence, in its only form. */
function evidenceText(value: unknown, what: string): string {
  if (typeof value !== "string" || !COMMIT_EVIDENCE.test(value))
    throw malformed(`${what} is not of the form ce:2.17:<64 hex digits>`);
  return value;
}

function digest(value: unknown, what: string): Buffer {
  if (!(value instanceof Uint8Array) || value.length !== DIGEST_BYTES) throw malformed(`${what} is not of 32 bytes`);
  return Buffer.from(value);
}

function hexDigest(value: unknown, what: string): Buffer {
  return digest(typeof value === "string" ? understood(() => fromHex(value)) : undefined, what);
}

function base64(value: unknown): Buffer {
  if (typeof value !== "string") throw malformed("the signature is not text");
  return understood(() => fromBase64(value));
}

function certificate(pem: unknown, what: string): X509Certificate {
  try {
    return new X509Certificate(typeof pem === "string" ? pem : "");
  } catch (error) {
    throw malformed(`${what} is not a certificate in PEM form`, error);
  }
}

/** Runs a decoder and turns its faults into this place's own. */
function understood<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw malformed(`the receipt is malformed: ${error.message}`, error);
  }
}

function malformed(message: string, cause?: unknown): Fault<ReceiptFault> {
  return new Fault<ReceiptFault>({ code: "ReceiptMalformed" }, message, { cause });
}

function invalid(message: string): Fault<ReceiptFault> {
  return new Fault<ReceiptFault>({ code: "ReceiptInvalid" }, message);
}
