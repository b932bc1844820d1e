/**
 * `POST /node/join`: a new node asks to be part of the service.
 *
 * The order is CCF's (reference ccf-api-governance.md 3.3), with one difference: the evidence is checked every time, for
 * this very connection, before anything is answered, because a `Trusted` answer carries the service's key and the ledger
 * secrets. This runs on any node for joiners that it knows; unknown ones are sent to the primary.
 *
 * Trusted.
 */
import { createPublicKey, X509Certificate } from "node:crypto";
import type { Claims, Platform } from "../../../protocol/attestation/evidence.ts";
import { nodeIdOf } from "../../../protocol/attestation/report-data.ts";
import { equal, toBase64 } from "../../../protocol/bytes.ts";
import { Fault, isFault, present } from "../../../protocol/check.ts";
import { spkiDer } from "../../../protocol/crypto/keys.ts";
import { derToPem } from "../../../protocol/crypto/pem.ts";
import { endorse, readCsr } from "../../../protocol/crypto/x509.ts";
import type { NodeId } from "../../../protocol/ids.ts";
import { noAuth } from "../http/auth.ts";
import { type Call, type Endpoint, HttpError, json, type Reply, type Request } from "../http/endpoint.ts";
import { getOne, open } from "../kv/table.ts";
import { type NodeInfo, TABLES } from "../kv/tables.ts";
import type { Tx } from "../kv/tx.ts";
import { checkJoinPolicy, invalidQuote, isEvidenceFault } from "./join-policy.ts";
import {
  checkJoinRequest,
  JOIN_EXPORTER_BYTES,
  JOIN_EXPORTER_LABEL,
  type JoinRequest,
  type JoinResponse,
  makeJoinResponse,
  type NetworkInfo,
  parseJoinRequest,
} from "./join-protocol.ts";
import type { Membership } from "./membership.ts";

export type JoinParts = Readonly<{
  platform: Platform;
  membership(): Membership | undefined;
  nowMs(): number;
  log(level: "info" | "warn", message: string): void;
}>;

type Joiner = Readonly<{ nodeId: NodeId; publicKey: Uint8Array; claims: Claims }>;

/** A conflict with other governance runs the admission again; as often as the dispatcher would. */
const ATTEMPTS_MAX = 30;
/** Days that a node of an opening service is endorsed for. */
const OPENING_DAYS = 90;

export function joinEndpoint(parts: JoinParts): Endpoint {
  return {
    method: "POST",
    path: "/node/join",
    auth: [noAuth],
    kind: "local",
    handler: (call) => handle(parts, call),
  };
}

async function handle(parts: JoinParts, { request }: Call): Promise<Reply> {
  const membership = parts.membership();
  if (membership === undefined)
    throw new HttpError(500, "InternalError", "Target node should be part of network to accept new nodes.");
  const body = parse(request);
  const joiner = await check(parts, membership, request, body);
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    try {
      return await answer(parts, membership, request, admit(parts, membership, request, body, joiner));
    } catch (error) {
      if (!isFault(error, "TxConflict")) throw error;
    }
  }
  throw new HttpError(503, "TransactionCommitAttemptsExceedLimit", "Other transactions got in the way. Try again.");
}

function parse(request: Request): JoinRequest {
  try {
    return parseJoinRequest(request.body);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new HttpError(400, "InvalidInput", error.message);
  }
}

/** Proves who is asking: an enclave with code that the service admits, at the other end of this connection. */
async function check(parts: JoinParts, membership: Membership, request: Request, body: JoinRequest): Promise<Joiner> {
  const { clientCertificate } = request.session;
  if (clientCertificate === undefined)
    throw new HttpError(401, "InvalidAuthenticationInfo", "A joining node shows its self-signed certificate.");
  const publicKey = spkiDer(new X509Certificate(clientCertificate).publicKey);
  try {
    const exporter = request.session.exportKey(JOIN_EXPORTER_LABEL, JOIN_EXPORTER_BYTES);
    return await checkJoinRequest(body, { exporter, publicKey }, (claims) =>
      checkJoinPolicy(membership.replica.read(), claims),
    );
  } catch (error) {
    if (!isEvidenceFault(error)) throw error;
    parts.log("warn", `a joining node was refused: ${error.detail.code}: ${error.message}`);
    throw invalidQuote(error);
  }
}

