/**
 * What a joining node and the node that answers it say to each other, and what each checks before it goes on.
 *
 * The bodies are CCF's `/node/join` (7.0.2 src/node/rpc/node_call_types.h; reference ccf-api-governance.md 3.3). CCF's joiner
 * trusts the service certificate alone, and CCF's service trusts a quote over the joiner's key alone. Here both sides also
 * send, under `camerata`, evidence bound to the TLS session that they talk over, in their roles: so neither hands out nor
 * accepts secrets before it knows that the other end of this very connection is an enclave that its policy accepts.
 *
 * The joiner asks again on a new connection while it is `Pending`; every request carries fresh session evidence.
 *
 * Trusted. Pure, but for the platform's evidence.
 */
import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { type Static, type TSchema, Type } from "typebox";
import { Check, Errors } from "typebox/value";
import type { Claims, EvidenceFault, Platform } from "../../../protocol/attestation/evidence.ts";
import { EVIDENCE_BYTES_MAX, encodeEvidence, QuoteInfoSchema } from "../../../protocol/attestation/quote-info.ts";
import {
  JOIN_PURPOSE,
  nodeIdOf,
  nodeReportData,
  type SessionRole,
  sessionReportData,
} from "../../../protocol/attestation/report-data.ts";
import { verifyNodeEvidence, verifySessionEvidence } from "../../../protocol/attestation/verify.ts";
import { equal, fromBase64, fromUtf8, toBase64 } from "../../../protocol/bytes.ts";
import { Fault } from "../../../protocol/check.ts";
import type { NodeId } from "../../../protocol/ids.ts";
import type { Policy } from "./join-policy.ts";

/** Label for `Session.exportKey`, and bytes of exporter output; session evidence is bound to this value. */
export const JOIN_EXPORTER_LABEL = JOIN_PURPOSE.exporterLabel;
export { EXPORTER_BYTES as JOIN_EXPORTER_BYTES } from "../../../protocol/attestation/report-data.ts";

/** Bytes of a request body, and of an answer with the ledger secrets of a long life. */
export const JOIN_REQUEST_BYTES_MAX = 1024 * 1024;
export const JOIN_RESPONSE_BYTES_MAX = 16 * 1024 * 1024;

export type JoinFault =
  | { code: "JoinRequestMalformed" }
  | { code: "JoinResponseMalformed" }
  /** The answer would make this node part of another service than the one whose certificate it was given. */
  | { code: "ServiceIdentityMismatch" };

const pem = Type.String({ maxLength: 64 * 1024 });
const base64 = (bytes: number) => Type.String({ maxLength: Math.ceil(bytes / 3) * 4 });
const seqno = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const closed = { additionalProperties: false };

/** CCF's interfaces have many members of which this version knows a few; the rest is kept as it came. */
const NetInterface = Type.Object({
  bind_address: Type.String({ minLength: 1, maxLength: 256 }),
  published_address: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
  protocol: Type.Optional(Type.String({ maxLength: 64 })),
  app_protocol: Type.Optional(Type.String({ maxLength: 64 })),
});

const SessionEvidence = Type.Object({ session_evidence: base64(EVIDENCE_BYTES_MAX) }, closed);

export const JoinRequest = Type.Object(
  {
    node_info_network: Type.Object(
      {
        node_to_node_interface: NetInterface,
        rpc_interfaces: Type.Record(Type.String({ minLength: 1, maxLength: 128 }), NetInterface, { maxProperties: 16 }),
      },
      closed,
    ),
    quote_info: QuoteInfoSchema,
    public_encryption_key: pem,
    startup_seqno: Type.Union([seqno, Type.Null()]),
    certificate_signing_request: pem,
    node_data: Type.Optional(Type.Unknown()),
    ledger_sign_mode: Type.Optional(Type.Enum(["Dual", "CoseAllowDualJoin", "CoseOnly"])),
    camerata: SessionEvidence,
  },
  closed,
);
export type JoinRequest = Static<typeof JoinRequest>;

