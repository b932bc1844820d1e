/**
 * Who is calling: CCF's authentication policies.
 *
 * The certificate policies look up the SHA-256 of the client certificate in the tables; whoever completed the handshake
 * holds its key, and nobody's signature on it counts. The signed-request policies take the caller from a COSE_Sign1 body
 * instead, so that a vote is a document and not a connection. Refusals are in CCF's words (CCF 7.0.2
 * `src/endpoints/authentication`), because clients show them to people.
 *
 * A body that is no signed request at all is answered with 400, where CCF answers 500: it is the client's mistake.
 *
 * Trusted.
 */
import { X509Certificate } from "node:crypto";
import { Fault, isFault } from "../../../protocol/check.ts";
import { decodeSign1, verifySign1Sync } from "../../../protocol/crypto/cose.ts";
import {
  decodeGovernanceRequest,
  type GovernanceRequest,
  type GovernanceRequestFault,
} from "../../../protocol/crypto/governance-request.ts";
import { sha256Hex } from "../../../protocol/crypto/hash.ts";
import { spkiDigest } from "../../../protocol/crypto/keys.ts";
import { open } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import type { Tx } from "../kv/tx.ts";
import { type AuthPolicy, type Caller, HttpError, type Request } from "./endpoint.ts";

type CoseCaller = Extract<Caller, { payload: Uint8Array }>;

const COSE_TYPE = "application/cose";
const COSE_CHALLENGE = 'COSE-SIGN1 realm="Signed request access"';

const TYPE_LABEL = "ccf.gov.msg.type";

/** Everyone. */
export const noAuth: AuthPolicy = {
  name: "no_auth",
  authenticate: () => ({ caller: { policy: "no_auth" } }),
};

/** The client certificate is a user's, and valid now. */
export const userCert: AuthPolicy = {
  name: "user_cert",
  authenticate({ session: { clientCertificate: certificate } }, tx) {
    if (certificate === undefined) return { refused: "No caller user certificate" };
    const known = identify(certificate);
    const seconds = Math.floor(Date.now() / 1000);
    if (seconds < known.validFrom)
      return {
        refused: `Current time ${seconds} is before certificate's Not Before validity period ${known.validFrom}`,
      };
    if (seconds > known.validTo)
      return { refused: `Current time ${seconds} is after certificate's Not After validity period ${known.validTo}` };
    if (!open(tx, TABLES.userCerts).has(known.id)) return { refused: "Could not find matching user certificate" };
    return { caller: { policy: "user_cert", userId: known.id, certificate } };
  },
};

/** The client certificate is a member's. */
export const memberCert: AuthPolicy = {
  name: "member_cert",
  authenticate({ session: { clientCertificate: certificate } }, tx) {
    if (certificate === undefined) return { refused: "No caller member certificate" };
    const { id } = identify(certificate);
    if (!open(tx, TABLES.memberCerts).has(id)) return { refused: "Could not find matching member certificate" };
    return { caller: { policy: "member_cert", memberId: id, certificate } };
  },
};

/** There is a client certificate. */
export const anyCert: AuthPolicy = {
  name: "any_cert",
  authenticate({ session: { clientCertificate: certificate } }) {
    if (certificate === undefined) return { refused: "No caller certificate" };
    return { caller: { policy: "any_cert", certificate } };
  },
};

/** The client certificate's key is the identity of a node in the node table. */
export const nodeCert: AuthPolicy = {
  name: "node_cert",
  authenticate({ session: { clientCertificate: certificate } }, tx) {
    if (certificate === undefined) return { refused: "No caller node certificate" };
    const nodeId = identify(certificate).keyDigest();
    if (!open(tx, TABLES.nodeInfo).has(nodeId)) return { refused: "Could not find matching node certificate" };
    return { caller: { policy: "node_cert", nodeId } };
  },
};

/** The body is signed by a member, and says that it is of this type. @param type e.g. `state_digest` */
export function memberCose(type: string): AuthPolicy {
  return {
    name: "member_cose_sign1",
    wwwAuthenticate: COSE_CHALLENGE,
    authenticate: (request, tx) => signedByMember("member_cose_sign1", type, request, tx),
  };
}

