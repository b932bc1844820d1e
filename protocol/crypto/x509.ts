/**
 * The certificates that a service makes, and the requests it makes them from.
 *
 *                       service certificate          node, self-signed    node, endorsed by the service
 *   issuer              itself                       itself               the service's subject
 *   basicConstraints    critical, CA, pathlen 1      the same             critical, not a CA
 *   keyUsage            critical, digitalSignature   the same             absent
 *                       and keyCertSign
 *   subjectAltName      none                         from configuration   from the request
 *
 * All are version 3 with a random 128-bit serial, subject and authority key identifiers, signed with the hash of the
 * issuer's curve; requests are signed with SHA-512. That is CCF 7.0.2's profile (`src/crypto/openssl/ec_key_pair.cpp`,
 * reference ccf-api-governance.md 9.1), so that its clients and verifiers accept them. Of a request only the key, the
 * subject and the alternative names are taken over.
 *
 * Neutral. Pure, but for the randomness of serials and signatures.
 */
import { createPublicKey, hash, type KeyObject, randomBytes, sign, verify } from "node:crypto";
import { equal } from "../bytes.ts";
import { assert, Fault, present } from "../check.ts";
import {
  bitString,
  contextTag,
  DerReader,
  element,
  malformed,
  objectId,
  sequence,
  TAG,
  unsignedInteger,
} from "./der.ts";
import { spkiDer } from "./keys.ts";
import { decodeAltNames, encodeAltNames, encodeSubject } from "./names.ts";
import { derToPem, pemToDer } from "./pem.ts";
import { encodeValidity } from "./validity.ts";

export type RequestFault =
  /** The signature on a request is not by the key in it. */
  | { code: "RequestNotSigned" }
  /** A key that no node has. */
  | { code: "RequestKeyUnsupported" };

export type SelfSigned = Readonly<{
  /** `CN=name`. */
  subjectName: string;
  key: KeyObject;
  validFrom: Date;
  days: number;
  /** `iPAddress:...`, `dNSName:...`. */
  sans?: readonly string[];
  /** True (the default) for services and nodes; false for members and users. */
  ca?: boolean;
}>;

export type CertificateRequest = Readonly<{
  publicKey: KeyObject;
  /** DER. */
  subject: Buffer;
  sans: readonly string[];
}>;

const OID = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extensionRequest: "1.2.840.113549.1.9.14",
} as const;

/** ECDSA signature algorithms by hash. */
const ECDSA = {
  sha256: "1.2.840.10045.4.3.2",
  sha384: "1.2.840.10045.4.3.3",
  sha512: "1.2.840.10045.4.3.4",
} as const;
type EcdsaHash = keyof typeof ECDSA;

const CURVE_HASH: Record<string, EcdsaHash> = { prime256v1: "sha256", secp384r1: "sha384", secp521r1: "sha512" };

const SERIAL_BYTES = 16;
const PEM_REQUEST_CHARS_MAX = 16 * 1024;
const REQUEST_ATTRIBUTES_TAG = contextTag(0, true);

/** A certificate that vouches for itself. @returns PEM. @throws Fault<NameFault> */
export function selfSigned(parts: SelfSigned): string {
  const { subjectName, key, validFrom, days, sans = [], ca = true } = parts;
  const subject = encodeSubject(subjectName);
  return issue({
    subject,
    publicKey: createPublicKey(key),
    issuer: subject,
    issuerKey: key,
    validFrom,
    days,
    sans,
    ca,
  });
}

/** A request for a certificate, signed with SHA-512. @returns PEM. @throws Fault<NameFault> */
export function createCsr(parts: { subjectName: string; sans: readonly string[]; key: KeyObject }): string {
  const { subjectName, sans, key } = parts;
  const extensions = sans.length > 0 ? [extension(OID.subjectAltName, false, encodeAltNames(sans))] : [];
  const attributes =
    extensions.length > 0 ? [sequence(objectId(OID.extensionRequest), element(TAG.set, sequence(...extensions)))] : [];
  const info = sequence(
    unsignedInteger(Buffer.of(0)),
    encodeSubject(subjectName),
    spkiDer(key),
    element(REQUEST_ATTRIBUTES_TAG, ...attributes),
  );
  return derToPem("CERTIFICATE REQUEST", signed(info, key, "sha512"));
}

