/** How a start is refused: in one clear sentence, before anything runs; and how a network ends. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type Consortium, camerata, endAll, root, startConsortium, temporaryDirectory } from "./consortium.ts";
import { isAlive, run } from "./processes.ts";

afterAll(endAll);

const SMALL = { nodes: 1, members: 1, users: 0 };

describe("a port that is in use", () => {
  test.each([
    ["of a node's clients", 2],
    ["between the nodes", 1001],
  ])("%s is named, and nothing is started or written", async (_, offset) => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen({ host: "127.0.0.1", port: 0 }, resolve));
    const { port } = taken.address() as AddressInfo;
    const directory = join(temporaryDirectory(), "dev");
    const { code, stdout, stderr } = await camerata([
      "dev",
      "--no-build",
      "--port",
      `${port - offset}`,
      "--dir",
      directory,
    ]);
    taken.close();
    expect(code).toBe(5);
    expect(stdout).toBe("");
    expect(stderr).toContain("E-PORT-IN-USE");
    expect(stderr).toContain(`port ${port} on 127.0.0.1 is in use; nothing was started`);
    expect(existsSync(directory)).toBe(false);
  });

  test("of a single node: it says so and ends", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen({ host: "127.0.0.1", port: 0 }, resolve));
    const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    const { file } = configuration({ rpc: address });
    const { code, stderr } = await camerata(["node", "start", "--config", file]);
    taken.close();
    expect(code).toBe(5);
    expect(stderr).toContain(address);
    expect(stderr).not.toContain("internal error");
  });
});

describe("a configuration", () => {
  test("with a wrong key: every problem is named, with what was meant, and nothing starts", async () => {
    const { file, config } = configuration({});
    const wrong = { ...config, consensus: { election_timout: "2s", message_timeout: "soon" }, ledgers: {} };
    writeFileSync(file, JSON.stringify(wrong));
    for (const command of [
      ["node", "config", "validate", file],
      ["node", "start", "--config", file],
    ]) {
      const { code, stdout, stderr } = await camerata(command);
      expect(code).toBe(2);
      expect(stdout).toBe("");
      expect(stderr).toContain("E-CONFIG");
      expect(stderr).toMatch(/election_timout.*did you mean.*election_timeout/i);
      expect(stderr).toMatch(/ledgers.*did you mean.*ledger/i);
      expect(stderr).toMatch(/message_timeout/);
    }
    expect(existsSync(join(file, "..", "ledger"))).toBe(false);
  });

  test("that is no JSON, or not there: said so", async () => {
    const { file } = configuration({});
    writeFileSync(file, "{ rpc: 1 ");
    for (const path of [file, `${file}.missing`]) {
      const { code, stderr } = await camerata(["node", "config", "validate", path]);
      expect(code).toBe(2);
      expect(stderr).toContain(path);
    }
  });

  test("that is right: is valid, and nothing starts", async () => {
    const { file } = configuration({});
    const { code, stderr } = await camerata(["node", "config", "validate", file]);
    expect(code, stderr).toBe(0);
  });
});

describe("a directory with a network in it", () => {
  test("is refused while it runs, refused afterwards without --reset, and begun anew with it", {
    timeout: 120_000,
  }, async () => {
    const first = await startConsortium(SMALL);
    const before = await first.ready();
    const again = await second(first);
    expect(again.code).toBe(5);
    expect(again.stderr).toMatch(/E-PORT-IN-USE|E-DIRECTORY-RUNNING/);
    const reset = await second(first, "--reset", "--port", `${first.port + 20}`);
    expect(reset.code).toBe(5);
    expect(reset.stderr).toContain("E-DIRECTORY-RUNNING");
    expect(isAlive(before.nodes[0]!.host_pid)).toBe(true);

    expect(await first.stop("SIGINT")).toEqual({ code: 0, signal: null });
    const refused = await second(first);
    expect(refused.code).toBe(5);
    expect(refused.stderr).toContain("E-OLD-STATE");
    expect(refused.stderr).toMatch(/--reset/);
    expect(readFileSync(first.keys("member0").certificate, "utf8")).toContain("BEGIN CERTIFICATE");

    const anew = await startConsortium({ ...SMALL, directory: first.directory, args: ["--reset"] });
    expect((await anew.ready()).service_id).not.toBe(before.service_id);
    expect(await anew.stop("SIGHUP")).toEqual({ code: 0, signal: null });

    // A node is not started a second time on its ledger: identities never restart.
    const config = join(first.directory, "nodes", "node0", "config.json");
    const restarted = await camerata(["node", "start", "--config", config]);
    expect(restarted.code).toBe(5);
    expect(restarted.stderr).toContain("A restarted node is a new node");
  });

  test("or with anything else in it is left alone", async () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "thesis.txt"), "three years of work");
    const { code, stderr } = await camerata(["dev", "--no-build", "--reset", "--port", "29000", "--dir", directory]);
    expect(code).toBe(5);
    expect(stderr).toContain("E-DIRECTORY-FOREIGN");
    expect(readFileSync(join(directory, "thesis.txt"), "utf8")).toBe("three years of work");
  });
});

test("the launcher runs the command line whatever Node it is started with", async () => {
  const { code, stdout } = await run("node", [join(root, "cli", "camerata.cjs"), "-o", "json", "version"]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ governance_api: "2024-07-01" });
});

/** Another `camerata dev` on the directory of one that is or was there. */
function second(first: Consortium, ...args: readonly string[]) {
  const port = args.includes("--port") ? [] : ["--port", `${first.port}`];
  return camerata(["dev", "--no-build", "--nodes", "1", "--dir", first.directory, ...port, ...args]);
}

/** A node that would found a service. */
function configuration({ rpc = "127.0.0.1:0" }: { rpc?: string }) {
  const directory = temporaryDirectory();
  const at = (name: string) => join(directory, name);
  mkdirSync(at("keys"));
  const text = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
  writeFileSync(at("keys/member0_cert.pem"), text);
  writeFileSync(at("constitution.js"), "export function validate() {}");
  const config = {
    network: {
      node_to_node_interface: { bind_address: "127.0.0.1:0" },
      rpc_interfaces: { primary_rpc_interface: { bind_address: rpc } },
    },
    ledger: { directory: at("ledger") },
    output_files: { node_certificate_file: at("nodecert.pem") },
    command: {
      type: "Start",
      service_certificate_file: at("service_cert.pem"),
      start: {
        members: [{ certificate_file: at("keys/member0_cert.pem") }],
        constitution_files: [at("constitution.js")],
      },
    },
  };
  const file = at("config.json");
  writeFileSync(file, JSON.stringify(config));
  return { file, config };
}
