/**
 * PEM: the text form of DER (RFC 7468), one block at a time.
 *
 * Ids are digests of the DER, so the text around it must not be able to hide a second block or another label: exactly
 * one block is accepted, with white space around it and nothing else.
 *
 * Neutral. Pure.
 */
import { toBase64 } from "../bytes.ts";
import { Fault } from "../check.ts";

export type PemLabel =
  | "CERTIFICATE"
  | "CERTIFICATE REQUEST"
  | "PUBLIC KEY"
  | "PRIVATE KEY"
  | "EC PRIVATE KEY"
  | "RSA PRIVATE KEY";

export type PemFault = { code: "PemMalformed"; label: PemLabel };

/** Longest PEM text that is looked at. A certificate chain with a quote inside stays far below. */
export const PEM_CHARS_MAX = 256 * 1024;

/** The DER bytes of the only block of `pem`. @throws Fault `PemMalformed` */
export function pemToDer(pem: string, label: PemLabel = "CERTIFICATE"): Buffer {
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  const text = pem.length <= PEM_CHARS_MAX ? pem.trim() : "";
  if (!text.startsWith(begin) || !text.endsWith(end) || text.length < begin.length + end.length)
    throw malformed(label, `expected one PEM block that begins with ${begin}`);
  const base64 = text.slice(begin.length, text.length - end.length).replaceAll(/\s/g, "");
  const der = Buffer.from(base64, "base64");
  // Node skips what is not base64; a text that says something else than its bytes is refused.
  if (der.length === 0 || toBase64(der) !== base64)
    throw malformed(label, `the ${label} is not base64 between its BEGIN and END lines, or holds more than one block`);
  return der;
}

/** PEM text with lines of 64 characters and a line break at the end, as OpenSSL writes it. */
export function derToPem(label: PemLabel, der: Uint8Array): string {
  const lines = toBase64(der).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function malformed(label: PemLabel, message: string): Fault<PemFault> {
  return new Fault<PemFault>({ code: "PemMalformed", label }, message);
}
