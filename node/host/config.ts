/**
 * Reads a node's configuration: checks the file, reads the files it names, fills in defaults.
 *
 * The result has two parts: what the enclave is told (units resolved, contents instead of file names) and what is the
 * host's own business. All problems are reported at once. Paths in the file are relative to the working directory, as in
 * CCF. Where a default is not CCF's, `DEFAULTS` says why.
 *
 * Untrusted.
 */
import { readFileSync } from "node:fs";
import { Compile } from "typebox/compile";
import { assert, Fault, present } from "../../protocol/check.ts";
import { EnclaveConfig } from "../boundary/config.ts";
import { problemsOf } from "./config-problems.ts";
import { HostConfigFile } from "./config-schema.ts";

export type ConfigFault = { code: "ConfigInvalid"; file: string; problems: readonly string[] };

export type HostConfig = Readonly<{
  enclave: EnclaveConfig;
  /** Directory of the enclave package; undefined: the one that was built beside the host. */
  enclaveDirectory: string | undefined;
  rpcInterfaces: readonly Readonly<{ name: string; bindAddress: string; maxOpenSessions: number }>[];
  peerBindAddress: string;
  hostKeyFile: string | undefined;
  allowedPeers: readonly string[] | undefined;
  ledgerDirectory: string;
  tickMs: number;
  logFormat: "Text" | "Json";
  adminAddress: string | undefined;
  files: Readonly<{
    nodeCertificate: string;
    /** Written by a node that starts a service; a joiner reads it and must not overwrite its own anchor of trust. */
    serviceCertificate: string | undefined;
    pid: string | undefined;
    peerAddress: string | undefined;
    rpcAddresses: string | undefined;
    status: string | undefined;
    /** Record of every byte that crosses the boundary. */
    boundaryRecord: string | undefined;
  }>;
}>;

/** CCF 7.0.2's defaults but for those with a reason. */
export const DEFAULTS = {
  messageTimeout: "100ms",
  // CCF: 5000ms. An election begins after half to all of it, so a service writes again within 5 s of losing its primary.
  electionTimeout: "3000ms",
  maxUncommittedTxCount: 10_000,
  signatureTxCount: 5000,
  signatureDelay: "1000ms",
  chunkSize: "5MB",
  idleConnectionTimeout: "60s",
  // CCF: 10ms. Nothing here is timed finer than the message timeout, and an idle node costs what its ticks cost.
  tickInterval: "50ms",
  // CCF: 1 day, after which a new service is down unless somebody renews in time; its own sandbox uses 90.
  initialValidityDays: 90,
  maximumValidityDays: 365,
  recentCoseProposals: 100,
  maxOpenSessionsSoft: 1000,
  maxOpenSessionsHard: 1010,
  maxBodySize: "1MB",
  maxHeaderSize: "16KB",
  maxHeadersCount: 256,
  retryTimeout: "1000ms",
  ledgerDirectory: "ledger",
  nodeCertificateFile: "nodecert.pem",
  serviceCertificateFile: "service_cert.pem",
  nodeSubject: "CN=CCF Node",
  serviceSubject: "CN=CCF Service",
  coseIssuer: "service.example.com",
  coseSubject: "ledger.signature",
} as const;

const CONFIG_BYTES_MAX = 1024 * 1024;
const INPUT_BYTES_MAX = 2 * 1024 * 1024;
const enclaveConfig = Compile(EnclaveConfig);

/** Reads and checks a configuration file and the files it names. @throws Fault<ConfigFault> with every problem found */
export function readConfig(file: string): HostConfig {
  const problems: string[] = [];
  const given = parse(file, problems);
  if (problems.length === 0) problems.push(...problemsOf(HostConfigFile, given));
  if (problems.length === 0) problems.push(...missingSection(given as HostConfigFile));
  if (problems.length > 0) throw invalid(file, problems);

  const config = resolve(given as HostConfigFile, new Inputs(problems));
  if (problems.length > 0) throw invalid(file, problems);
  assert(enclaveConfig.Check(config.enclave), "a checked configuration is one the enclave accepts");
  return config;
}

