/**
 * What the host tells the enclave at the start: CCF's node configuration with files read and units resolved.
 *
 * The host reads and checks the configuration file; the enclave checks this form again, because the host is not trusted.
 * Durations are milliseconds, sizes are bytes.
 *
 * Neutral. Pure.
 */
import { type Static, Type } from "typebox";

const pem = Type.String({ maxLength: 64 * 1024 });
const address = Type.String({ maxLength: 256, pattern: "^.+:[0-9]{1,5}$" });
const ms = Type.Integer({ minimum: 1, maximum: 86_400_000 });
const closed = { additionalProperties: false };

const Interface = Type.Object(
  {
    bind_address: address,
    published_address: address,
    /** Which certificate is shown: the self-signed one (from the start) or the service-endorsed one (once joined). */
    endorsement: Type.Enum(["Node", "Service"]),
    max_open_sessions_soft: Type.Integer({ minimum: 1, maximum: 100_000 }),
    max_open_sessions_hard: Type.Integer({ minimum: 1, maximum: 100_000 }),
    max_body_size: Type.Integer({ minimum: 1, maximum: 64 * 1024 * 1024 }),
    max_header_size: Type.Integer({ minimum: 256, maximum: 1024 * 1024 }),
    max_headers_count: Type.Integer({ minimum: 1, maximum: 10_000 }),
  },
  closed,
);

const Member = Type.Object(
  {
    certificate: pem,
    encryption_public_key: Type.Optional(pem),
    recovery_role: Type.Optional(Type.Enum(["NonParticipant", "Participant", "Owner"])),
    member_data: Type.Optional(Type.Unknown()),
  },
  closed,
);

const Start = Type.Object(
  {
    type: Type.Literal("Start"),
    members: Type.Array(Member, { minItems: 1, maxItems: 1000 }),
    constitution: Type.String({ maxLength: 2 * 1024 * 1024 }),
    service_configuration: Type.Object(
      {
        recovery_threshold: Type.Integer({ minimum: 0, maximum: 254 }),
        maximum_node_certificate_validity_days: Type.Integer({ minimum: 1, maximum: 36_500 }),
        maximum_service_certificate_validity_days: Type.Integer({ minimum: 1, maximum: 36_500 }),
        recent_cose_proposals_window_size: Type.Integer({ minimum: 1, maximum: 10_000 }),
      },
      closed,
    ),
    service_subject_name: Type.String({ maxLength: 256 }),
    initial_service_certificate_validity_days: Type.Integer({ minimum: 1, maximum: 36_500 }),
    cose_signatures: Type.Object(
      { issuer: Type.String({ maxLength: 256 }), subject: Type.String({ maxLength: 256 }) },
      closed,
    ),
    service_data: Type.Optional(Type.Unknown()),
  },
  closed,
);

const Join = Type.Object(
  {
    type: Type.Literal("Join"),
    target_rpc_address: address,
    /** The pinned identity of the service: the only anchor for whom to trust. */
    service_certificate: pem,
    retry_timeout: ms,
    follow_redirect: Type.Boolean(),
    /** Measurements that this node accepts of the service's nodes; empty: only its own. */
    accepted_measurements: Type.Array(Type.String({ maxLength: 128 }), { maxItems: 64 }),
  },
  closed,
);

export const EnclaveConfig = Type.Object(
  {
    node_to_node_interface: Type.Object({ bind_address: address, published_address: address }, closed),
    rpc_interfaces: Type.Record(Type.String({ minLength: 1, maxLength: 128 }), Interface, { maxProperties: 16 }),
    node_certificate: Type.Object(
      {
        subject_name: Type.String({ maxLength: 256 }),
        /** `iPAddress:…` or `dNSName:…`. */
        subject_alt_names: Type.Array(Type.String({ maxLength: 256 }), { maxItems: 64 }),
        curve_id: Type.Enum(["Secp384R1", "Secp256R1"]),
        initial_validity_days: Type.Integer({ minimum: 1, maximum: 36_500 }),
      },
      closed,
    ),
    node_data: Type.Optional(Type.Unknown()),
    consensus: Type.Object(
      {
        message_timeout: ms,
        election_timeout: ms,
        /** 0: no bound. */
        max_uncommitted_tx_count: Type.Integer({ minimum: 0, maximum: 10_000_000 }),
      },
      closed,
    ),
    /** Upper bounds on what is unsigned; the node signs sooner whenever no signature is in flight. */
    ledger_signatures: Type.Object({ tx_count: Type.Integer({ minimum: 1, maximum: 1_000_000 }), delay: ms }, closed),
    ledger_chunk_size: Type.Integer({ minimum: 1024, maximum: 4 * 1024 * 1024 * 1024 - 1 }),
    idle_connection_timeout: ms,
    command: Type.Union([Start, Join]),
  },
  closed,
);

export type EnclaveConfig = Static<typeof EnclaveConfig>;
