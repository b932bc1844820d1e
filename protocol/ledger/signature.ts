/**
 * The two signatures of a signature transaction, as they lie in the ledger.
 *
 * `public:ccf.internal.signatures`: JSON; the signing node's ECDSA over the root as a prehash (see crypto/keys.ts).
 * `public:ccf.internal.cose_signatures`: JSON string of base64; a COSE_Sign1 by the service key, the root as detached
 * payload, protected header
 *
 *   1        algorithm    -35 for the service's P-384
 *   4        kid          bstr: 64 ASCII hex digits, SHA-256 of the service key's DER SubjectPublicKeyInfo
 *   395      vds          2, CCF_LEDGER_SHA256
 *   15       CWT claims   { 6: iat in seconds, 1: iss, 2: sub }
 *   "ccf.v1" { "txid": "<view>.<seqno>" } of the signature transaction
 *
 * in CCF's order (7.0.2; reference ccf-ledger-format.md 7). With other unprotected headers the same message is a receipt.
 *
 * Neutral. Pure, but for the randomness of signatures.
 */
import type { KeyObject } from "node:crypto";
import { fromBase64, fromUtf8, toBase64, utf8, view } from "../bytes.ts";
import { Fault } from "../check.ts";
import { type Cbor, type CborKey, isBytes, isMap } from "../crypto/cbor.ts";
import {
  algorithmFor,
  COSE_HEADER,
  decodeSign1,
  type Sign1,
  signSign1,
  verifySign1,
  verifySign1Sync,
} from "../crypto/cose.ts";
import { spkiDigest } from "../crypto/keys.ts";
import { formatTxId, isId, type NodeId, type Seqno, type TxId, type View } from "../ids.ts";

export const CCF_LEDGER_SHA256 = 2;

const CWT = { issuer: 1, subject: 2, issuedAt: 6 } as const;
const CCF_CLAIMS = "ccf.v1";
const TX_ID_CLAIM = "txid";
const NO_NONCE = "0".repeat(64);
const SIGNATURE_JSON_CHARS_MAX = 64 * 1024;

export type SignatureFault = { code: "SignatureMalformed" };

/** A row of `public:ccf.internal.signatures`. */
export type RawSignature = Readonly<{
  node: NodeId;
  seqno: Seqno;
  view: View;
  /** Hex. */
  root: string;
  /** DER ECDSA. */
  signature: Uint8Array;
  /** PEM of the signing node's service-endorsed certificate. */
  certificate?: string;
}>;

/** What a ledger signature says. `txId` is that of the signature transaction, `issuedAt` seconds since 1970. */
export type LedgerSignature = Readonly<{
  root: Uint8Array;
  txId: TxId;
  key: KeyObject;
  issuer: string;
  subject: string;
  issuedAt: number;
}>;

/** Signs a root with the service key, at once and on this thread. */
export function ledgerSignature(parts: LedgerSignature): Buffer {
  const { root, txId, key, issuer, subject, issuedAt } = parts;
  const headers = new Map<CborKey, Cbor>([
    [COSE_HEADER.kid, utf8(spkiDigest(key))],
    [COSE_HEADER.verifiableDataStructure, CCF_LEDGER_SHA256],
    [
      COSE_HEADER.cwtClaims,
      new Map<CborKey, Cbor>([
        [CWT.issuedAt, issuedAt],
        [CWT.issuer, issuer],
        [CWT.subject, subject],
      ]),
    ],
    [CCF_CLAIMS, new Map([[TX_ID_CLAIM, formatTxId(txId)]])],
  ]);
  return signSign1({ key, headers, payload: root, detached: true });
}

/**
 * Checks a ledger signature against the root it must be over, in OpenSSL's thread pool.
 * @param txId of the signature transaction, where the caller knows it.
 * @returns what is wrong, or undefined. Never throws for what is in `cose`.
 */
export async function verifyLedgerSignature(
  cose: Uint8Array,
  root: Uint8Array,
  servicePublicKey: KeyObject,
  txId?: TxId,
): Promise<string | undefined> {
  const message = checkedMessage(cose, servicePublicKey, txId);
  if (typeof message === "string") return message;
  return (await verifySign1(message, servicePublicKey, root)) ? undefined : NOT_BY_THE_SERVICE;
}

/** The same, at once and on this thread. */
export function verifyLedgerSignatureSync(
  cose: Uint8Array,
  root: Uint8Array,
  servicePublicKey: KeyObject,
  txId?: TxId,
): string | undefined {
  const message = checkedMessage(cose, servicePublicKey, txId);
  if (typeof message === "string") return message;
  return verifySign1Sync(message, servicePublicKey, root) ? undefined : NOT_BY_THE_SERVICE;
}

