/**
 * Elliptic keys, the ids made of them, and the raw signature of the ledger.
 *
 * CCF's nodes sign the 32 bytes of a Merkle root as if they were a digest already (ECDSA over a SHA-256 prehash, on any
 * curve). OpenSSL through Node signs messages only, but a root *is* a SHA-256: of its two children. So the children are
 * signed as the message, and the result is exactly that signature. Signing and checking run in OpenSSL's thread pool.
 *
 * Neutral. Pure, but for the randomness of new keys and signatures.
 */
import {
  createPublicKey,
  sign as cryptoSign,
  verify as cryptoVerify,
  type ECKeyPairOptions,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { assert } from "../check.ts";
import { DIGEST_BYTES, sha256Hex } from "./hash.ts";
import { pemToDer } from "./pem.ts";

export type Curve = "P-384" | "P-256";

/** Two children of a Merkle root, back to back. */
export const PREIMAGE_BYTES = 2 * DIGEST_BYTES;

export function generateEcKey(curve: Curve): { privateKey: KeyObject; publicKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: curve } satisfies ECKeyPairOptions);
}

/** DER SubjectPublicKeyInfo of a public key, or of the public part of a private one. */
export function spkiDer(key: KeyObject): Buffer {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  return publicKey.export({ type: "spki", format: "der" });
}

/** Lower-case hex SHA-256 of the DER SubjectPublicKeyInfo: a node's id, and the text of a COSE kid. */
export function spkiDigest(key: KeyObject): string {
  let digest = digests.get(key);
  if (digest === undefined) {
    digest = sha256Hex(spkiDer(key));
    digests.set(key, digest);
  }
  return digest;
}

/** Encoding a P-384 point takes OpenSSL 40 to 80 us, and every ledger signature names its key by this digest. */
const digests = new WeakMap<KeyObject, string>();

/**
 * Lower-case hex SHA-256 of a certificate's DER: the id of a member or user.
 * @param certificate DER bytes, or PEM text.
 * @throws Fault<PemFault>
 */
export function certificateId(certificate: Uint8Array | string): string {
  return sha256Hex(typeof certificate === "string" ? pemToDer(certificate) : certificate);
}

/** Signs the Merkle root SHA-256(preimage) as a prehash. @returns DER ECDSA signature. */
export function signRoot(preimage: Uint8Array, privateKey: KeyObject): Promise<Buffer> {
  assert(preimage.length === PREIMAGE_BYTES, "a root's preimage is its two children");
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  cryptoSign("sha256", preimage, { key: privateKey, dsaEncoding: "der" }, settle(resolve, reject));
  return promise;
}

/** True if `signature` (DER ECDSA) over the root SHA-256(preimage) as a prehash is by `publicKey`. */
export function verifyRoot(preimage: Uint8Array, signature: Uint8Array, publicKey: KeyObject): Promise<boolean> {
  assert(preimage.length === PREIMAGE_BYTES, "a root's preimage is its two children");
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  cryptoVerify("sha256", preimage, { key: publicKey, dsaEncoding: "der" }, signature, settle(resolve, reject));
  return promise;
}

/** The same, at once and on this thread. */
export function verifyRootSync(preimage: Uint8Array, signature: Uint8Array, publicKey: KeyObject): boolean {
  assert(preimage.length === PREIMAGE_BYTES, "a root's preimage is its two children");
  return cryptoVerify("sha256", preimage, { key: publicKey, dsaEncoding: "der" }, signature);
}

/** A Node callback that settles a promise. */
export function settle<T>(resolve: (value: T) => void, reject: (error: Error) => void) {
  return (error: Error | null, value?: T): void => {
    if (error !== null) reject(error);
    else resolve(value as T);
  };
}