/**
 * Reads a request and checks that whoever made it holds the key in it.
 * @throws Fault<RequestFault | DerFault | NameFault | PemFault>
 */
export function readCsr(pem: string): CertificateRequest {
  if (pem.length > PEM_REQUEST_CHARS_MAX) throw malformed("a certificate request is longer than any node's");
  const outer = new DerReader(pemToDer(pem, "CERTIFICATE REQUEST"));
  const request = outer.inside(TAG.sequence);
  outer.end();
  const info = request.whole(TAG.sequence);
  const algorithm = request.inside(TAG.sequence);
  const hashName = hashOf(algorithm.objectId());
  algorithm.end();
  const signature = request.wholeBytes();
  request.end();

  const fields = new DerReader(info).inside(TAG.sequence);
  if (!equal(fields.contents(TAG.integer), Buffer.of(0))) throw malformed("a certificate request of unknown version");
  const subject = fields.whole(TAG.sequence);
  const publicKey = readKey(fields.whole(TAG.sequence));
  const sans = fields.done ? [] : altNamesIn(fields.inside(REQUEST_ATTRIBUTES_TAG));
  fields.end();
  if (!verify(hashName, info, publicKey, signature))
    throw new Fault<RequestFault>(
      { code: "RequestNotSigned" },
      "the certificate request is not signed by the key that it is for",
    );
  return { publicKey, subject, sans };
}

/**
 * The service's word for a node: a certificate for the key and names in the node's request.
 * @param csr PEM. @returns PEM. @throws what `readCsr` throws
 */
export function endorse(parts: {
  csr: string;
  issuerCertificatePem: string;
  issuerKey: KeyObject;
  validFrom: Date;
  days: number;
}): string {
  const { csr, issuerCertificatePem, issuerKey, validFrom, days } = parts;
  const { publicKey, subject, sans } = readCsr(csr);
  const issuer = readIssuer(issuerCertificatePem);
  assert(equal(issuer.spki, spkiDer(issuerKey)), "the issuer's certificate is for the issuer's key");
  return issue({ subject, publicKey, issuer: issuer.subject, issuerKey, validFrom, days, sans, ca: false });
}

type Issue = {
  subject: Uint8Array;
  publicKey: KeyObject;
  issuer: Uint8Array;
  issuerKey: KeyObject;
  validFrom: Date;
  days: number;
  sans: readonly string[];
  ca: boolean;
};

function issue(parts: Issue): string {
  const { subject, publicKey, issuer, issuerKey, validFrom, days, sans, ca } = parts;
  assert(Number.isInteger(days) && days > 0, "a certificate is valid for whole days");
  const hashName = curveHash(issuerKey);
  const extensions = [
    extension(OID.basicConstraints, true, ca ? sequence(TRUE, unsignedInteger(Buffer.of(1))) : sequence()),
    extension(OID.subjectKeyIdentifier, false, element(TAG.octetString, keyIdentifier(publicKey))),
    extension(
      OID.authorityKeyIdentifier,
      false,
      sequence(element(contextTag(0, false), keyIdentifier(createPublicKey(issuerKey)))),
    ),
  ];
  // digitalSignature is bit 0, keyCertSign bit 5; the last two bits of the byte are unused.
  if (ca) extensions.push(extension(OID.keyUsage, true, bitString(Buffer.of(0b1000_0100), 2)));
  if (sans.length > 0) extensions.push(extension(OID.subjectAltName, false, encodeAltNames(sans)));
  const certificate = sequence(
    element(contextTag(0, true), unsignedInteger(Buffer.of(2))),
    unsignedInteger(serial()),
    algorithmIdentifier(hashName),
    issuer,
    encodeValidity(validFrom, days),
    subject,
    spkiDer(publicKey),
    element(contextTag(3, true), sequence(...extensions)),
  );
  return derToPem("CERTIFICATE", signed(certificate, issuerKey, hashName));
}