/** As `memberCose`, and the member is active. @param type e.g. `proposal` */
export function activeMemberCose(type: string): AuthPolicy {
  return {
    name: "active_member_cose_sign1",
    wwwAuthenticate: COSE_CHALLENGE,
    authenticate(request, tx) {
      const result = signedByMember("active_member_cose_sign1", type, request, tx);
      if (!("caller" in result)) return result;
      const member = open(tx, TABLES.memberInfo).get(result.caller.memberId);
      return member?.status === "Active" ? result : { refused: "Signer is not an ACTIVE member" };
    },
  };
}

function signedByMember(
  policy: CoseCaller["policy"],
  type: string,
  request: Request,
  tx: Tx,
): { caller: CoseCaller } | { refused: string } {
  const contentType = request.headers["content-type"];
  if (contentType === undefined) return { refused: "Missing content-type header" };
  if (contentType !== COSE_TYPE) return { refused: `Content type is not set to ${COSE_TYPE}` };

  const signed = decode(request.body, type);
  if ("refused" in signed) return signed;
  const pem = open(tx, TABLES.memberCerts).get(signed.kid);
  if (pem === undefined) return { refused: "Signer is not a known member" };
  if (!isSignedBy(signed, pem)) return { refused: "Failed to validate COSE Sign1" };
  if (signed.type !== type)
    return { refused: `Found ${TYPE_LABEL} set to ${signed.type}, expected ${TYPE_LABEL} to be ${type}` };

  return {
    caller: {
      policy,
      memberId: signed.kid,
      envelope: request.body,
      payload: signed.payload,
      signature: signed.signature,
      createdAt: signed.createdAt,
      proposalId: signed.proposalId,
    },
  };
}

/** @throws HttpError 400 for what is no signed request */
function decode(body: Uint8Array, type: string): GovernanceRequest | { refused: string } {
  try {
    return decodeGovernanceRequest(body);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const detail = error.detail as GovernanceRequestFault;
    if (detail.code === "GovernanceAlgorithmNotAllowed")
      return { refused: `Unsupported algorithm: ${detail.algorithm}` };
    if (lacksType(body)) return { refused: `Missing ${TYPE_LABEL}, expected ${TYPE_LABEL} to be ${type}` };
    throw new HttpError(400, "InvalidInput", `The body is not a signed governance request: ${error.message}.`);
  }
}

/** True for a COSE_Sign1 that does not say what it is: to CCF that is a wrong credential, not a malformed one. */
function lacksType(body: Uint8Array): boolean {
  try {
    return !decodeSign1(body).protected.has(TYPE_LABEL);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return false;
  }
}

function isSignedBy(signed: GovernanceRequest, certificatePem: string): boolean {
  try {
    return verifySign1Sync(signed.message, new X509Certificate(certificatePem).publicKey);
  } catch (error) {
    // A member's key of a kind that signs no COSE has not signed this.
    if (isFault(error, "CoseKeyUnsupported")) return false;
    throw error;
  }
}

type Identified = Readonly<{
  /** Lower-case hex SHA-256 of the certificate. */
  id: string;
  /** Seconds since the epoch. */
  validFrom: number;
  validTo: number;
  keyDigest(): string;
}>;

/** What a session's certificate says never changes, so it is worked out once a session. */
const identified = new WeakMap<Uint8Array, Identified>();

function identify(certificate: Uint8Array): Identified {
  let known = identified.get(certificate);
  if (known === undefined) {
    const parsed = new X509Certificate(certificate);
    let digest: string | undefined;
    known = {
      id: sha256Hex(certificate),
      validFrom: parsed.validFromDate.getTime() / 1000,
      validTo: parsed.validToDate.getTime() / 1000,
      keyDigest: () => (digest ??= spkiDigest(parsed.publicKey)),
    };
    identified.set(certificate, known);
  }
  return known;
}