function missingSection({ command }: HostConfigFile): string[] {
  if (command.type === "Start" && command.start === undefined)
    return ["command.start is missing: it says who the members are and what the constitution is"];
  if (command.type === "Join" && command.join === undefined)
    return ["command.join is missing: it says which node of the service to ask"];
  return [];
}

function resolve(given: HostConfigFile, inputs: Inputs): HostConfig {
  const { network, command } = given;
  const own = given.camerata ?? {};
  const serviceCertificate = command.service_certificate_file ?? DEFAULTS.serviceCertificateFile;
  const interfaces = Object.entries(network.rpc_interfaces).map(([name, rpc]) => ({
    name,
    resolved: rpcInterface(name, rpc, inputs),
  }));
  const names = interfaces.map(({ resolved }) => hostOf(resolved.published_address));
  const peer = network.node_to_node_interface;
  const certificate = given.node_certificate ?? {};
  const consensus = given.consensus ?? {};
  const signatures = given.ledger_signatures ?? {};
  const nodeData = given.node_data_json_file;

  return {
    enclave: {
      node_to_node_interface: {
        bind_address: peer.bind_address,
        published_address: peer.published_address ?? peer.bind_address,
      },
      rpc_interfaces: Object.fromEntries(interfaces.map(({ name, resolved }) => [name, resolved])),
      node_certificate: {
        subject_name: certificate.subject_name ?? DEFAULTS.nodeSubject,
        subject_alt_names: certificate.subject_alt_names?.length ? certificate.subject_alt_names : unique(names),
        curve_id: certificate.curve_id ?? "Secp384R1",
        initial_validity_days: certificate.initial_validity_days ?? DEFAULTS.initialValidityDays,
      },
      ...(nodeData && { node_data: inputs.json("node_data_json_file", nodeData) }),
      consensus: {
        message_timeout: inputs.ms("consensus.message_timeout", consensus.message_timeout ?? DEFAULTS.messageTimeout),
        election_timeout: inputs.ms(
          "consensus.election_timeout",
          consensus.election_timeout ?? DEFAULTS.electionTimeout,
        ),
        max_uncommitted_tx_count: consensus.max_uncommitted_tx_count ?? DEFAULTS.maxUncommittedTxCount,
      },
      ledger_signatures: {
        tx_count: signatures.tx_count ?? DEFAULTS.signatureTxCount,
        delay: inputs.ms("ledger_signatures.delay", signatures.delay ?? DEFAULTS.signatureDelay),
      },
      ledger_chunk_size: inputs.bytes(
        "ledger.chunk_size",
        given.ledger?.chunk_size ?? DEFAULTS.chunkSize,
        1024,
        4 * 1024 ** 3 - 1,
      ),
      idle_connection_timeout: inputs.ms(
        "idle_connection_timeout",
        given.idle_connection_timeout ?? DEFAULTS.idleConnectionTimeout,
      ),
      command: command.type === "Start" ? start(given, inputs) : join(given, serviceCertificate, inputs),
    },
    enclaveDirectory: own.enclave,
    rpcInterfaces: interfaces.map(({ name, resolved }) => ({
      name,
      bindAddress: resolved.bind_address,
      maxOpenSessions: resolved.max_open_sessions_hard,
    })),
    peerBindAddress: peer.bind_address,
    hostKeyFile: own.host_key_file,
    allowedPeers: own.allowed_peers,
    ledgerDirectory: given.ledger?.directory ?? DEFAULTS.ledgerDirectory,
    tickMs: inputs.ms("tick_interval", given.tick_interval ?? DEFAULTS.tickInterval),
    logFormat: given.logging?.format ?? "Text",
    adminAddress: own.admin_address,
    files: {
      nodeCertificate: given.output_files?.node_certificate_file ?? DEFAULTS.nodeCertificateFile,
      serviceCertificate: command.type === "Start" ? serviceCertificate : undefined,
      pid: given.output_files?.pid_file,
      peerAddress: given.output_files?.node_to_node_address_file ?? undefined,
      rpcAddresses: given.output_files?.rpc_addresses_file ?? undefined,
      status: own.status_file,
      boundaryRecord: own.record_boundary_file,
    },
  };
}