const TRUE = element(TAG.boolean, Buffer.of(0xff));

/** `contents`, signed: the outer structure of certificates and requests alike. */
function signed(contents: Buffer, key: KeyObject, hashName: EcdsaHash): Buffer {
  return sequence(contents, algorithmIdentifier(hashName), bitString(sign(hashName, contents, key)));
}

function algorithmIdentifier(hashName: EcdsaHash): Buffer {
  return sequence(objectId(ECDSA[hashName]));
}

function extension(id: string, critical: boolean, contents: Buffer): Buffer {
  return sequence(objectId(id), ...(critical ? [TRUE] : []), element(TAG.octetString, contents));
}

/** 128 random bits with the highest clear, so that the number is positive and 16 bytes long at most. */
function serial(): Buffer {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = (bytes[0] ?? 0) & 0x7f;
  return bytes;
}

/** SHA-1 of the key's bits (RFC 5280, 4.2.1.2, method 1): a name for the key, not a protection. */
function keyIdentifier(publicKey: KeyObject): Buffer {
  const spki = new DerReader(spkiDer(publicKey)).inside(TAG.sequence);
  spki.contents(TAG.sequence);
  return hash("sha1", spki.wholeBytes(), "buffer");
}

function curveHash(key: KeyObject): EcdsaHash {
  const curve = createPublicKey(key).asymmetricKeyDetails?.namedCurve;
  return present(curve === undefined ? undefined : CURVE_HASH[curve], "an issuer's key is on a curve of ours");
}

function hashOf(algorithm: string): EcdsaHash {
  for (const [name, id] of Object.entries(ECDSA)) if (id === algorithm) return name as EcdsaHash;
  throw malformed(`signature algorithm ${algorithm}, not ECDSA with SHA-2`);
}

function readKey(spki: Buffer): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: "der", type: "spki" });
  } catch (error) {
    throw new Fault<RequestFault>({ code: "RequestKeyUnsupported" }, "the key in the request cannot be read", {
      cause: error,
    });
  }
  const curve = key.asymmetricKeyDetails?.namedCurve;
  // The key is named by the digest of these bytes, so another encoding of the same key would be another name for it.
  if (curve === undefined || CURVE_HASH[curve] === undefined || !equal(spkiDer(key), spki))
    throw new Fault<RequestFault>(
      { code: "RequestKeyUnsupported" },
      "the key in the request must be on P-256, P-384 or P-521 and in the usual encoding",
    );
  return key;
}

/** The alternative names among a request's attributes. Other attributes and extensions are not taken over. */
function altNamesIn(attributes: DerReader): string[] {
  let names: string[] | undefined;
  while (!attributes.done) {
    const attribute = attributes.inside(TAG.sequence);
    const id = attribute.objectId();
    const values = attribute.inside(TAG.set);
    attribute.end();
    if (id !== OID.extensionRequest) continue;
    const extensions = values.inside(TAG.sequence);
    values.end();
    while (!extensions.done) {
      const one = extensions.inside(TAG.sequence);
      const extensionId = one.objectId();
      if (one.next(TAG.boolean)) one.contents(TAG.boolean);
      const contents = one.contents(TAG.octetString);
      one.end();
      if (extensionId !== OID.subjectAltName) continue;
      if (names !== undefined) throw malformed("the alternative names are there twice");
      names = decodeAltNames(contents);
    }
  }
  return names ?? [];
}

/** Subject and key of a certificate, as DER. */
function readIssuer(pem: string): { subject: Buffer; spki: Buffer } {
  const certificate = new DerReader(pemToDer(pem)).inside(TAG.sequence);
  const fields = certificate.inside(TAG.sequence);
  fields.contents(contextTag(0, true));
  fields.contents(TAG.integer);
  fields.contents(TAG.sequence);
  fields.contents(TAG.sequence);
  fields.contents(TAG.sequence);
  return { subject: fields.whole(TAG.sequence), spki: fields.whole(TAG.sequence) };
}
