/**
 * Small secrets, encrypted: to a symmetric key, or to the RSA key of a member or node.
 *
 * A blob is `tag(16) ‖ iv(12) ‖ ciphertext`, AES-256-GCM without associated data; RSA is OAEP with SHA-256 throughout and
 * no label. Both are CCF's forms for shares and ledger secrets (7.0.2 `src/node/share_manager.h`; reference
 * ccf-ledger-format.md 12).
 *
 * Neutral. Pure, but for the randomness of IVs and padding.
 */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import { assert, Fault } from "../check.ts";

export type BlobFault =
  /** Changed, cut off, or made with another key. Which one cannot be told. */
  { code: "BlobNotAuthentic" };

export const BLOB_KEY_BYTES = 32;

const TAG_BYTES = 16;
const IV_BYTES = 12;

/**
 * @param key 32 bytes.
 * @param iv only where the format fixes it; then `key` is used for this blob alone.
 */
export function sealBlob(key: Uint8Array, plaintext: Uint8Array, iv: Uint8Array = randomBytes(IV_BYTES)): Buffer {
  assert(key.length === BLOB_KEY_BYTES && iv.length === IV_BYTES, "a blob has a 256-bit key and a 96-bit IV");
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([cipher.getAuthTag(), iv, ciphertext]);
}

/** @throws Fault `BlobNotAuthentic` */
export function openBlob(key: Uint8Array, blob: Uint8Array): Buffer {
  assert(key.length === BLOB_KEY_BYTES, "a blob has a 256-bit key");
  if (blob.length < TAG_BYTES + IV_BYTES) throw notAuthentic();
  const iv = blob.subarray(TAG_BYTES, TAG_BYTES + IV_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(blob.subarray(0, TAG_BYTES));
  const plaintext = decipher.update(blob.subarray(TAG_BYTES + IV_BYTES));
  try {
    decipher.final();
  } catch (error) {
    throw notAuthentic(error);
  }
  return plaintext;
}

/** @param publicKey RSA, as KeyObject or PEM. */
export function encryptTo(publicKey: KeyObject | string, plaintext: Uint8Array): Buffer {
  const key = typeof publicKey === "string" ? createPublicKey(publicKey) : publicKey;
  return publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, plaintext);
}

/** @param privateKey RSA, as KeyObject or PEM. @throws Fault `BlobNotAuthentic` */
export function decryptWith(privateKey: KeyObject | string, ciphertext: Uint8Array): Buffer {
  const key = typeof privateKey === "string" ? createPrivateKey(privateKey) : privateKey;
  try {
    return privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, ciphertext);
  } catch (error) {
    throw notAuthentic(error);
  }
}

function notAuthentic(cause?: unknown): Fault<BlobFault> {
  return new Fault<BlobFault>(
    { code: "BlobNotAuthentic" },
    "the encrypted secret does not open: it was changed, or is for another key",
    { cause },
  );
}
