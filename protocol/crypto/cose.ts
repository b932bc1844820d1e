/**
 * COSE_Sign1 (RFC 9052): a payload, headers and one signature.
 *
 *   18([ protected: bstr .cbor map, unprotected: map, payload: bstr / null, signature: bstr ])
 *
 * Ledger signatures, receipts and members' requests are such messages. The tag is mandatory, as CCF has it. What is signed
 * are the *bytes* of the protected header, so they are kept as they came; the unprotected header is nobody's word and is
 * never relied on. ECDSA with the hash of the curve, r and s of fixed length (RFC 9053).
 *
 * Neutral. Pure, but for the randomness of signatures.
 */
import { createPublicKey, sign as cryptoSign, verify as cryptoVerify, type KeyObject } from "node:crypto";
import { Fault, present } from "../check.ts";
import { type Cbor, type CborMap, decodeCbor, encodeCbor, isArray, isBytes, isMap, Tagged } from "./cbor.ts";
import { settle } from "./keys.ts";

/** ES256, ES384, ES512. */
export type CoseAlgorithm = -7 | -35 | -36;

export type CoseFault =
  | { code: "CoseMalformed" }
  /** A key of a kind that nothing here signs with. */
  | { code: "CoseKeyUnsupported" };

/** Labels of COSE headers (IANA; 395, 396: draft-ietf-cose-merkle-tree-proofs). */
export const COSE_HEADER = {
  algorithm: 1,
  kid: 4,
  cwtClaims: 15,
  verifiableDataStructure: 395,
  verifiableDataProofs: 396,
} as const;

export type Sign1 = Readonly<{
  /** The protected header as it was signed. */
  protectedBytes: Uint8Array;
  protected: CborMap;
  unprotected: CborMap;
  /** Null if it is detached: the verifier must know it. */
  payload: Uint8Array | null;
  signature: Uint8Array;
}>;

const SIGN1_TAG = 18;
const NO_HEADERS: CborMap = new Map();

const ALGORITHMS: Record<string, { algorithm: CoseAlgorithm; hash: string; signatureBytes: number }> = {
  prime256v1: { algorithm: -7, hash: "sha256", signatureBytes: 64 },
  secp384r1: { algorithm: -35, hash: "sha384", signatureBytes: 96 },
  secp521r1: { algorithm: -36, hash: "sha512", signatureBytes: 132 },
};

/** Reads a COSE_Sign1. @throws Fault<CoseFault> */
export function decodeSign1(bytes: Uint8Array): Sign1 {
  const envelope = decoded(bytes, "the COSE envelope");
  if (!(envelope instanceof Tagged) || envelope.tag !== SIGN1_TAG)
    throw malformed("a COSE_Sign1 begins with CBOR tag 18; this does not");
  if (!isArray(envelope.value) || envelope.value.length !== 4) throw malformed("a COSE_Sign1 has four elements");
  const [protectedBytes, unprotected, payload, signature] = envelope.value;
  if (!isBytes(protectedBytes)) throw malformed("the protected header of a COSE_Sign1 is a byte string");
  if (!isMap(unprotected)) throw malformed("the unprotected header of a COSE_Sign1 is a map");
  if (payload !== null && !isBytes(payload)) throw malformed("the payload of a COSE_Sign1 is a byte string or null");
  if (!isBytes(signature)) throw malformed("the signature of a COSE_Sign1 is a byte string");
  const headers = decoded(protectedBytes, "the protected header");
  if (!isMap(headers)) throw malformed("the protected header of a COSE_Sign1 is not a map");
  return { protectedBytes, protected: headers, unprotected, payload: payload ?? null, signature };
}

export function encodeSign1(parts: {
  protectedBytes: Uint8Array;
  unprotected?: CborMap;
  payload: Uint8Array | null;
  signature: Uint8Array;
}): Buffer {
  const { protectedBytes, unprotected = NO_HEADERS, payload, signature } = parts;
  return encodeCbor(new Tagged(SIGN1_TAG, [protectedBytes, unprotected, payload, signature]));
}

/** The bytes that a COSE_Sign1 signs: `["Signature1", protected, h'', payload]`. */
export function toBeSigned(protectedBytes: Uint8Array, payload: Uint8Array): Buffer {
  return encodeCbor(["Signature1", protectedBytes, Buffer.alloc(0), payload]);
}

