/**
 * The keys of this node and of the service.
 *
 * A node's identity lives in this process alone and dies with it: a restarted enclave is a new node. The service's key is
 * in every trusted enclave; it signs node certificates and the ledger.
 *
 * Trusted.
 */
import { createPrivateKey, generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { fromHex } from "../../../protocol/bytes.ts";
import { generateEcKey, spkiDer, spkiDigest } from "../../../protocol/crypto/keys.ts";
import { derToPem } from "../../../protocol/crypto/pem.ts";
import { createCsr, selfSigned } from "../../../protocol/crypto/x509.ts";
import type { NodeId } from "../../../protocol/ids.ts";
import type { EnclaveConfig } from "../../boundary/config.ts";

export type NodeIdentity = Readonly<{
  id: NodeId;
  key: KeyObject;
  /** DER SubjectPublicKeyInfo; its SHA-256 is the id and the report data of this node's evidence. */
  publicKeyDer: Uint8Array;
  publicKeyPem: string;
  reportData: Uint8Array;
  /** PEM: the certificate shown before the service has endorsed one, and its validity. */
  selfSignedCertificate: string;
  validFrom: Date;
  validityDays: number;
  certificateRequest: string;
  /** PEM of the RSA key to which later ledger secrets are wrapped, and its private part. */
  encryptionPublicKey: string;
  encryptionKey: KeyObject;
}>;

export type ServiceIdentity = Readonly<{ key: KeyObject; certificate: string }>;

const generateRsa = promisify(generateKeyPair);

/** Makes this node's identity: a key of the configured curve, a self-signed certificate, a certificate request. */
export async function createNodeIdentity(
  config: EnclaveConfig["node_certificate"],
  subjectAltNames: readonly string[],
  now: Date,
): Promise<NodeIdentity> {
  const encryption = await generateRsa("rsa", { modulusLength: 2048 });
  const key = generateEcKey(config.curve_id === "Secp384R1" ? "P-384" : "P-256").privateKey;
  const publicKeyDer = spkiDer(key);
  const id = spkiDigest(key);
  const sans = [...subjectAltNames];
  const validityDays = config.initial_validity_days;
  return {
    id,
    key,
    publicKeyDer,
    publicKeyPem: derToPem("PUBLIC KEY", publicKeyDer),
    reportData: fromHex(id),
    selfSignedCertificate: selfSigned({
      subjectName: config.subject_name,
      key,
      validFrom: now,
      days: validityDays,
      sans,
    }),
    validFrom: now,
    validityDays,
    certificateRequest: createCsr({ subjectName: config.subject_name, sans, key }),
    encryptionPublicKey: encryption.publicKey.export({ type: "spki", format: "pem" }).toString(),
    encryptionKey: encryption.privateKey,
  };
}

/** Makes the identity of a new service. */
export function createServiceIdentity(subjectName: string, validityDays: number, now: Date): ServiceIdentity {
  const { privateKey } = generateEcKey("P-384");
  return {
    key: privateKey,
    certificate: selfSigned({ subjectName, key: privateKey, validFrom: now, days: validityDays }),
  };
}

/** The identity of a service as it came in a join response. */
export function importServiceIdentity(certificate: string, privateKeyPem: string): ServiceIdentity {
  return { key: createPrivateKey(privateKeyPem), certificate };
}
