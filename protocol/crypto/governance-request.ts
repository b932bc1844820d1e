/**
 * A member's signed request: a COSE_Sign1 with CCF's governance headers.
 *
 *   1  algorithm                 -7, -35 or -36, by the curve of the member's key
 *   4  kid                       bstr: the 64 ASCII hex digits of the member id
 *   "ccf.gov.msg.type"           tstr: proposal, withdrawal, ballot, state_digest, ack, recovery_share
 *   "ccf.gov.msg.created_at"     uint: seconds since 1970
 *   "ccf.gov.msg.proposal_id"    tstr: ballots and withdrawals only
 *
 * A member's key may lie in a vault that signs bytes and does nothing else, so a request can be made in two steps:
 * `prepareGovernanceRequest`, then `finishGovernanceRequest` with the signature. Reading a request proves nothing;
 * `verifyGovernanceRequest` does, once the reader has found the member's certificate. (CCF 7.0.2; reference
 * ccf-api-governance.md 4.2.)
 *
 * Neutral. Pure, but for the randomness of signatures.
 */
import { KeyObject, X509Certificate } from "node:crypto";
import { utf8, view } from "../bytes.ts";
import { Fault, isFault } from "../check.ts";
import { isId, type MemberId } from "../ids.ts";
import { type Cbor, type CborKey, encodeCbor, isBytes } from "./cbor.ts";
import {
  algorithmFor,
  COSE_HEADER,
  type CoseAlgorithm,
  decodeSign1,
  encodeSign1,
  type Sign1,
  signatureBytesFor,
  signToBeSigned,
  toBeSigned,
  verifySign1,
} from "./cose.ts";
import { certificateId, spkiDigest } from "./keys.ts";

export const GOVERNANCE_MESSAGE_TYPES = [
  "proposal",
  "withdrawal",
  "ballot",
  "state_digest",
  "ack",
  "recovery_share",
] as const;
export type GovernanceMessageType = (typeof GOVERNANCE_MESSAGE_TYPES)[number];

export type GovernanceRequestFault =
  /** Not a COSE_Sign1 with the headers that every request has. */
  | { code: "GovernanceRequestMalformed" }
  /** A well-formed request with an algorithm that no member may use. */
  | { code: "GovernanceAlgorithmNotAllowed"; algorithm: number }
  /** The signer's key, certificate or signature do not belong together, found before anything is sent. */
  | { code: "GovernanceSignerMismatch" };

export type GovernanceRequestParts = Readonly<{
  type: GovernanceMessageType;
  /** Seconds since 1970. */
  createdAt: number;
  proposalId?: string;
  /** Empty for requests without a body. */
  payload: Uint8Array;
  memberCertificatePem: string;
}>;

/** A request that lacks its signature. */
export type PreparedGovernanceRequest = Readonly<{
  /** What the member's key signs, with the hash of its curve; the signature is r ‖ s. */
  toBeSigned: Buffer;
  algorithm: CoseAlgorithm;
  signatureBytes: number;
  protectedBytes: Buffer;
  payload: Uint8Array;
}>;

export type GovernanceRequest = Readonly<{
  alg: CoseAlgorithm;
  kid: MemberId;
  type: string;
  createdAt: number;
  proposalId: string | undefined;
  payload: Uint8Array;
  signature: Uint8Array;
  toBeSigned: Buffer;
  message: Sign1;
}>;

const LABEL = {
  type: "ccf.gov.msg.type",
  createdAt: "ccf.gov.msg.created_at",
  proposalId: "ccf.gov.msg.proposal_id",
} as const;
const TEXT_CHARS_MAX = 256;

/**
 * Makes a signed request.
 * @param parts.sign the member's private key, or a function that signs elsewhere and returns r ‖ s.
 * @throws Fault<GovernanceRequestFault | CoseFault | PemFault>
 */
export async function encodeGovernanceRequest(
  parts: GovernanceRequestParts & { sign: KeyObject | ((toBeSigned: Buffer) => Promise<Uint8Array>) },
): Promise<Buffer> {
  const { sign } = parts;
  const prepared = prepareGovernanceRequest(parts);
  if (!(sign instanceof KeyObject)) return finishGovernanceRequest(prepared, await sign(prepared.toBeSigned));
  if (spkiDigest(sign) !== spkiDigest(memberKey(parts.memberCertificatePem)))
    throw mismatch("the private key is not that of the member certificate; use the two files that were made together");
  return finishGovernanceRequest(prepared, await signToBeSigned(prepared.toBeSigned, sign));
}