/** The algorithm that goes with a key's curve. @throws Fault `CoseKeyUnsupported` for keys that are not P-256, P-384 or P-521 */
export function algorithmFor(key: KeyObject): CoseAlgorithm {
  return parametersFor(key).algorithm;
}

/** Length of a signature by such a key. @throws Fault `CoseKeyUnsupported` */
export function signatureBytesFor(key: KeyObject): number {
  return parametersFor(key).signatureBytes;
}

/**
 * Makes a whole COSE_Sign1, at once and on this thread.
 * @param headers all protected headers but the algorithm, which comes first.
 * @param detached leaves the payload out of the message.
 * @throws Fault `CoseKeyUnsupported`
 */
export function signSign1(parts: {
  key: KeyObject;
  headers: CborMap;
  payload: Uint8Array;
  detached?: boolean;
}): Buffer {
  const { key, headers, payload, detached = false } = parts;
  const { algorithm, hash } = parametersFor(key);
  const protectedBytes = encodeCbor(new Map([[COSE_HEADER.algorithm, algorithm], ...headers]));
  const signature = cryptoSign(hash, toBeSigned(protectedBytes, payload), { key, dsaEncoding: "ieee-p1363" });
  return encodeSign1({ protectedBytes, payload: detached ? null : payload, signature });
}

/** Signs what `toBeSigned` gives, in OpenSSL's thread pool. @returns r ‖ s. @throws Fault `CoseKeyUnsupported` */
export function signToBeSigned(bytes: Uint8Array, key: KeyObject): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  cryptoSign(parametersFor(key).hash, bytes, { key, dsaEncoding: "ieee-p1363" }, settle(resolve, reject));
  return promise;
}

/**
 * True if the message is signed by `publicKey` with the algorithm of its curve. Runs in OpenSSL's thread pool.
 * @param payload the payload, where it is detached.
 */
export function verifySign1(message: Sign1, publicKey: KeyObject, payload?: Uint8Array): Promise<boolean> {
  const check = checkable(message, publicKey, payload);
  if (check === undefined) return Promise.resolve(false);
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const key = { key: publicKey, dsaEncoding: "ieee-p1363" } as const;
  cryptoVerify(check.hash, check.bytes, key, message.signature, settle(resolve, reject));
  return promise;
}

/** The same, at once and on this thread. */
export function verifySign1Sync(message: Sign1, publicKey: KeyObject, payload?: Uint8Array): boolean {
  const check = checkable(message, publicKey, payload);
  if (check === undefined) return false;
  return cryptoVerify(check.hash, check.bytes, { key: publicKey, dsaEncoding: "ieee-p1363" }, message.signature);
}

/** What must be signed and with which hash; undefined if the message cannot be by this key. */
function checkable(message: Sign1, publicKey: KeyObject, payload: Uint8Array | undefined) {
  const { algorithm, hash, signatureBytes } = parametersFor(publicKey);
  const content = payload ?? message.payload;
  // With a payload inside and another one outside, a reader could believe the wrong one.
  if (content === null || (payload !== undefined && message.payload !== null)) return undefined;
  if (message.protected.get(COSE_HEADER.algorithm) !== algorithm) return undefined;
  if (message.signature.length !== signatureBytes) return undefined;
  return { hash, bytes: toBeSigned(message.protectedBytes, content) };
}

function parametersFor(key: KeyObject) {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const curve = publicKey.asymmetricKeyType === "ec" ? publicKey.asymmetricKeyDetails?.namedCurve : undefined;
  const parameters = curve === undefined ? undefined : ALGORITHMS[curve];
  if (parameters === undefined)
    throw new Fault<CoseFault>(
      { code: "CoseKeyUnsupported" },
      `a COSE signature needs a key on P-256, P-384 or P-521; this one is ${curve ?? publicKey.asymmetricKeyType ?? "of no known kind"}`,
    );
  return present(parameters, "every curve has its parameters");
}

function decoded(bytes: Uint8Array, what: string): Cbor {
  try {
    return decodeCbor(bytes);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new Fault<CoseFault>({ code: "CoseMalformed" }, `${what} is not valid CBOR: ${error.message}`, {
      cause: error,
    });
  }
}

function malformed(message: string): Fault<CoseFault> {
  return new Fault<CoseFault>({ code: "CoseMalformed" }, message);
}
