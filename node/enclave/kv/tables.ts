/**
 * All built-in tables: CCF's name, key and value, one row each.
 *
 * Names, encodings and JSON fields are CCF 7.0's (reference ccf-api-governance.md 6). The `public:` prefix means that
 * the ledger holds the writes in clear, on purpose: an auditor reads governance without any key.
 *
 * Trusted. Pure.
 */
import type { QuoteInfo } from "../../../protocol/attestation/evidence.ts";
import type { MemberId, NodeId, Seqno, View } from "../../../protocol/ids.ts";
import { type Codec, jsonCodec, rawCodec, type Singleton, type Table, textCodec, unitCodec } from "./table.ts";

export type MemberInfo = { status: "Accepted" | "Active"; member_data?: unknown; recovery_role?: RecoveryRole };
export type RecoveryRole = "NonParticipant" | "Participant" | "Owner";
export type MemberAck = { state_digest: string; cose_sign1_req?: string };
export type UserInfo = { user_data: unknown };

export type NodeStatus = "Pending" | "Trusted" | "Retired";
export type NetInterface = {
  bind_address: string;
  published_address?: string;
  protocol?: string;
  app_protocol?: string;
  [extra: string]: unknown;
};
export type NodeInfo = {
  status: NodeStatus;
  node_to_node_interface: NetInterface;
  rpc_interfaces: Record<string, NetInterface>;
  quote_info: QuoteInfo;
  encryption_pub_key: string;
  public_key?: string;
  certificate_signing_request?: string;
  code_digest?: string;
  ledger_secret_seqno?: Seqno;
  node_data?: unknown;
  retired_committed?: boolean;
};

export type ServiceStatus = "Opening" | "Open" | "WaitingForRecoveryShares" | "Recovering";
export type ServiceInfo = {
  cert: string;
  status: ServiceStatus;
  previous_service_identity_version?: Seqno;
  recovery_count?: number;
  service_data?: unknown;
  current_service_create_txid?: string;
};
export type ServiceConfig = {
  recovery_threshold: number;
  consensus?: "CFT" | "BFT";
  maximum_node_certificate_validity_days?: number;
  maximum_service_certificate_validity_days?: number;
  recent_cose_proposals_window_size?: number;
};

export type ProposalState = "Open" | "Accepted" | "Rejected" | "Withdrawn" | "Dropped" | "Failed";
export type ProposalFailure = { reason: string; trace?: string };
export type ProposalInfo = {
  proposer_id: MemberId;
  state: ProposalState;
  ballots: Record<MemberId, string>;
  final_votes?: Record<MemberId, boolean>;
  vote_failures?: Record<MemberId, ProposalFailure>;
  failure?: ProposalFailure;
};

export type JwtIssuer = { auto_refresh?: boolean; ca_cert_bundle_name?: string };
/** `public_key`: base64 of the DER SubjectPublicKeyInfo. */
export type JwtKey = { public_key: string; issuer: string; constraint?: string };

export type NodeSignature = {
  cert?: string;
  commit_seqno: 0;
  commit_view: 0;
  hashed_nonce: string;
  node: NodeId;
  root: string;
  seqno: Seqno;
  view: View;
  sig: string;
};
export type RecoveryShares = {
  encrypted_shares: Record<MemberId, string>;
  previous_secret_stored_version?: Seqno;
  wrapped_latest_ledger_secret: string;
};
export type HistoricalSecret = {
  next_version?: Seqno;
  previous_ledger_secret?: { encrypted_data: string; previous_secret_stored_version?: Seqno; version: Seqno };
};
export type IdentityEndorsement = {
  endorsement: string;
  endorsement_epoch_begin: string;
  endorsement_epoch_end?: string;
  endorsing_key: string;
  previous_version?: Seqno;
};

function table<V>(name: string, value: Codec<V>): Table<string, V> {
  return { name, key: textCodec, value };
}
function singleton<V>(name: string, value: Codec<V>): Singleton<V> {
  return { name, value };
}

export const TABLES = {
  memberCerts: table<string>("public:ccf.gov.members.certs", textCodec),
  memberEncryptionKeys: table<string>("public:ccf.gov.members.encryption_public_keys", textCodec),
  memberInfo: table<MemberInfo>("public:ccf.gov.members.info", jsonCodec()),
  memberAcks: table<MemberAck>("public:ccf.gov.members.acks", jsonCodec()),
  userCerts: table<string>("public:ccf.gov.users.certs", textCodec),
  userInfo: table<UserInfo>("public:ccf.gov.users.info", jsonCodec()),

  nodeInfo: table<NodeInfo>("public:ccf.gov.nodes.info", jsonCodec()),
  nodeCertificates: table<string>("public:ccf.gov.nodes.endorsed_certificates", textCodec),
  virtualMeasurements: table<string>("public:ccf.gov.nodes.virtual.measurements", jsonCodec()),
  virtualHostData: table<true>("public:ccf.gov.nodes.virtual.host_data", unitCodec),

  serviceInfo: singleton<ServiceInfo>("public:ccf.gov.service.info", jsonCodec()),
  serviceConfig: singleton<ServiceConfig>("public:ccf.gov.service.config", jsonCodec()),
  constitution: singleton<string>("public:ccf.gov.constitution", jsonCodec()),

  proposals: table<Uint8Array>("public:ccf.gov.proposals", rawCodec),
  proposalInfo: table<ProposalInfo>("public:ccf.gov.proposals_info", jsonCodec()),
  coseHistory: table<string>("public:ccf.gov.cose_history", jsonCodec()),
  coseRecentProposals: table<string>("public:ccf.gov.cose_recent_proposals", jsonCodec()),

  caCertBundles: table<string>("public:ccf.gov.tls.ca_cert_bundles", jsonCodec()),
  jwtIssuers: table<JwtIssuer>("public:ccf.gov.jwt.issuers", jsonCodec()),
  jwtKeys: table<JwtKey[]>("public:ccf.gov.jwt.public_signing_keys_metadata_v2", jsonCodec()),

  signatures: singleton<NodeSignature>("public:ccf.internal.signatures", jsonCodec()),
  coseSignatures: singleton<string>("public:ccf.internal.cose_signatures", jsonCodec()),
  tree: singleton<Uint8Array>("public:ccf.internal.tree", rawCodec),
  recoveryShares: singleton<RecoveryShares>("public:ccf.internal.recovery_shares", jsonCodec()),
  historicalSecret: singleton<HistoricalSecret>("public:ccf.internal.historical_encrypted_ledger_secret", jsonCodec()),
  identityEndorsement: singleton<IdentityEndorsement>(
    "public:ccf.internal.previous_service_identity_endorsement",
    jsonCodec(),
  ),
} as const;
