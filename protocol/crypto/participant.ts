/**
 * Keys and certificates of members and users, made on their own machines.
 *
 * A certificate here is only a name for a key: the service looks up its digest, and nothing chains. It is self-signed and
 * not a CA. A member who takes part in recovery has an RSA key as well, to which recovery shares are encrypted (CCF:
 * 2048 bits, OAEP with SHA-256).
 *
 * Neutral. Pure, but for the randomness of new keys.
 */
import { generateKeyPair, type KeyObject } from "node:crypto";
import { type Curve, certificateId, generateEcKey } from "./keys.ts";
import { selfSigned } from "./x509.ts";

export type Participant = Readonly<{
  /** Member or user id: hex SHA-256 of the certificate's DER. */
  id: string;
  certificatePem: string;
  /** PKCS#8 PEM. */
  privateKeyPem: string;
  privateKey: KeyObject;
}>;

export type EncryptionKeyPair = Readonly<{ publicKeyPem: string; privateKeyPem: string }>;

const VALIDITY_DAYS = 365;
const RSA_BITS = 2048;

/** A new member or user. @param name becomes the certificate's CN. @throws Fault<NameFault> for a name with a comma */
export function createParticipant(parts: { name: string; validFrom: Date; curve?: Curve; days?: number }): Participant {
  const { name, validFrom, curve = "P-384", days = VALIDITY_DAYS } = parts;
  const { privateKey } = generateEcKey(curve);
  const certificatePem = selfSigned({ subjectName: `CN=${name}`, key: privateKey, validFrom, days, ca: false });
  return {
    id: certificateId(certificatePem),
    certificatePem,
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    privateKey,
  };
}

/** A new key pair for recovery shares, made in the thread pool: it takes a good part of a second. */
export function createEncryptionKeyPair(): Promise<EncryptionKeyPair> {
  const { promise, resolve, reject } = Promise.withResolvers<EncryptionKeyPair>();
  const encoding = {
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  } as const;
  generateKeyPair("rsa", { modulusLength: RSA_BITS, ...encoding }, (error, publicKeyPem, privateKeyPem) => {
    if (error !== null) reject(error);
    else resolve({ publicKeyPem, privateKeyPem });
  });
  return promise;
}
