/** A node's configuration: CCF's file in, checked values out, or every problem with its place. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Compile } from "typebox/compile";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EnclaveConfig } from "../../../../node/boundary/config.ts";
import { type ConfigFault, DEFAULTS, readConfig } from "../../../../node/host/config.ts";
import type { Fault } from "../../../../protocol/check.ts";

let directory: string;
const at = (name: string) => join(directory, name);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "config-"));
  writeFileSync(at("member0_cert.pem"), "CERTIFICATE 0");
  writeFileSync(at("member0_enc_pubk.pem"), "KEY 0");
  writeFileSync(at("data.json"), '{"is":"data"}');
  writeFileSync(at("broken.json"), "{");
  writeFileSync(at("a.js"), "actions");
  writeFileSync(at("b.js"), "resolve");
  writeFileSync(at("service_cert.pem"), "SERVICE");
});
afterAll(() => rmSync(directory, { recursive: true }));

const network = {
  node_to_node_interface: { bind_address: "127.0.0.1:9000" },
  rpc_interfaces: { primary_rpc_interface: { bind_address: "127.0.0.1:8000" } },
};
const members = () => [
  { certificate_file: at("member0_cert.pem"), encryption_public_key_file: at("member0_enc_pubk.pem") },
];
const start = (more: object = {}) => ({
  network,
  command: { type: "Start", start: { members: members(), constitution_files: [at("a.js"), at("b.js")], ...more } },
});

function read(config: unknown) {
  const file = at("config.json");
  writeFileSync(file, typeof config === "string" ? config : JSON.stringify(config));
  return readConfig(file);
}

function problems(config: unknown): readonly string[] {
  try {
    read(config);
  } catch (error) {
    return (error as Fault<ConfigFault>).detail.problems;
  }
  return [];
}

test("a small configuration gets CCF's defaults, files read and units resolved", () => {
  const config = read(start());
  expect(Compile(EnclaveConfig).Check(config.enclave)).toBe(true);
  expect(config.enclave).toMatchObject({
    node_to_node_interface: { bind_address: "127.0.0.1:9000", published_address: "127.0.0.1:9000" },
    rpc_interfaces: {
      primary_rpc_interface: {
        published_address: "127.0.0.1:8000",
        endorsement: "Service",
        max_open_sessions_soft: 1000,
        max_open_sessions_hard: 1010,
        max_body_size: 1024 * 1024,
        max_header_size: 16 * 1024,
        max_headers_count: 256,
      },
    },
    node_certificate: { subject_alt_names: ["iPAddress:127.0.0.1"], curve_id: "Secp384R1", initial_validity_days: 90 },
    consensus: { message_timeout: 100, election_timeout: 3000, max_uncommitted_tx_count: 10000 },
    ledger_signatures: { tx_count: 5000, delay: 1000 },
    ledger_chunk_size: 5 * 1024 * 1024,
    command: {
      type: "Start",
      members: [{ certificate: "CERTIFICATE 0", encryption_public_key: "KEY 0" }],
      constitution: "actions\nresolve",
      service_configuration: { recovery_threshold: 1, recent_cose_proposals_window_size: 100 },
    },
  });
  expect(config).toMatchObject({ ledgerDirectory: DEFAULTS.ledgerDirectory, tickMs: 50, logFormat: "Text" });
  expect(config.files).toMatchObject({ nodeCertificate: "nodecert.pem", serviceCertificate: "service_cert.pem" });
});

test("a joiner reads the service certificate, and never writes it", () => {
  const config = read({
    network,
    command: {
      type: "Join",
      service_certificate_file: at("service_cert.pem"),
      join: { target_rpc_address: "127.0.0.1:8000", retry_timeout: "2s" },
    },
    camerata: { accepted_measurements: ["ab".repeat(32)] },
  });
  expect(config.enclave.command).toEqual({
    type: "Join",
    target_rpc_address: "127.0.0.1:8000",
    service_certificate: "SERVICE",
    retry_timeout: 2000,
    follow_redirect: true,
    accepted_measurements: ["ab".repeat(32)],
  });
  expect(config.files.serviceCertificate).toBeUndefined();
});

test("names of the published addresses become subject alternative names, each once", () => {
  const rpc = (published_address: string) => ({ bind_address: "0.0.0.0:1", published_address });
  const interfaces = { a: rpc("node.example.com:1"), b: rpc("[fd00::1]:2"), c: rpc("node.example.com:3") };
  const config = read({ ...start(), network: { ...network, rpc_interfaces: interfaces } });
  expect(config.enclave.node_certificate.subject_alt_names).toEqual(["dNSName:node.example.com", "iPAddress:fd00::1"]);
});

test("data files become data", () => {
  const config = read({
    ...start({ members: [{ ...members()[0], data_json_file: at("data.json") }] }),
    node_data_json_file: at("data.json"),
  });
  expect(config.enclave.node_data).toEqual({ is: "data" });
  expect(config.enclave.command).toMatchObject({ members: [{ member_data: { is: "data" } }] });
});

test("every problem is reported at once, with its place and what was probably meant", () => {
  expect(
    problems({
      network: {
        node_to_node_interface: { bind_address: "9000" },
        rpc_interfaces: { main: { bind_addres: "127.0.0.1:1", max_open_sessions_soft: "many" } },
      },
      command: { type: "Strat" },
      leger: {},
      consensus: { election_timeout: 5 },
      camerata: { acepted_measurements: [] },
    }),
  ).toEqual([
    'network.node_to_node_interface.bind_address is "9000", but must be an address such as "127.0.0.1:8000"',
    "network.rpc_interfaces.main.bind_addres is not a known key; did you mean bind_address?",
    "network.rpc_interfaces.main.max_open_sessions_soft must be a whole number",
    "network.rpc_interfaces.main.bind_address is missing",
    'command.type must be "Start" or "Join"',
    "leger is not a known key; did you mean ledger?",
    'consensus.election_timeout must be a time such as "100ms"',
    "camerata.acepted_measurements is not a known key; did you mean accepted_measurements?",
  ]);
});

test.each<[string, () => unknown, RegExp]>([
  ["a file that is not JSON", () => "{", /^the file cannot be read: .*JSON/],
  ["a list instead of an object", () => [], /^the configuration must be an object$/],
  [
    "a type without its section",
    () => ({ ...start(), command: { type: "Join" } }),
    /^command.join is missing: it says which node/,
  ],
  [
    "a member file that is not there",
    () => start({ members: [{ certificate_file: at("nobody.pem") }] }),
    /members\[0\].certificate_file: .*nobody.pem cannot be read/,
  ],
  [
    "data that is not JSON",
    () => ({ ...start(), node_data_json_file: at("broken.json") }),
    /node_data_json_file: .* is not JSON/,
  ],
  ["no members", () => start({ members: [] }), /command.start.members must have at least 1 item/],
  ["a time of nothing", () => ({ ...start(), consensus: { election_timeout: "0ms" } }), /must be between 1ms and 24h/],
  ["a time of years", () => ({ ...start(), idle_connection_timeout: "9999h" }), /must be between 1ms and 24h/],
  ["a size beyond the enclave's", () => ({ ...start(), ledger: { chunk_size: "1TB" } }), /ledger.chunk_size is 1TB/],
  [
    "a threshold nobody can meet",
    () => start({ service_configuration: { recovery_threshold: 2 } }),
    /recovery_threshold is 2, but only 1 members/,
  ],
  [
    "a measurement that is none",
    () => ({ ...start(), camerata: { accepted_measurements: ["AB"] } }),
    /accepted_measurements\[0\] is "AB", but must be 64 lower-case hex/,
  ],
])("%s is refused", (_, config, expected) => {
  expect(problems(config()).join("\n")).toMatch(expected);
});

test("a file that does not exist is named", () => {
  expect(() => readConfig(at("absent.json"))).toThrow(/absent\.json is not usable:\n {2}- the file does not exist/);
});
