/**
 * What enclaves put into their evidence, and why.
 *
 * Two statements exist. *This key lives in this enclave*: SHA-256 of the node's DER SubjectPublicKeyInfo, CCF's report
 * data, stored with the node for auditors; it proves nothing about who is at the other end now. *This key, in this role, is
 * an end of this TLS session*: the digest below, made for one connection and useless in any other.
 *
 *   SHA-256( lp(label) ‖ lp(role) ‖ lp(exporter) ‖ lp(public key) ),   lp(x) = u32 LE length of x ‖ x
 *
 * `label` and `role` are ASCII; `exporter` is the 32-byte TLS exporter value (RFC 8446 7.5, without context) under the
 * purpose's own exporter label, equal at both ends of one session and at no others, so that evidence cannot be replayed,
 * relayed through a TLS end in the middle, or diverted to another purpose; `public key` is the DER SubjectPublicKeyInfo of
 * the certificate that the sender shows in that session. The role stops a party's own evidence from being sent back to it.
 *
 * Neutral. Pure.
 */
import { createHash } from "node:crypto";
import { toHex } from "../bytes.ts";
import { assert } from "../check.ts";
import type { NodeId } from "../ids.ts";

/** The report data of both statements is one SHA-256. Platforms with longer fields leave the rest zero. */
export const REPORT_DATA_BYTES = 32;
/** Bytes of TLS exporter output that evidence is bound to. */
export const EXPORTER_BYTES = 32;

/** What session evidence is for. Labels of different purposes must differ, in the exporter and in the digest. */
export type SessionPurpose = Readonly<{ exporterLabel: string; label: string }>;

/** Between two nodes of a service. */
export const CHANNEL_PURPOSE: SessionPurpose = {
  exporterLabel: "EXPORTER-camerata-channel",
  label: "camerata channel evidence v1",
};
/** Between a joining node and the node that answers it. */
export const JOIN_PURPOSE: SessionPurpose = {
  exporterLabel: "EXPORTER-camerata-join",
  label: "camerata join evidence v1",
};

export type SessionRole = "initiator" | "responder";

/** An end of a session as evidence names it. */
export type SessionEnd = Readonly<{
  role: SessionRole;
  /** TLS exporter value of the session under `purpose.exporterLabel`. */
  exporter: Uint8Array;
  /** DER SubjectPublicKeyInfo of this end's certificate. */
  publicKey: Uint8Array;
}>;

/** CCF's report data for a node key. */
export function nodeReportData(publicKey: Uint8Array): Buffer {
  return createHash("sha256").update(publicKey).digest();
}

/** The id of the node with this DER SubjectPublicKeyInfo: the same digest in hex. */
export function nodeIdOf(publicKey: Uint8Array): NodeId {
  return toHex(nodeReportData(publicKey));
}

/** The report data that binds evidence to one end of one session. */
export function sessionReportData(purpose: SessionPurpose, end: SessionEnd): Buffer {
  assert(end.exporter.length === EXPORTER_BYTES, "evidence is bound to 32 bytes of exporter output");
  const hash = createHash("sha256");
  for (const part of [Buffer.from(purpose.label), Buffer.from(end.role), end.exporter, end.publicKey]) {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(part.length);
    hash.update(length).update(part);
  }
  return hash.digest();
}
