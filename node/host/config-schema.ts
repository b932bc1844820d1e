/**
 * CCF's node configuration as a schema: names, forms and defaults of CCF 7.0.2 (doc/host_config_schema/cchost_config.json),
 * as far as this node has the concept; what is ours is under `camerata`.
 *
 * Sizes are text like "5MB" (powers of 1024), times like "100ms". An unknown key is an error: a limit that is misspelt
 * must not silently be no limit. Keys of CCF whose concept is missing here are unknown too, for the same reason.
 *
 * Untrusted. Pure.
 */
import { type Static, Type } from "typebox";

const closed = { additionalProperties: false };
const file = Type.String({ minLength: 1, maxLength: 4096 });
const optionalFile = Type.Optional(Type.Union([file, Type.Null()]));
const size = Type.String({ pattern: "^[0-9]+(B|KB|MB|GB|TB|PB)$", description: 'a size such as "5MB"' });
const time = Type.String({ pattern: "^[0-9]+(us|ms|s|min|h)$", description: 'a time such as "100ms"' });
const address = Type.String({
  maxLength: 256,
  pattern: "^(\\[[0-9a-fA-F:.]+\\]|[^:\\[\\]/]+):[0-9]{1,5}$",
  description: 'an address such as "127.0.0.1:8000"',
});
const days = Type.Integer({ minimum: 1, maximum: 36_500 });
const measurement = Type.String({ pattern: "^[0-9a-f]{64}$", description: "64 lower-case hex digits" });

const RpcInterface = Type.Object(
  {
    bind_address: address,
    published_address: Type.Optional(address),
    protocol: Type.Optional(Type.Literal("tcp")),
    app_protocol: Type.Optional(Type.Literal("HTTP1")),
    max_open_sessions_soft: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
    max_open_sessions_hard: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
    http_configuration: Type.Optional(
      Type.Object(
        {
          max_body_size: Type.Optional(size),
          max_header_size: Type.Optional(size),
          max_headers_count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
        },
        closed,
      ),
    ),
    endorsement: Type.Optional(Type.Object({ authority: Type.Enum(["Node", "Service"]) }, closed)),
  },
  closed,
);

const Member = Type.Object(
  {
    certificate_file: file,
    encryption_public_key_file: optionalFile,
    data_json_file: optionalFile,
    recovery_role: Type.Optional(Type.Enum(["NonParticipant", "Participant", "Owner"])),
  },
  closed,
);

const Start = Type.Object(
  {
    members: Type.Array(Member, { minItems: 1, maxItems: 1000 }),
    constitution_files: Type.Array(file, { minItems: 1, maxItems: 100 }),
    service_configuration: Type.Optional(
      Type.Object(
        {
          recovery_threshold: Type.Optional(Type.Integer({ minimum: 0, maximum: 254 })),
          maximum_node_certificate_validity_days: Type.Optional(days),
          maximum_service_certificate_validity_days: Type.Optional(days),
          recent_cose_proposals_window_size: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
        },
        closed,
      ),
    ),
    initial_service_certificate_validity_days: Type.Optional(days),
    service_subject_name: Type.Optional(Type.String({ maxLength: 256 })),
    cose_signatures: Type.Optional(
      Type.Object({ issuer: Type.String({ maxLength: 256 }), subject: Type.String({ maxLength: 256 }) }, closed),
    ),
  },
  closed,
);

const Join = Type.Object(
  {
    target_rpc_address: address,
    retry_timeout: Type.Optional(time),
    follow_redirect: Type.Optional(Type.Boolean()),
  },
  closed,
);

export const HostConfigFile = Type.Object(
  {
    $schema: Type.Optional(Type.String()),
    network: Type.Object(
      {
        node_to_node_interface: Type.Object(
          { bind_address: address, published_address: Type.Optional(address) },
          closed,
        ),
        rpc_interfaces: Type.Record(Type.String(), RpcInterface, { minProperties: 1, maxProperties: 16 }),
      },
      closed,
    ),
    command: Type.Object(
      {
        type: Type.Enum(["Start", "Join"]),
        service_certificate_file: Type.Optional(file),
        start: Type.Optional(Start),
        join: Type.Optional(Join),
      },
      closed,
    ),
    node_certificate: Type.Optional(
      Type.Object(
        {
          subject_name: Type.Optional(Type.String({ maxLength: 256 })),
          subject_alt_names: Type.Optional(
            Type.Array(
              Type.String({
                maxLength: 256,
                pattern: "^(iPAddress|dNSName):.+$",
                description: '"iPAddress:…" or "dNSName:…"',
              }),
              { maxItems: 64 },
            ),
          ),
          curve_id: Type.Optional(Type.Enum(["Secp384R1", "Secp256R1"])),
          initial_validity_days: Type.Optional(days),
        },
        closed,
      ),
    ),
    node_data_json_file: optionalFile,
    service_data_json_file: optionalFile,
    ledger: Type.Optional(Type.Object({ directory: Type.Optional(file), chunk_size: Type.Optional(size) }, closed)),
    consensus: Type.Optional(
      Type.Object(
        {
          message_timeout: Type.Optional(time),
          election_timeout: Type.Optional(time),
          max_uncommitted_tx_count: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000_000 })),
        },
        closed,
      ),
    ),
    ledger_signatures: Type.Optional(
      Type.Object(
        { tx_count: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })), delay: Type.Optional(time) },
        closed,
      ),
    ),
    logging: Type.Optional(Type.Object({ format: Type.Optional(Type.Enum(["Text", "Json"])) }, closed)),
    output_files: Type.Optional(
      Type.Object(
        {
          node_certificate_file: Type.Optional(file),
          pid_file: Type.Optional(file),
          node_to_node_address_file: optionalFile,
          rpc_addresses_file: optionalFile,
        },
        closed,
      ),
    ),
    tick_interval: Type.Optional(time),
    idle_connection_timeout: Type.Optional(time),
    camerata: Type.Optional(
      Type.Object(
        {
          /** Directory of the enclave package. */
          enclave: Type.Optional(file),
          /** Measurements that a joiner accepts of the service's nodes, beside its own. */
          accepted_measurements: Type.Optional(Type.Array(measurement, { maxItems: 64 })),
          /** `host:port` for probes and metrics; absent: none. */
          admin_address: Type.Optional(address),
          /** Where to write process ids, addresses and state as JSON once the enclave is up. */
          status_file: Type.Optional(file),
          /** Records every byte that crosses the boundary, for an audit of what a host gets to see. It grows without bound. */
          record_boundary_file: Type.Optional(file),
          /** This host's libp2p key, made if missing; absent: a fresh one at each start. */
          host_key_file: Type.Optional(file),
          /** libp2p peer ids of the hosts that may connect; absent: all. */
          allowed_peers: Type.Optional(Type.Array(Type.String({ maxLength: 128 }), { maxItems: 1024 })),
        },
        closed,
      ),
    ),
  },
  closed,
);

export type HostConfigFile = Static<typeof HostConfigFile>;
