/**
 * A member's requests, built and signed on the member's machine.
 *
 * A `MemberCall` says what is asked and where; a `SignedCall` is what goes over the wire. Between the two lies the
 * member's key, which may be a file here (`signCall`) or somewhere that signs bytes and does nothing else
 * (`prepareCall`, `finishCall`). What a call does is said in words by describe.ts before anyone signs it.
 *
 * Paths and payloads are CCF 7.0's (reference ccf-api-governance.md 4.2, api-version 2024-07-01).
 *
 * Runs on a member's machine. Pure, but for the randomness of signatures.
 */
import type { KeyObject } from "node:crypto";
import { fromBase64, toBase64, utf8 } from "../../protocol/bytes.ts";
import { Fault } from "../../protocol/check.ts";
import {
  encodeGovernanceRequest,
  finishGovernanceRequest,
  type GovernanceMessageType,
  prepareGovernanceRequest,
} from "../../protocol/crypto/governance-request.ts";
import { certificateId } from "../../protocol/crypto/keys.ts";
import { isId, type MemberId } from "../../protocol/ids.ts";

export const API_VERSION = "2024-07-01";

/** One action of a proposal, by its name in the constitution. */
export type Action = Readonly<{ name: string; args?: unknown }>;

export type Signer = Readonly<{
  certificatePem: string;
  /** The private key, or a function that signs elsewhere and returns r ‖ s. */
  sign: KeyObject | ((toBeSigned: Buffer) => Promise<Uint8Array>);
}>;

/** What a member asks. */
export type MemberCall = Readonly<{
  type: GovernanceMessageType;
  path: string;
  proposalId?: string;
  payload: Uint8Array;
}>;

/** What is sent: POST, `content-type: application/cose`. */
export type SignedCall = Readonly<{ path: string; body: Uint8Array }>;

/** A call that waits for a signature made elsewhere; plain JSON, to be kept in a file. */
export type PreparedCall = Readonly<{
  path: string;
  type: GovernanceMessageType;
  /** Base64 of the bytes to sign, with the hash of the key's curve. */
  to_be_signed: string;
  algorithm: number;
  /** Length of the signature r ‖ s. */
  signature_bytes: number;
  protected: string;
  payload: string;
}>;

export type MemberCallFault = { code: "ProposalIdMalformed" } | { code: "PreparedCallMalformed" };

export function memberIdOf(signer: Pick<Signer, "certificatePem">): MemberId {
  return certificateId(signer.certificatePem);
}

export function proposalCall(actions: readonly Action[]): MemberCall {
  return proposalTextCall(JSON.stringify({ actions }));
}

/** A proposal from its text as it is: what is signed is what the author wrote, byte for byte. */
export function proposalTextCall(text: string): MemberCall {
  return { type: "proposal", path: governancePath("/members/proposals:create"), payload: utf8(text) };
}

/** @param ballot text of a JavaScript module that exports `vote(proposal, proposerId)`. */
export function ballotCall(memberId: MemberId, proposalId: string, ballot: string): MemberCall {
  const id = checkedProposalId(proposalId);
  return {
    type: "ballot",
    path: governancePath(`/members/proposals/${id}/ballots/${memberId}:submit`),
    proposalId: id,
    payload: utf8(JSON.stringify({ ballot })),
  };
}

export function withdrawalCall(proposalId: string): MemberCall {
  const id = checkedProposalId(proposalId);
  return {
    type: "withdrawal",
    path: governancePath(`/members/proposals/${id}:withdraw`),
    proposalId: id,
    payload: new Uint8Array(),
  };
}

/** Asks for a fresh state digest to acknowledge. */
export function stateDigestCall(memberId: MemberId): MemberCall {
  return {
    type: "state_digest",
    path: governancePath(`/members/state-digests/${memberId}:update`),
    payload: new Uint8Array(),
  };
}

/** @param stateDigest hex, as the answer to `stateDigestCall` gave it. */
export function ackCall(memberId: MemberId, stateDigest: string): MemberCall {
  return {
    type: "ack",
    path: governancePath(`/members/state-digests/${memberId}:ack`),
    payload: utf8(JSON.stringify({ stateDigest })),
  };
}

/**
 * Signs a call with a key at hand.
 * @param createdAt seconds since 1970; the service refuses proposals that are older than those it saw lately.
 * @throws Fault<GovernanceRequestFault | CoseFault | PemFault>
 */
export async function signCall(call: MemberCall, signer: Signer, createdAt: number): Promise<SignedCall> {
  const body = await encodeGovernanceRequest({
    ...requestParts(call, signer.certificatePem, createdAt),
    sign: signer.sign,
  });
  return { path: call.path, body };
}

/** Everything but the signature. @throws Fault<GovernanceRequestFault | CoseFault | PemFault> */
export function prepareCall(call: MemberCall, certificatePem: string, createdAt: number): PreparedCall {
  const prepared = prepareGovernanceRequest(requestParts(call, certificatePem, createdAt));
  return {
    path: call.path,
    type: call.type,
    to_be_signed: toBase64(prepared.toBeSigned),
    algorithm: prepared.algorithm,
    signature_bytes: prepared.signatureBytes,
    protected: toBase64(prepared.protectedBytes),
    payload: toBase64(prepared.payload),
  };
}

/**
 * Adds a signature that was made elsewhere.
 * @param prepared as `prepareCall` returned it, perhaps read from a file.
 * @param signature r ‖ s.
 * @throws Fault<MemberCallFault | GovernanceRequestFault | BytesFault>
 */
export function finishCall(prepared: PreparedCall, signature: Uint8Array): SignedCall {
  const { path, to_be_signed, algorithm, signature_bytes } = prepared;
  if (
    ![path, to_be_signed, prepared.protected, prepared.payload].every((text) => typeof text === "string") ||
    ![-7, -35, -36].includes(algorithm) ||
    !Number.isInteger(signature_bytes)
  )
    throw new Fault<MemberCallFault>(
      { code: "PreparedCallMalformed" },
      "this is not a prepared request; use the file as `prepare` wrote it",
    );
  const body = finishGovernanceRequest(
    {
      toBeSigned: fromBase64(to_be_signed),
      algorithm: algorithm as -7 | -35 | -36,
      signatureBytes: signature_bytes,
      protectedBytes: fromBase64(prepared.protected),
      payload: fromBase64(prepared.payload),
    },
    signature,
  );
  return { path, body };
}

/** A path of the governance API, with its version. */
export function governancePath(path: string): string {
  return `/gov${path}?api-version=${API_VERSION}`;
}

export function checkedProposalId(text: string): string {
  const id = text.toLowerCase();
  if (isId(id)) return id;
  throw new Fault<MemberCallFault>(
    { code: "ProposalIdMalformed" },
    `${JSON.stringify(text)} is not a proposal id: that is 64 hex digits, as the answer to the proposal gave it`,
  );
}

function requestParts(call: MemberCall, memberCertificatePem: string, createdAt: number) {
  const { type, payload, proposalId } = call;
  return { type, payload, createdAt, memberCertificatePem, ...(proposalId !== undefined && { proposalId }) };
}