/** The joiner's row in the newest state, where necessary a new one. */
function admit(
  parts: JoinParts,
  membership: Membership,
  request: Request,
  body: JoinRequest,
  joiner: Joiner,
): NodeInfo {
  const tx = membership.replica.read();
  const known = open(tx, TABLES.nodeInfo).get(joiner.nodeId);
  if (known?.status === "Retired")
    throw new HttpError(400, "InvalidNodeState", "Joining node is not in expected state (Retired).");
  if (known !== undefined) return known;
  if (!membership.replica.isPrimary()) throw toPrimary(membership, request);

  checkAddress(tx, body);
  checkRequestKey(body, joiner);
  const opening = getOne(tx, TABLES.serviceInfo)?.status === "Opening";
  const info: NodeInfo = {
    ...body.node_info_network,
    status: opening ? "Trusted" : "Pending",
    quote_info: body.quote_info,
    encryption_pub_key: body.public_encryption_key,
    public_key: derToPem("PUBLIC KEY", joiner.publicKey),
    certificate_signing_request: body.certificate_signing_request,
    code_digest: joiner.claims.measurement,
    ...(opening && { ledger_secret_seqno: membership.secrets.latest().from }),
    ...(body.node_data !== undefined && { node_data: body.node_data }),
  };
  open(tx, TABLES.nodeInfo).set(joiner.nodeId, info);
  if (opening)
    open(tx, TABLES.nodeCertificates).set(
      joiner.nodeId,
      endorse({
        csr: body.certificate_signing_request,
        issuerCertificatePem: membership.service.certificate,
        issuerKey: membership.service.key,
        validFrom: new Date(parts.nowMs()),
        days: OPENING_DAYS,
      }),
    );
  membership.replica.submit(tx);
  parts.log("info", `node ${joiner.nodeId} joins as ${info.status}`);
  return info;
}

/** What the joiner gets to know: its status, and once it is trusted everything. */
async function answer(parts: JoinParts, membership: Membership, request: Request, info: NodeInfo): Promise<Reply> {
  const { session } = request;
  const nodeId = nodeOf(session.clientCertificate);
  const content: Omit<JoinResponse, "camerata"> = {
    node_status: info.status,
    node_id: nodeId,
    ...(info.status === "Trusted" && { network_info: networkInfo(membership, nodeId) }),
  };
  return json(
    await makeJoinResponse(content, parts.platform, {
      exporter: session.exportKey(JOIN_EXPORTER_LABEL, JOIN_EXPORTER_BYTES),
      publicKey: spkiDer(new X509Certificate(membership.nodeCertificate).publicKey),
    }),
  );
}

function networkInfo(membership: Membership, nodeId: NodeId): NetworkInfo {
  const tx = membership.replica.read();
  const { service, secrets } = membership;
  return {
    public_only: false,
    last_recovered_signed_idx: 0,
    ledger_secrets: secrets.all().map(({ from, secret }) => [from, { raw_key: toBase64(secret.export()) }]),
    identity: {
      cert: membership.serviceCertificate(),
      priv_key: service.key.export({ type: "pkcs8", format: "pem" }).toString(),
    },
    service_status: getOne(tx, TABLES.serviceInfo)?.status ?? "Opening",
    endorsed_certificate: present(
      open(tx, TABLES.nodeCertificates).get(nodeId),
      "a trusted node has an endorsed certificate",
    ),
    cose_signatures_config: membership.coseSignatures,
  };
}

function nodeOf(certificate: Uint8Array | undefined): NodeId {
  const shown = present(certificate, "the joiner's certificate was checked");
  return nodeIdOf(spkiDer(new X509Certificate(shown).publicKey));
}

function toPrimary(membership: Membership, request: Request): HttpError {
  const leader = membership.replica.leader;
  const info = leader === undefined ? undefined : open(membership.replica.read(), TABLES.nodeInfo).get(leader);
  const address = info?.rpc_interfaces[request.session.interface]?.published_address;
  if (address === undefined) return new HttpError(500, "InternalError", "Primary unknown");
  return new HttpError(308, "NodeCannotHandleRequest", "Node is not primary; cannot handle write", {
    headers: { location: `https://${address}/node/join` },
  });
}

function checkAddress(tx: Tx, body: JoinRequest): void {
  const address = (of: NodeInfo["node_to_node_interface"]) => of.published_address ?? of.bind_address;
  const wanted = address(body.node_info_network.node_to_node_interface);
  const taken = open(tx, TABLES.nodeInfo)
    .entries()
    .find(([, info]) => info.status !== "Retired" && address(info.node_to_node_interface) === wanted);
  if (taken !== undefined)
    throw new HttpError(
      400,
      "NodeAlreadyExists",
      `A node with the same published node address ${wanted} already exists (node id: ${taken[0]}).`,
    );
}

function checkRequestKey(body: JoinRequest, joiner: Joiner): void {
  let same = false;
  try {
    same = equal(spkiDer(readCsr(body.certificate_signing_request).publicKey), joiner.publicKey);
    createPublicKey(body.public_encryption_key);
  } catch {
    throw new HttpError(400, "InvalidInput", "The certificate request or the encryption key cannot be read.");
  }
  if (!same)
    throw new HttpError(
      400,
      "CSRPublicKeyInvalid",
      "Public key in the certificate request does not match the TLS session's.",
    );
}
