/**
 * The configuration of one node of a development network, in CCF's form.
 *
 * Written to a file and read back by the host like any other, so that what works here works in production: copy it,
 * change the addresses, keep the rest.
 *
 * Neutral. Pure.
 */
import { statusFile } from "./layout.ts";
import type { NodeAddresses } from "./ports.ts";

export type ConfigParts = Readonly<{
  addresses: NodeAddresses;
  /** Where the node keeps what is its own. */
  directory: string;
  command: StartCommand | JoinCommand;
}>;

export type StartCommand = Readonly<{
  type: "Start";
  members: readonly Readonly<{ certificate: string; encryptionPublicKey: string }>[];
  constitution: readonly string[];
}>;

export type JoinCommand = Readonly<{
  type: "Join";
  /** `host:port` of any node of the service. */
  target: string;
  /** File with the service's identity: whom the joiner trusts. */
  serviceCertificate: string;
}>;

/** How soon a joiner asks again whether the members have trusted it. People vote in seconds; scripts are faster. */
const JOIN_RETRY = "100ms";
const VALIDITY_DAYS = 90;
/** A node of this machine is called by its address or by its name. */
const SUBJECT_ALT_NAMES = ["iPAddress:127.0.0.1", "dNSName:localhost"];

/** The configuration as JSON text. */
export function nodeConfig(parts: ConfigParts): string {
  const { addresses, directory, command } = parts;
  const config = {
    network: {
      node_to_node_interface: { bind_address: addresses.peer },
      rpc_interfaces: { primary_rpc_interface: { bind_address: addresses.rpc } },
    },
    node_certificate: { initial_validity_days: VALIDITY_DAYS, subject_alt_names: SUBJECT_ALT_NAMES },
    ledger: { directory: `${directory}/ledger` },
    output_files: { node_certificate_file: `${directory}/nodecert.pem`, pid_file: `${directory}/node.pid` },
    camerata: { status_file: statusFile(directory) },
    command: command.type === "Start" ? start(directory, command) : join(command),
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}

function start(directory: string, command: StartCommand): object {
  return {
    type: "Start",
    service_certificate_file: `${directory}/service_cert.pem`,
    start: {
      members: command.members.map((member) => ({
        certificate_file: member.certificate,
        encryption_public_key_file: member.encryptionPublicKey,
      })),
      constitution_files: command.constitution,
      // A majority: the consortium can lose a member, and remove one, without losing what it could recover.
      service_configuration: { recovery_threshold: Math.floor(command.members.length / 2) + 1 },
      initial_service_certificate_validity_days: VALIDITY_DAYS,
    },
  };
}

function join(command: JoinCommand): object {
  return {
    type: "Join",
    service_certificate_file: command.serviceCertificate,
    join: { target_rpc_address: command.target, retry_timeout: JOIN_RETRY },
  };
}