/** Everything but the signature. @throws Fault<GovernanceRequestFault | CoseFault | PemFault> */
export function prepareGovernanceRequest(parts: GovernanceRequestParts): PreparedGovernanceRequest {
  const { type, createdAt, proposalId, payload, memberCertificatePem } = parts;
  const key = memberKey(memberCertificatePem);
  const algorithm = algorithmFor(key);
  const headers = new Map<CborKey, Cbor>([
    [COSE_HEADER.algorithm, algorithm],
    [COSE_HEADER.kid, utf8(certificateId(memberCertificatePem))],
    [LABEL.type, type],
    [LABEL.createdAt, createdAt],
  ]);
  if (proposalId !== undefined) headers.set(LABEL.proposalId, proposalId);
  const protectedBytes = encodeCbor(headers);
  return {
    toBeSigned: toBeSigned(protectedBytes, payload),
    algorithm,
    signatureBytes: signatureBytesFor(key),
    protectedBytes,
    payload,
  };
}

/** Adds the signature (r ‖ s). @throws Fault `GovernanceSignerMismatch` for one of the wrong length */
export function finishGovernanceRequest(prepared: PreparedGovernanceRequest, signature: Uint8Array): Buffer {
  const { protectedBytes, payload, signatureBytes } = prepared;
  if (signature.length !== signatureBytes)
    throw mismatch(
      `the signature has ${signature.length} bytes; for this key it is r and s back to back, ${signatureBytes} bytes, and not DER`,
    );
  return encodeSign1({ protectedBytes, payload, signature });
}

/** Reads a request without judging its signature. @throws Fault<GovernanceRequestFault> */
export function decodeGovernanceRequest(bytes: Uint8Array): GovernanceRequest {
  const message = envelope(bytes);
  const headers = message.protected;
  const alg = headers.get(COSE_HEADER.algorithm);
  if (typeof alg !== "number") throw malformed("the protected header lacks the algorithm (label 1)");
  if (alg !== -7 && alg !== -35 && alg !== -36)
    throw new Fault<GovernanceRequestFault>(
      { code: "GovernanceAlgorithmNotAllowed", algorithm: alg },
      `COSE algorithm ${alg} is not allowed; use -7 (ES256), -35 (ES384) or -36 (ES512)`,
    );
  const createdAt = headers.get(LABEL.createdAt);
  if (typeof createdAt !== "number" || createdAt < 0)
    throw malformed(`the protected header lacks ${LABEL.createdAt}, or it is not a number of seconds since 1970`);
  if (message.payload === null)
    throw malformed("the payload is detached; a request carries it, and an empty one is an empty byte string");
  return {
    alg,
    kid: memberIdIn(headers.get(COSE_HEADER.kid)),
    type: text(headers.get(LABEL.type), LABEL.type),
    createdAt,
    proposalId: headers.has(LABEL.proposalId) ? text(headers.get(LABEL.proposalId), LABEL.proposalId) : undefined,
    payload: message.payload,
    signature: message.signature,
    toBeSigned: toBeSigned(message.protectedBytes, message.payload),
    message,
  };
}

/** True if the request is signed by this key, with the algorithm that its header names. */
export async function verifyGovernanceRequest(request: GovernanceRequest, memberKey: KeyObject): Promise<boolean> {
  try {
    return await verifySign1(request.message, memberKey);
  } catch (error) {
    // A key of a kind that cannot sign COSE has not signed this.
    if (isFault(error, "CoseKeyUnsupported")) return false;
    throw error;
  }
}

function envelope(bytes: Uint8Array): Sign1 {
  try {
    return decodeSign1(bytes);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw malformed(error.message, error);
  }
}

function memberIdIn(kid: Cbor | undefined): MemberId {
  if (!isBytes(kid))
    throw malformed("the protected header lacks the kid (label 4): a byte string with the member id in hex");
  const id = view(kid).toString("latin1");
  if (!isId(id)) throw malformed("the kid is not a member id: 64 lower-case hex digits, as ASCII bytes");
  return id;
}

function text(value: Cbor | undefined, label: string): string {
  if (typeof value !== "string" || value.length > TEXT_CHARS_MAX)
    throw malformed(`the protected header lacks ${label}, or it is not a short text`);
  return value;
}

function memberKey(certificatePem: string): KeyObject {
  try {
    return new X509Certificate(certificatePem).publicKey;
  } catch (error) {
    throw new Fault<GovernanceRequestFault>(
      { code: "GovernanceSignerMismatch" },
      "the member certificate cannot be read: it must be one X.509 certificate in PEM form",
      { cause: error },
    );
  }
}

function mismatch(message: string): Fault<GovernanceRequestFault> {
  return new Fault<GovernanceRequestFault>({ code: "GovernanceSignerMismatch" }, message);
}

function malformed(message: string, cause?: unknown): Fault<GovernanceRequestFault> {
  return new Fault<GovernanceRequestFault>({ code: "GovernanceRequestMalformed" }, message, { cause });
}
