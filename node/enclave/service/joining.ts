/**
 * Joining a service: ask until trusted, then take the seat.
 *
 * Trusted.
 */
import type { Duplex } from "node:stream";
import type { Platform } from "../../../protocol/attestation/evidence.ts";
import { fromBase64 } from "../../../protocol/bytes.ts";
import type { EnclaveConfig } from "../../boundary/config.ts";
import type { CoreOptions } from "../consensus/core.ts";
import { createRaft } from "../consensus/raft.ts";
import { importSecrets } from "../ledger/secrets.ts";
import { publicInterfaces } from "./genesis.ts";
import { importServiceIdentity } from "./identity.ts";
import { joinService } from "./join-client.ts";
import type { Policy } from "./join-policy.ts";
import { Membership, type MembershipParts } from "./membership.ts";

/** How long a joiner tries to reach anyone: nodes of a consortium may be started together. */
const CONTACT_TIMEOUT_MS = 60_000;

export type JoiningParts = Omit<
  MembershipParts,
  "service" | "secrets" | "nodeCertificate" | "coseSignatures" | "core"
> &
  Readonly<{
    coreOptions: CoreOptions;
    command: Extract<EnclaveConfig["command"], { type: "Join" }>;
    platform: Platform;
    /** Judges the nodes that answer. */
    checkResponder: Policy;
    dial(address: string): Duplex;
    log(level: "info" | "warn", message: string): void;
    signal: AbortSignal;
  }>;

/** @throws Fault<JoinClientFault | JoinFault | EvidenceFault> when the service or this node's own policy refuses */
export async function join(parts: JoiningParts): Promise<Membership> {
  const { command, identity, config } = parts;
  const network = await joinService({
    target: command.target_rpc_address,
    serviceCertificate: command.service_certificate,
    certificate: identity.selfSignedCertificate,
    privateKey: identity.key.export({ type: "pkcs8", format: "pem" }).toString(),
    platform: parts.platform,
    policy: parts.checkResponder,
    content: {
      node_info_network: {
        node_to_node_interface: config.node_to_node_interface,
        rpc_interfaces: publicInterfaces(config.rpc_interfaces),
      },
      public_encryption_key: identity.encryptionPublicKey,
      startup_seqno: null,
      certificate_signing_request: identity.certificateRequest,
      ledger_sign_mode: "Dual",
      ...(config.node_data !== undefined && { node_data: config.node_data }),
    },
    retryTimeoutMs: command.retry_timeout,
    contactTimeoutMs: CONTACT_TIMEOUT_MS,
    followRedirect: command.follow_redirect,
    dial: parts.dial,
    log: parts.log,
    signal: parts.signal,
  });
  return new Membership({
    ...parts,
    service: importServiceIdentity(network.identity.cert, network.identity.priv_key),
    secrets: importSecrets(network.ledger_secrets.map(([from, { raw_key }]) => [from, fromBase64(raw_key)])),
    nodeCertificate: network.endorsed_certificate,
    coseSignatures: network.cose_signatures_config,
    core: createRaft(parts.coreOptions, { kind: "join" }),
  });
}