const NOT_BY_THE_SERVICE = "the service signature does not verify";

/** The message of a ledger signature whose signature alone is still to be checked, or what is wrong with it. */
function checkedMessage(cose: Uint8Array, servicePublicKey: KeyObject, txId: TxId | undefined): Sign1 | string {
  let message: Sign1;
  try {
    message = decodeSign1(cose);
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
  if (message.payload !== null) return "the service signature carries a payload; the root must be detached";
  const fault = headerFault(message, servicePublicKey);
  if (fault !== undefined) return fault;
  const named = signatureTxId(message);
  if (txId !== undefined && named !== formatTxId(txId))
    return `the service signature is for transaction ${named ?? "(none)"}, not ${formatTxId(txId)}`;
  return message;
}

/** What is wrong with the headers of a ledger signature or receipt by this key, or undefined. */
export function headerFault(message: Sign1, servicePublicKey: KeyObject): string | undefined {
  const headers = message.protected;
  const kid = headers.get(COSE_HEADER.kid);
  if (!isBytes(kid) || view(kid).toString("latin1") !== spkiDigest(servicePublicKey))
    return "the service signature names another key (kid) than the service's";
  if (headers.get(COSE_HEADER.algorithm) !== algorithmFor(servicePublicKey))
    return "the service signature names an algorithm that is not that of the service's key";
  if (headers.get(COSE_HEADER.verifiableDataStructure) !== CCF_LEDGER_SHA256)
    return "the service signature is not over a CCF ledger (vds)";
  return undefined;
}

/** The TxID, as text, of the signature transaction that a ledger signature or receipt comes from. */
export function signatureTxId(message: Sign1): string | undefined {
  const claims = message.protected.get(CCF_CLAIMS);
  const txId = isMap(claims) ? claims.get(TX_ID_CLAIM) : undefined;
  return typeof txId === "string" ? txId : undefined;
}

/** The row's JSON, keys in byte order as CCF writes them. */
export function encodeRawSignature(row: RawSignature): Buffer {
  const { node, seqno, view: inView, root, signature, certificate } = row;
  return utf8(
    JSON.stringify({
      ...(certificate !== undefined && { cert: certificate }),
      commit_seqno: 0,
      commit_view: 0,
      hashed_nonce: NO_NONCE,
      node,
      root,
      seqno,
      sig: toBase64(signature),
      view: inView,
    }),
  );
}

/** Reads a row of `public:ccf.internal.signatures`. Fields that CCF has deprecated are ignored. @throws Fault<SignatureFault> */
export function decodeRawSignature(bytes: Uint8Array): RawSignature {
  const row = parseJson(bytes);
  if (typeof row !== "object" || row === null || Array.isArray(row))
    throw malformed("a node signature is not an object");
  const { cert, node, seqno, view: inView, root, sig } = row as Record<string, unknown>;
  if (typeof node !== "string" || !isId(node)) throw malformed("a node signature lacks the node's id");
  if (typeof root !== "string" || !isId(root)) throw malformed("a node signature lacks the root");
  if (!isCount(seqno) || !isCount(inView)) throw malformed("a node signature lacks its seqno or view");
  if (typeof sig !== "string") throw malformed("a node signature lacks the signature");
  // Old ledgers leave the certificate out or write it empty.
  if (cert !== undefined && cert !== null && typeof cert !== "string")
    throw malformed("the certificate in a node signature is not text");
  return {
    node,
    seqno,
    view: inView,
    root,
    signature: inBase64(sig),
    ...(typeof cert === "string" && cert !== "" && { certificate: cert }),
  };
}

/** The COSE_Sign1 in a row of `public:ccf.internal.cose_signatures`. @throws Fault<SignatureFault> */
export function decodeCoseSignatureRow(bytes: Uint8Array): Buffer {
  const row = parseJson(bytes);
  if (typeof row !== "string") throw malformed("a service signature row is not a JSON string");
  return inBase64(row);
}

function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length > SIGNATURE_JSON_CHARS_MAX) throw malformed("a signature row is longer than any signature");
  try {
    return JSON.parse(fromUtf8(bytes));
  } catch (error) {
    throw malformed("a signature row is not JSON", error);
  }
}

function inBase64(text: string): Buffer {
  try {
    return fromBase64(text);
  } catch (error) {
    throw malformed("a signature is not base64", error);
  }
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function malformed(message: string, cause?: unknown): Fault<SignatureFault> {
  return new Fault<SignatureFault>({ code: "SignatureMalformed" }, message, { cause });
}