function rpcInterface(name: string, given: HostConfigFile["network"]["rpc_interfaces"][string], inputs: Inputs) {
  const at = `network.rpc_interfaces.${name}`;
  const http = given.http_configuration ?? {};
  const soft = given.max_open_sessions_soft ?? DEFAULTS.maxOpenSessionsSoft;
  const hard = given.max_open_sessions_hard ?? Math.max(soft + 10, DEFAULTS.maxOpenSessionsHard);
  if (hard < soft) inputs.problem(`${at}.max_open_sessions_hard must not be below max_open_sessions_soft`);
  if (name.length === 0 || name.length > 128) inputs.problem(`${at}: the name must have 1 to 128 characters`);
  return {
    bind_address: given.bind_address,
    published_address: given.published_address ?? given.bind_address,
    endorsement: given.endorsement?.authority ?? "Service",
    max_open_sessions_soft: soft,
    max_open_sessions_hard: hard,
    max_body_size: inputs.bytes(
      `${at}.http_configuration.max_body_size`,
      http.max_body_size ?? DEFAULTS.maxBodySize,
      1,
      64 * 1024 ** 2,
    ),
    max_header_size: inputs.bytes(
      `${at}.http_configuration.max_header_size`,
      http.max_header_size ?? DEFAULTS.maxHeaderSize,
      256,
      1024 ** 2,
    ),
    max_headers_count: http.max_headers_count ?? DEFAULTS.maxHeadersCount,
  };
}

function start(given: HostConfigFile, inputs: Inputs): EnclaveConfig["command"] {
  const section = present(given.command.start, "a configuration that starts a service has its section");
  const service = section.service_configuration ?? {};
  const members = section.members.map((member, i) => {
    const at = `command.start.members[${i}]`;
    const key = member.encryption_public_key_file;
    const data = member.data_json_file;
    return {
      certificate: inputs.text(`${at}.certificate_file`, member.certificate_file),
      ...(key && { encryption_public_key: inputs.text(`${at}.encryption_public_key_file`, key) }),
      ...(member.recovery_role && { recovery_role: member.recovery_role }),
      ...(data && { member_data: inputs.json(`${at}.data_json_file`, data) }),
    };
  });
  const serviceData = given.service_data_json_file;
  return {
    type: "Start",
    members,
    constitution: section.constitution_files
      .map((file, i) => inputs.text(`command.start.constitution_files[${i}]`, file))
      .join("\n"),
    service_configuration: {
      recovery_threshold: threshold(members, service.recovery_threshold ?? 0, inputs),
      maximum_node_certificate_validity_days:
        service.maximum_node_certificate_validity_days ?? DEFAULTS.maximumValidityDays,
      maximum_service_certificate_validity_days:
        service.maximum_service_certificate_validity_days ?? DEFAULTS.maximumValidityDays,
      recent_cose_proposals_window_size: service.recent_cose_proposals_window_size ?? DEFAULTS.recentCoseProposals,
    },
    service_subject_name: section.service_subject_name ?? DEFAULTS.serviceSubject,
    initial_service_certificate_validity_days:
      section.initial_service_certificate_validity_days ?? DEFAULTS.initialValidityDays,
    cose_signatures: section.cose_signatures ?? { issuer: DEFAULTS.coseIssuer, subject: DEFAULTS.coseSubject },
    ...(serviceData && { service_data: inputs.json("service_data_json_file", serviceData) }),
  };
}