const NetworkInfo = Type.Object(
  {
    public_only: Type.Boolean(),
    last_recovered_signed_idx: seqno,
    /** `[seqno from which it is valid, secret]`, oldest first. */
    ledger_secrets: Type.Array(
      Type.Tuple([
        seqno,
        Type.Object({ raw_key: base64(32), previous_secret_stored_version: Type.Optional(seqno) }, closed),
      ]),
      { minItems: 1, maxItems: 65536 },
    ),
    /** The service's own key: whoever holds it signs as the service. */
    identity: Type.Object({ cert: pem, priv_key: pem }, closed),
    service_status: Type.Enum(["Opening", "Open", "WaitingForRecoveryShares", "Recovering"]),
    endorsed_certificate: pem,
    cose_signatures_config: Type.Object(
      { issuer: Type.String({ maxLength: 256 }), subject: Type.String({ maxLength: 256 }) },
      closed,
    ),
  },
  closed,
);
export type NetworkInfo = Static<typeof NetworkInfo>;

export const JoinResponse = Type.Object(
  {
    node_status: Type.Enum(["Pending", "Trusted", "Retired"]),
    node_id: Type.Optional(Type.String({ pattern: "^[0-9a-f]{64}$" })),
    /** Only for a node that is `Trusted`. */
    network_info: Type.Optional(NetworkInfo),
    camerata: SessionEvidence,
  },
  closed,
);
export type JoinResponse = Static<typeof JoinResponse>;

/** What the caller knows of the TLS connection: the exporter value under `JOIN_EXPORTER_LABEL`, and one end's key. */
export type JoinSession = Readonly<{
  exporter: Uint8Array;
  /** DER SubjectPublicKeyInfo: of one's own certificate when making a body, of the other end's when checking one. */
  publicKey: Uint8Array;
}>;

/** The joiner's request, with evidence about its key and about this session. */
export async function makeJoinRequest(
  content: Omit<JoinRequest, "quote_info" | "camerata">,
  platform: Platform,
  session: JoinSession,
): Promise<JoinRequest> {
  const quote_info = await platform.evidence(nodeReportData(session.publicKey));
  return { ...content, quote_info, camerata: await sessionEvidence(platform, "initiator", session) };
}

/** @throws Fault<JoinFault> `JoinRequestMalformed`, naming the first member that is wrong */
export function parseJoinRequest(body: Uint8Array): JoinRequest {
  return parse(JoinRequest, body, JOIN_REQUEST_BYTES_MAX, "JoinRequestMalformed", "join request");
}

/**
 * Checks a joiner's evidence: about the key that its TLS connection proved, about this session, and by the policy. The
 * certificate request and the addresses are the caller's to check.
 * @returns the node's id, and what its evidence claims
 * @throws Fault<EvidenceFault>
 */
export async function checkJoinRequest(
  request: JoinRequest,
  session: JoinSession,
  policy: Policy,
): Promise<{ nodeId: NodeId; publicKey: Uint8Array; claims: Claims }> {
  const claims = await verifyNodeEvidence(request.quote_info, nodeReportData(session.publicKey));
  policy(claims);
  const here = await checkSession(request.camerata.session_evidence, "initiator", session);
  policy(here);
  // Otherwise the quote that auditors find in the ledger could be of another enclave than the one that got the secrets.
  if (here.measurement !== claims.measurement || here.hostData !== claims.hostData)
    throw new Fault<EvidenceFault>(
      { code: "FailedSessionBinding" },
      "the evidence about the node's key and the evidence about this session are of different enclaves",
    );
  return { nodeId: nodeIdOf(session.publicKey), publicKey: session.publicKey, claims };
}

/** The answer, with the responder's evidence about this session. */
export async function makeJoinResponse(
  content: Omit<JoinResponse, "camerata">,
  platform: Platform,
  session: JoinSession,
): Promise<JoinResponse> {
  return { ...content, camerata: await sessionEvidence(platform, "responder", session) };
}

/**
 * Checks an answer before anything in it is used: the responder's evidence, then that the secrets are those of the pinned
 * service and of this node.
 * @param ownPublicKey DER SubjectPublicKeyInfo of the joiner
 * @throws Fault<JoinFault | EvidenceFault>
 */
