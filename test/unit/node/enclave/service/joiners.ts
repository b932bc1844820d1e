/**
 * A service, a joiner and a responder for the tests of joining, each with its platform.
 */

import { Store } from "../../../../../node/enclave/kv/store.ts";
import { open } from "../../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { Tx } from "../../../../../node/enclave/kv/tx.ts";
import type { JoinRequest, JoinResponse } from "../../../../../node/enclave/service/join-protocol.ts";
import { createVirtualPlatform } from "../../../../../node/enclave/service/platform-virtual.ts";
import type { Claims, Platform } from "../../../../../protocol/attestation/evidence.ts";
import type { VirtualIdentity } from "../../../../../protocol/attestation/virtual.ts";
import { type Identity, makeNode, makeService } from "../../../network/enclave/identities.ts";

export const MEASUREMENT = "ab".repeat(32);
export const HOST_DATA = "cd".repeat(32);

export const build: VirtualIdentity = {
  measurement: MEASUREMENT,
  hostData: HOST_DATA,
  debug: false,
  productId: 1,
  securityVersion: 1,
};
export const genuine = createVirtualPlatform(build);
export const otherBuild = createVirtualPlatform({ ...build, measurement: "ee".repeat(32) });
export const otherHost = createVirtualPlatform({ ...build, hostData: "ee".repeat(32) });
export const debugBuild = createVirtualPlatform({ ...build, debug: true });

/** A platform that gives, for the n-th request, what the n-th of these gives. */
export function platforms(...each: Platform[]): Platform {
  let calls = 0;
  return {
    name: "virtual",
    confidential: false,
    evidence: (reportData) => each[Math.min(calls++, each.length - 1)]!.evidence(reportData),
  };
}

export const claims: Claims = {
  format: "Insecure_Virtual",
  measurement: MEASUREMENT,
  hostData: HOST_DATA,
  reportData: Buffer.alloc(32),
  debug: false,
};

/** A transaction over the tables that the members' decisions have filled. */
export function decided(): Tx {
  const tx = new Tx(new Store());
  open(tx, TABLES.virtualMeasurements).set(MEASUREMENT, "AllowedToJoin");
  open(tx, TABLES.virtualHostData).set(HOST_DATA, true);
  return tx;
}

export const service = makeService();
export const joiner = makeNode();
export const responder = makeNode({ name: "service", service });

export const content: Omit<JoinRequest, "quote_info" | "camerata"> = {
  node_info_network: {
    node_to_node_interface: { bind_address: "127.0.0.1:0", published_address: "n1:9000" },
    rpc_interfaces: { primary_rpc_interface: { bind_address: "0.0.0.0:8000", published_address: "n1:8000" } },
  },
  public_encryption_key: "-----BEGIN PUBLIC KEY-----",
  startup_seqno: 0,
  certificate_signing_request: "-----BEGIN CERTIFICATE REQUEST-----",
  node_data: { owner: "somebody" },
  ledger_sign_mode: "Dual",
};

/** The answer for a node that the service trusts; the joiner's key gets a certificate by the service. */
export function trustedAnswer(more: { service?: Identity; privateKey?: string; endorsed?: string } = {}) {
  const identity = more.service ?? service;
  return {
    node_status: "Trusted",
    node_id: joiner.id,
    network_info: {
      public_only: false,
      last_recovered_signed_idx: 0,
      ledger_secrets: [[1, { raw_key: Buffer.alloc(32, 1).toString("base64") }]],
      identity: { cert: identity.certificate, priv_key: more.privateKey ?? identity.privateKey },
      service_status: "Open",
      endorsed_certificate: more.endorsed ?? endorsed,
      cose_signatures_config: { issuer: "service", subject: "ledger" },
    },
  } satisfies Omit<JoinResponse, "camerata">;
}

/** The joiner's key under a certificate: self-signed will do where only the key is looked at. */
const endorsed = joiner.certificate;

export const pending: Omit<JoinResponse, "camerata"> = { node_status: "Pending", node_id: joiner.id };
