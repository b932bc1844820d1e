/**
 * `ccf.crypto`: what constitutions use of it to check their arguments.
 *
 * Reference ccf-js-apps.md 3.6. It runs in the worker, under the guest's own limits.
 *
 * Trusted.
 */
import {
  createPublicKey,
  type JsonWebKeyInput,
  type KeyObject,
  type PublicKeyInput,
  X509Certificate,
} from "node:crypto";
import { sha256 } from "../../protocol/crypto/hash.ts";
import { PEM_CHARS_MAX, pemToDer } from "../../protocol/crypto/pem.ts";
import type { GuestGlobal } from "../js/guest-types.ts";
import { GuestError, SYNC_BYTES_MAX } from "../js/sync-call.ts";
import { asGuestError, bytesOf, textOf } from "./served.ts";

/** Certificates in one text, and links of one chain. */
const CERTIFICATES_MAX = 32;

const ONE_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

export const cryptoGlobal: GuestGlobal = {
  prelude: `
const { count, isBuffer, parse, stringify } = tools;
const string = (value) => {
  if (typeof value !== "string") throw new TypeError("Argument must be a string");
  return value;
};
ccf.crypto = {
  digest(...args) {
    count(args, 2);
    if (!isBuffer(args[1])) throw new TypeError("Argument must be an ArrayBuffer");
    return call("crypto.digest", string(args[0]), args[1]);
  },
  isValidX509CertBundle(...args) {
    count(args, 1);
    return call("crypto.isValidX509CertBundle", string(args[0]));
  },
  isValidX509CertChain(...args) {
    count(args, 2);
    return call("crypto.isValidX509CertChain", string(args[0]), string(args[1]));
  },
  pubRsaPemToJwk(...args) {
    if (args.length !== 1 && args.length !== 2) count(args, 1, "1 or 2");
    const jwk = parse(call("crypto.pubRsaPemToJwk", string(args[0])));
    return args[1] === undefined ? jwk : { ...jwk, kid: string(args[1]) };
  },
  pubRsaJwkToPem(...args) {
    count(args, 1);
    return call("crypto.pubRsaJwkToPem", string(stringify(args[0])));
  },
};`,
  local: {
    "crypto.digest": (_, algorithm, bytes) => {
      if (algorithm !== "SHA-256") throw new GuestError("RangeError", "unsupported digest algorithm: only SHA-256 is");
      return sha256(bytesOf(bytes, "a buffer", SYNC_BYTES_MAX));
    },
    "crypto.isValidX509CertBundle": (_, pem) => certificates(textOf(pem, "a bundle", PEM_CHARS_MAX)) !== undefined,
    "crypto.isValidX509CertChain": (_, chain, trusted) =>
      isValidChain(textOf(chain, "a chain", PEM_CHARS_MAX), textOf(trusted, "a bundle", PEM_CHARS_MAX), new Date()),
    "crypto.pubRsaPemToJwk": (_, pem) => rsaJwk(textOf(pem, "a public key", PEM_CHARS_MAX)),
    "crypto.pubRsaJwkToPem": (_, jwk) => rsaPem(textOf(jwk, "a public key", PEM_CHARS_MAX)),
  },
};

/** The certificates of a PEM text; undefined where it is not one or more certificates and nothing else. */
function certificates(pem: string): X509Certificate[] | undefined {
  const blocks = pem.match(ONE_CERTIFICATE) ?? [];
  if (blocks.length === 0 || blocks.length > CERTIFICATES_MAX) return undefined;
  if (pem.replace(ONE_CERTIFICATE, "").trim() !== "") return undefined;
  const parsed: X509Certificate[] = [];
  for (const block of blocks) {
    const certificate = parse(block);
    if (certificate === undefined) return undefined;
    parsed.push(certificate);
  }
  return parsed;
}

/** An RSA public key as the JSON text of a JWK. */
function rsaJwk(pem: string): string {
  const der = asGuestError(() => pemToDer(pem, "PUBLIC KEY"));
  return JSON.stringify(rsaKey({ key: der, format: "der", type: "spki" }).export({ format: "jwk" }));
}

/** PEM of the RSA public key in the JSON text of a JWK. */
function rsaPem(jwk: string): string {
  const { kty, n, e } = JSON.parse(jwk) as Record<string, unknown>;
  if (kty !== "RSA" || typeof n !== "string" || typeof e !== "string")
    throw new GuestError("TypeError", "an RSA public key in JWK form has kty RSA, n and e");
  return rsaKey({ key: { kty, n, e }, format: "jwk" }).export({ type: "spki", format: "pem" }).toString();
}

function rsaKey(input: PublicKeyInput | JsonWebKeyInput): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey(input);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new GuestError("InternalError", "the public key cannot be read");
  }
  if (key.asymmetricKeyType !== "rsa") throw new GuestError("InternalError", "not an RSA public key");
  return key;
}

function parse(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

/** True if the first certificate of `chain` leads to a CA of `trusted` through the others, all valid at `now`. */
function isValidChain(chain: string, trusted: string, now: Date): boolean {
  const [target, ...intermediates] = certificates(chain) ?? [];
  const anchors = (certificates(trusted) ?? []).filter(({ ca }) => ca);
  let link = target;
  for (let depth = 0; link !== undefined && depth < CERTIFICATES_MAX; depth++) {
    if (now < link.validFromDate || now > link.validToDate) return false;
    const current = link;
    if (anchors.some((anchor) => anchor.raw.equals(current.raw))) return true;
    const anchor = anchors.find((candidate) => issued(candidate, current));
    if (anchor !== undefined) return now >= anchor.validFromDate && now <= anchor.validToDate;
    link = intermediates.find((candidate) => candidate !== current && candidate.ca && issued(candidate, current));
  }
  return false;
}

function issued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