export async function checkJoinResponse(
  body: Uint8Array,
  session: JoinSession,
  policy: Policy,
  pinned: Readonly<{ serviceCertificate: string; ownPublicKey: Uint8Array }>,
): Promise<JoinResponse> {
  const response = parse(JoinResponse, body, JOIN_RESPONSE_BYTES_MAX, "JoinResponseMalformed", "answer to a join");
  policy(await checkSession(response.camerata.session_evidence, "responder", session));
  const id = nodeIdOf(pinned.ownPublicKey);
  if (response.node_id !== undefined && response.node_id !== id)
    throw malformed("JoinResponseMalformed", `the answer speaks of node ${response.node_id}; this node is ${id}`);
  if ((response.node_status === "Trusted") !== (response.network_info !== undefined))
    throw malformed("JoinResponseMalformed", "the answer must bring network_info exactly when the node is Trusted");
  if (response.network_info !== undefined) checkIdentity(response.network_info, pinned);
  return response;
}

function checkIdentity(
  { identity, endorsed_certificate }: NetworkInfo,
  pinned: Readonly<{ serviceCertificate: string; ownPublicKey: Uint8Array }>,
): void {
  const service = spki(new X509Certificate(pinned.serviceCertificate));
  const { cert, key, own } = readIdentity(identity, endorsed_certificate);
  if (!equal(cert, service) || !equal(key, service))
    throw new Fault<JoinFault>(
      { code: "ServiceIdentityMismatch" },
      "the answer brings the identity of another service than the configured service certificate",
    );
  if (!equal(own, pinned.ownPublicKey))
    throw malformed("JoinResponseMalformed", "the endorsed certificate in the answer is not for this node's key");
}

/** The public keys of what the answer brings. */
function readIdentity(identity: NetworkInfo["identity"], endorsed: string): { cert: Buffer; key: Buffer; own: Buffer } {
  try {
    return {
      cert: spki(new X509Certificate(identity.cert)),
      key: createPublicKey(createPrivateKey(identity.priv_key)).export({ type: "spki", format: "der" }),
      own: spki(new X509Certificate(endorsed)),
    };
  } catch {
    // OpenSSL's words are left out: they may quote what they could not read, and that is a private key.
    throw malformed("JoinResponseMalformed", "the answer brings certificates or a key that cannot be read");
  }
}

function spki(certificate: X509Certificate): Buffer {
  return certificate.publicKey.export({ type: "spki", format: "der" });
}

async function sessionEvidence(platform: Platform, role: SessionRole, session: JoinSession) {
  const quote = await platform.evidence(sessionReportData(JOIN_PURPOSE, { role, ...session }));
  return { session_evidence: toBase64(encodeEvidence(quote)) };
}

async function checkSession(evidence: string, role: SessionRole, session: JoinSession): Promise<Claims> {
  return verifySessionEvidence(fromBase64Evidence(evidence), sessionReportData(JOIN_PURPOSE, { role, ...session }));
}

function fromBase64Evidence(text: string): Buffer {
  try {
    return fromBase64(text);
  } catch (cause) {
    throw new Fault<EvidenceFault>({ code: "Failed" }, "session_evidence is not base64", { cause });
  }
}

function parse<S extends TSchema>(
  schema: S,
  body: Uint8Array,
  bytesMax: number,
  code: "JoinRequestMalformed" | "JoinResponseMalformed",
  what: string,
): Static<S> {
  if (body.length > bytesMax)
    throw malformed(code, `the ${what} has ${body.length} bytes; at most ${bytesMax} are read`);
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(body));
  } catch {
    throw malformed(code, `the ${what} is not UTF-8 JSON`);
  }
  if (Check(schema, value)) return value;
  // Where it is wrong, not what was there: the body may hold keys.
  const [first] = Errors(schema, value);
  const where = first?.instancePath.slice(0, 128) || "its top";
  const why = first?.keyword === "boolean" ? "no such member is known" : (first?.message ?? "unknown");
  throw malformed(code, `the ${what} is wrong at ${where}: ${why}`);
}

function malformed(code: "JoinRequestMalformed" | "JoinResponseMalformed", message: string): Fault<JoinFault> {
  return new Fault<JoinFault>({ code }, message);
}