/** CCF: 0 or absent means all participants, or 1 when there are only owners. */
function threshold(
  members: readonly { encryption_public_key?: string; recovery_role?: string }[],
  asked: number,
  inputs: Inputs,
): number {
  const recovering = members.filter((member) => member.encryption_public_key !== undefined);
  const participants = recovering.filter((member) => (member.recovery_role ?? "Participant") === "Participant").length;
  const owners = recovering.filter((member) => member.recovery_role === "Owner").length;
  const at = "command.start.service_configuration.recovery_threshold";
  if (asked > 1 && participants === 0) inputs.problem(`${at} is ${asked}, but no member is a recovery participant`);
  else if (asked > participants && !(asked === 1 && owners > 0))
    inputs.problem(
      `${at} is ${asked}, but only ${participants} members with an encryption key are recovery participants`,
    );
  if (asked > 0) return asked;
  return participants > 0 ? participants : Math.min(owners, 1);
}

function join(given: HostConfigFile, serviceCertificate: string, inputs: Inputs): EnclaveConfig["command"] {
  const section = present(given.command.join, "a configuration that joins a service has its section");
  return {
    type: "Join",
    target_rpc_address: section.target_rpc_address,
    service_certificate: inputs.text("command.service_certificate_file", serviceCertificate),
    retry_timeout: inputs.ms("command.join.retry_timeout", section.retry_timeout ?? DEFAULTS.retryTimeout),
    follow_redirect: section.follow_redirect ?? true,
    accepted_measurements: given.camerata?.accepted_measurements ?? [],
  };
}

/** Reads what the configuration names, and collects what is wrong with it. */
class Inputs {
  readonly #problems: string[];

  constructor(problems: string[]) {
    this.#problems = problems;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  text(path: string, file: string): string {
    try {
      const content = readFileSync(file, "utf8");
      if (content.length > INPUT_BYTES_MAX) throw new Error(`it is larger than ${INPUT_BYTES_MAX} bytes`);
      return content;
    } catch (error) {
      this.problem(`${path}: ${file} cannot be read: ${(error as Error).message}`);
      return "";
    }
  }

  json(path: string, file: string): unknown {
    const text = this.text(path, file);
    try {
      return text === "" ? null : JSON.parse(text);
    } catch (error) {
      this.problem(`${path}: ${file} is not JSON: ${(error as Error).message}`);
      return null;
    }
  }

  /** Whole milliseconds from 1 to a day. */
  ms(path: string, text: string): number {
    const match = /^([0-9]+)(us|ms|s|min|h)$/.exec(text);
    const value = Math.ceil(Number(match?.[1]) * MS[match?.[2] as keyof typeof MS]);
    if (value >= 1 && value <= MS.h * 24) return value;
    this.problem(`${path} is ${text}, but must be between 1ms and 24h`);
    return 1;
  }

  bytes(path: string, text: string, min: number, max: number): number {
    const match = /^([0-9]+)(B|KB|MB|GB|TB|PB)$/.exec(text);
    const value = Number(match?.[1]) * BYTES[match?.[2] as keyof typeof BYTES];
    if (value >= min && value <= max) return value;
    this.problem(`${path} is ${text}, but must be between ${min}B and ${max}B`);
    return min;
  }
}

const MS = { us: 1e-3, ms: 1, s: 1000, min: 60_000, h: 3_600_000 } as const;
const BYTES = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4, PB: 1024 ** 5 } as const;

function parse(file: string, problems: string[]): unknown {
  try {
    const text = readFileSync(file, "utf8");
    if (text.length > CONFIG_BYTES_MAX) throw new Error(`it is larger than ${CONFIG_BYTES_MAX} bytes`);
    return JSON.parse(text);
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    problems.push(cause.code === "ENOENT" ? "the file does not exist" : `the file cannot be read: ${cause.message}`);
    return undefined;
  }
}

function invalid(file: string, problems: readonly string[]): Fault<ConfigFault> {
  return new Fault<ConfigFault>(
    { code: "ConfigInvalid", file, problems },
    `the configuration ${file} is not usable:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`,
  );
}

function hostOf(address: string): string {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return /^[0-9.]+$/.test(host) || host.includes(":") ? `iPAddress:${host}` : `dNSName:${host}`;
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)];
}
