/**
 * The first transaction of a service: its identity, its members, its constitution, its first node.
 *
 * Tables and rows are those of CCF's `/node/create` (reference ccf-api-governance.md 3.4).
 *
 * Trusted.
 */

import type { Claims, QuoteInfo } from "../../../protocol/attestation/evidence.ts";
import { Fault } from "../../../protocol/check.ts";
import { certificateId } from "../../../protocol/crypto/keys.ts";
import { formatTxId, type TxId } from "../../../protocol/ids.ts";
import type { EnclaveConfig } from "../../boundary/config.ts";
import { open, setOne } from "../kv/table.ts";
import { type NodeInfo, TABLES } from "../kv/tables.ts";
import type { Tx } from "../kv/tx.ts";
import type { NodeIdentity, ServiceIdentity } from "./identity.ts";

export type StartCommand = Extract<EnclaveConfig["command"], { type: "Start" }>;

export type GenesisFault = { code: "GenesisInvalid" };

export type Genesis = Readonly<{
  config: EnclaveConfig;
  command: StartCommand;
  txId: TxId;
  service: ServiceIdentity;
  node: NodeIdentity;
  nodeCertificate: string;
  quote: QuoteInfo;
  claims: Claims;
}>;

/** Writes the genesis. @throws Fault<GenesisFault> when the configuration contradicts itself */
export function writeGenesis(tx: Tx, genesis: Genesis): void {
  const { command, service, node } = genesis;
  setOne(tx, TABLES.serviceInfo, {
    cert: service.certificate,
    status: "Opening",
    current_service_create_txid: formatTxId(genesis.txId),
    ...(command.service_data !== undefined && { service_data: command.service_data }),
  });
  setOne(tx, TABLES.constitution, command.constitution);
  writeMembers(tx, command);

  open(tx, TABLES.nodeInfo).set(node.id, {
    ...describeNode(genesis.config, node, genesis.quote, genesis.claims),
    status: "Trusted",
    ledger_secret_seqno: genesis.txId.seqno,
  });
  open(tx, TABLES.nodeCertificates).set(node.id, genesis.nodeCertificate);
  open(tx, TABLES.virtualMeasurements).set(genesis.claims.measurement, "AllowedToJoin");
  open(tx, TABLES.virtualHostData).set(genesis.claims.hostData, true);
}

/** A node's row in `nodes.info`, but for what depends on its status. */
export function describeNode(
  config: EnclaveConfig,
  node: NodeIdentity,
  quote: QuoteInfo,
  claims: Claims,
): Omit<NodeInfo, "status"> {
  const { rpc_interfaces, node_to_node_interface } = config;
  return {
    node_to_node_interface,
    rpc_interfaces: publicInterfaces(rpc_interfaces),
    quote_info: quote,
    encryption_pub_key: node.encryptionPublicKey,
    public_key: node.publicKeyPem,
    certificate_signing_request: node.certificateRequest,
    code_digest: claims.measurement,
    ...(config.node_data !== undefined && { node_data: config.node_data }),
  };
}

/** The part of the interfaces that others need to know. */
export function publicInterfaces(interfaces: EnclaveConfig["rpc_interfaces"]): NodeInfo["rpc_interfaces"] {
  return Object.fromEntries(
    Object.entries(interfaces).map(([name, one]) => [
      name,
      { bind_address: one.bind_address, published_address: one.published_address },
    ]),
  );
}

function writeMembers(tx: Tx, command: StartCommand): void {
  let participants = 0;
  let owners = 0;
  for (const member of command.members) {
    const id = certificateId(member.certificate);
    const role = member.encryption_public_key === undefined ? undefined : (member.recovery_role ?? "Participant");
    if (role === undefined && (member.recovery_role ?? "NonParticipant") !== "NonParticipant")
      throw invalid(`member ${id} has a recovery role but no encryption key`);
    if (role === "Participant") participants++;
    if (role === "Owner") owners++;
    if (open(tx, TABLES.memberCerts).has(id)) throw invalid(`member ${id} is listed twice`);
    open(tx, TABLES.memberCerts).set(id, member.certificate);
    if (member.encryption_public_key !== undefined)
      open(tx, TABLES.memberEncryptionKeys).set(id, member.encryption_public_key);
    open(tx, TABLES.memberInfo).set(id, {
      status: "Accepted",
      ...(member.member_data !== undefined && { member_data: member.member_data }),
      ...(member.recovery_role !== undefined && { recovery_role: member.recovery_role }),
    });
    open(tx, TABLES.memberAcks).set(id, { state_digest: "" });
  }
  const wanted = command.service_configuration.recovery_threshold;
  const threshold = wanted > 0 ? wanted : participants > 0 ? participants : 1;
  if (participants > 0 && threshold > participants)
    throw invalid(
      `recovery_threshold ${threshold} is more than the ${participants} members that take part in recovery`,
    );
  if (participants === 0 && owners > 0 && threshold > 1)
    throw invalid("with recovery owners only, recovery_threshold must be 1");
  const { recovery_threshold: _, ...rest } = command.service_configuration;
  setOne(tx, TABLES.serviceConfig, { consensus: "CFT", recovery_threshold: threshold, ...rest });
}

function invalid(message: string): Fault<GenesisFault> {
  return new Fault<GenesisFault>({ code: "GenesisInvalid" }, message);
}
