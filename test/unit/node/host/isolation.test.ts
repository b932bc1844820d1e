/** The enclave process as the host starts it: what it cannot do, seen by a program that tries. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildEnclave } from "../../../../cli/enclave-package/build.ts";
import type { HostConfig } from "../../../../node/host/config.ts";
import { readConfig } from "../../../../node/host/config.ts";
import { startHost } from "../../../../node/host/supervisor.ts";

const root = join(import.meta.dirname, "../../../..");
const PROGRAM = ["enclave-app/confine-workers.ts", "test/unit/node/host/fixture/probe-enclave.ts"];

const GUEST = ["enclave-app/confine-workers.ts", "test/unit/node/host/fixture/probe-worker.ts"];

let directory: string;
const lines: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "isolation-"));
  const { packageDirectory } = await buildEnclave({ root, out: directory, modules: PROGRAM, guestModules: GUEST });
  const started = Promise.withResolvers<void>();
  const host = await startHost(await hostConfig(directory), {
    enclaveDirectory: packageDirectory,
    runtime: process.execPath,
    log: (_, message, side) => {
      if (side === "enclave") lines.push(message);
      if (message.startsWith("node ")) started.resolve();
    },
  });
  await Promise.race([
    started.promise,
    host.ended.then(({ why }) => Promise.reject(new Error([why, ...lines].join("\n")))),
  ]);
  host.stop();
  expect(await host.ended).toMatchObject({ outcome: "stopped" });
});
afterAll(() => rm(directory, { recursive: true }));

async function hostConfig(place: string): Promise<HostConfig> {
  const file = join(place, "config.json");
  await writeFile(join(place, "empty"), "");
  const config = {
    network: {
      node_to_node_interface: { bind_address: "127.0.0.1:0" },
      rpc_interfaces: { primary_rpc_interface: { bind_address: "127.0.0.1:0" } },
    },
    command: {
      type: "Start",
      service_certificate_file: join(place, "service_cert.pem"),
      start: { members: [{ certificate_file: join(place, "empty") }], constitution_files: [join(place, "empty")] },
    },
    ledger: { directory: join(place, "ledger") },
    output_files: { node_certificate_file: join(place, "nodecert.pem") },
  };
  await writeFile(file, JSON.stringify(config));
  return readConfig(file);
}

const DENIED = "ERR_ACCESS_DENIED";
const attempts = [
  "read a file outside",
  "read the directory above",
  "write a file outside",
  "write into the package",
  "start a child",
  "reach internal bindings",
  "connect over TCP",
  "connect to a Unix socket",
  "listen on TCP",
  "listen on a Unix socket",
  "send a datagram",
  "fetch",
  "resolve a name",
];

describe.each([
  ["the enclave", ""],
  ["a thread of the enclave", "worker: "],
])("%s", (_, prefix) => {
  test.each(attempts)("cannot %s", (attempt) => {
    expect(lines).toContain(`${prefix}${attempt}: ${DENIED}`);
  });

  test("cannot load an add-on", () => {
    expect(lines).toContain(`${prefix}load an add-on: ERR_DLOPEN_DISABLED`);
  });
});

test("no thread can be started with options that would free it", () => {
  const tries = lines.filter((line) => /^worker (with|through)/.test(line));
  expect(tries).toHaveLength(4);
  for (const line of tries)
    expect(line).toMatch(/: a worker of the enclave is started without the option (execArgv|env)$/);
});

test("the enclave has no environment", () => {
  expect(lines).toContain("environment: empty");
});
