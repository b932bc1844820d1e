/** The host process as an operator sees it: what it says and how it ends, with an enclave that behaves or does not. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { buildEnclave } from "../../../../cli/enclave-package/build.ts";
import { bundle } from "../../../../cli/enclave-package/bundle.ts";
import { openLedgerStore, readStoredLedger } from "../../../../node/host/ledger-store.ts";
import { fakeEntry } from "../../../contract/fake-entry.ts";

const root = join(import.meta.dirname, "../../../..");
/** How often to look at what another process does; nothing depends on it but the load. */
const POLL_MS = 10;

let base: string;
let built: string;
let enclave: string;
let count = 0;
const running = new Set<ChildProcess>();

beforeAll(async () => {
  base = mkdtempSync(join(tmpdir(), "host-"));
  const modules = ["enclave-app/confine-workers.ts", "test/unit/node/host/fixture/toy-enclave.ts"];
  // Within the project, where the bundle finds its native parts. From source a start takes ten times as long.
  built = join(root, "dist", `test-host-${process.pid}`);
  mkdirSync(built, { recursive: true });
  const host = await bundle({ root, modules: ["node/host/main.ts"], external: ["classic-level"] });
  writeFileSync(join(built, "host.mjs"), host.text);
  enclave = (await buildEnclave({ root, out: base, modules })).packageDirectory;
});
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
});
afterAll(() => {
  rmSync(base, { recursive: true });
  rmSync(built, { recursive: true });
});

type Node = Readonly<{ directory: string; file: string; at(name: string): string }>;

/** A node's directory and configuration. */
function node(behaviour: string, more: { rpc?: string; config?: object; enclave?: string } = {}): Node {
  const directory = join(base, `node${count++}`);
  mkdirSync(directory);
  const at = (name: string) => join(directory, name);
  writeFileSync(at("member.pem"), "");
  const config = {
    network: {
      node_to_node_interface: { bind_address: "127.0.0.1:0" },
      rpc_interfaces: {
        main: { bind_address: more.rpc ?? "127.0.0.1:0", max_open_sessions_soft: 1, max_open_sessions_hard: 2 },
      },
    },
    command: {
      type: "Start",
      service_certificate_file: at("service_cert.pem"),
      start: { members: [{ certificate_file: at("member.pem") }], constitution_files: [at("member.pem")] },
    },
    node_certificate: { subject_name: `CN=${behaviour}` },
    ledger: { directory: at("ledger") },
    output_files: {
      node_certificate_file: at("nodecert.pem"),
      pid_file: at("node.pid"),
      rpc_addresses_file: at("rpc.json"),
      node_to_node_address_file: at("peer"),
    },
    camerata: {
      enclave: more.enclave ?? enclave,
      status_file: at("status.json"),
      record_boundary_file: at("boundary"),
      admin_address: "127.0.0.1:0",
    },
    ...more.config,
  };
  writeFileSync(at("config.json"), JSON.stringify(config));
  return { directory, file: at("config.json"), at };
}

/** The host process: its log so far, and its end. */
function start(file: string, ...more: string[]) {
  const child = spawn(process.execPath, [join(built, "host.mjs"), "start", "--config", file, ...more], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let log = "";
  let wake = () => {};
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => {
      log += chunk;
      wake();
    });
  const ended = once(child, "close").then(([code]) => {
    running.delete(child);
    wake();
    return code as number;
  });
  const says = async (text: RegExp | string) => {
    while (!log.match(text)) {
      if (child.exitCode !== null) throw new Error(`the host ended without saying ${text}:\n${log}`);
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  return { child, says, ended, log: () => log };
}

test("a node starts, writes its files, stops when asked to, and leaves a closed ledger", async () => {
  const place = node("stores");
  const host = start(place.file);
  await host.says("read back 2 entries");
  const status = JSON.parse(readFileSync(place.at("status.json"), "utf8"));
  expect(status).toMatchObject({
    host_pid: host.child.pid,
    node_id: "0".repeat(64),
    confidential: false,
    ledger: place.at("ledger"),
  });
  expect(readFileSync(place.at("node.pid"), "utf8")).toBe(`${host.child.pid}\n`);
  expect(readFileSync(place.at("nodecert.pem"), "utf8")).toBe("NODE");
  expect(readFileSync(place.at("service_cert.pem"), "utf8")).toBe("SERVICE");
  expect(JSON.parse(readFileSync(place.at("rpc.json"), "utf8"))).toEqual(status.rpc_addresses);
  expect(host.log()).toMatch(/NOT confidential/);

  host.child.kill("SIGTERM");
  expect(await host.ended).toBe(0);
  expect(await storedEntries(place)).toBe(2);
  expect(isAlive(status.enclave_pid)).toBe(false);

  const boundary = readFileSync(place.at("boundary"), "latin1");
  for (const crossed of ["CN=stores", "SERVICE", "asked to"]) expect(boundary).toContain(crossed);
});

test("connections are relayed up to the hard limit and dropped above it", async () => {
  const place = node("behaves");
  const host = start(place.file);
  await host.says("is up");
  const { main } = JSON.parse(readFileSync(place.at("rpc.json"), "utf8")) as { main: string };
  const port = Number(main.split(":")[1]);
  const open = () => connect({ port, host: "127.0.0.1" });
  const [first, second] = [open(), open()];
  for (const socket of [first, second]) {
    socket.write("echo");
    expect(String((await once(socket, "data"))[0])).toBe("echo");
  }
  const third = open();
  third.on("error", () => {});
  await once(third, "close");
  first.end();
  await once(first, "close");
  second.destroy();
});

test("probes answer what the enclave reports", async () => {
  const place = node("behaves");
  const host = start(place.file);
  await host.says("is up");
  const address = /metrics on (http:\S+)/.exec(host.log())?.[1];
  const get = async (path: string) => {
    const reply = await fetch(`${address}${path}`);
    return { status: reply.status, body: await reply.text() };
  };
  while ((await get("/readyz")).status !== 200) await setTimeout(POLL_MS);
  expect(await get("/livez")).toEqual({ status: 200, body: "ok\n" });
  expect((await get("/metrics")).body).toMatch(/^camerata_consensus_view 2$/m);
  expect(JSON.parse((await get("/status")).body)).toMatchObject({ ready: true, state: "PartOfNetwork" });
  expect((await get("/else")).status).toBe(404);
});

test("Ctrl-C twice ends it at once, with an enclave that hangs", async () => {
  const host = start(node("hangs").file);
  await host.says("is up");
  host.child.kill("SIGINT");
  await host.says("stopping");
  host.child.kill("SIGINT");
  expect(await host.ended).toBe(143);
});

test("when the host is killed the enclave ends, and what was durable is there", async () => {
  const place = node("stores");
  const host = start(place.file);
  await host.says("read back 2 entries");
  const { enclave_pid } = JSON.parse(readFileSync(place.at("status.json"), "utf8"));
  host.child.kill("SIGKILL");
  await host.ended;
  while (isAlive(enclave_pid)) await setTimeout(POLL_MS);
  expect(await storedEntries(place)).toBe(2);
});

test("the host ends when its enclave is killed, and says so", async () => {
  const place = node("behaves");
  const host = start(place.file);
  await host.says("is up");
  const { enclave_pid } = JSON.parse(readFileSync(place.at("status.json"), "utf8"));
  process.kill(enclave_pid, "SIGKILL");
  expect(await host.ended).toBe(70);
  expect(host.log()).toMatch(/error host +the enclave process ended by SIGKILL without a word/);
});

test.each([
  ["dies", 70, /the enclave process ended with code 3 without a word/],
  ["talks garbage", 70, /the enclave does not keep to the boundary: a frame is longer than any message may be/],
  ["invents streams", 70, /the enclave does not keep to the boundary: a stream number was never given/],
  ["skips entries", 70, /entry 5 was given after entry 0/],
  ["refuses", 1, /error host +the service does not trust this code/],
])("an enclave that %s ends the host with %i and the reason", async (behaviour, code, reason) => {
  const host = start(node(behaviour).file);
  expect(await host.ended).toBe(code);
  expect(host.log().trimEnd().split("\n").at(-1)).toMatch(reason);
});

test("an enclave that floods the log is cut, and cannot send control characters", async () => {
  const host = start(node("floods").file);
  await host.says("more lines of this second are dropped");
  host.child.kill("SIGTERM");
  expect(await host.ended).toBe(0);
  expect(host.log()).not.toContain("\u001b");
  expect(host.log()).toContain("line 0 ?[31m");
});

describe("what is wrong is said before anything runs", () => {
  test("a port in use", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const host = start(node("behaves", { rpc: address }).file);
    expect(await host.ended).toBe(5);
    expect(host.log()).toContain(
      `cannot listen on ${address}: another process listens there already; stop it or change network.rpc_interfaces.main.bind_address`,
    );
    expect(host.log()).not.toContain("runs as process");
    server.close();
  });

  test("a ledger of an earlier node", async () => {
    const place = node("behaves");
    const store = await openLedgerStore(place.at("ledger"), { onDurable: () => {}, onFault: () => {} });
    store.append(1, 1, [fakeEntry(1, 1)]);
    await store.close();
    const host = start(place.file);
    expect(await host.ended).toBe(5);
    expect(host.log()).toMatch(/holds the ledger of an earlier node up to seqno 1\. A restarted node is a new node/);
  });

  test("a ledger that another node uses", async () => {
    const place = node("behaves");
    const store = await openLedgerStore(place.at("ledger"), { onDurable: () => {}, onFault: () => {} });
    const host = start(place.file);
    expect(await host.ended).toBe(5);
    expect(host.log()).toMatch(/stop that node first/);
    await store.close();
  });

  test("a configuration with a wrong key, also only checked", async () => {
    const place = node("behaves", { config: { consensus: { election_timout: "1s" } } });
    for (const flags of [[], ["--check"]]) {
      const host = start(place.file, ...flags);
      expect(await host.ended).toBe(2);
      expect(host.log()).toContain("consensus.election_timout is not a known key; did you mean election_timeout?");
    }
    const good = start(node("behaves").file, "--check");
    expect(await good.ended).toBe(0);
    expect(good.log()).toBe("");
  });

  test("arguments that are none", async () => {
    const host = start("x", "--wrong");
    expect(await host.ended).toBe(2);
    expect(host.log()).toMatch(/^usage: /);
  });

  test.each<[string, RegExp, (directory: string) => void]>([
    ["is not there", /there is no enclave package in/, (directory) => rmSync(directory, { recursive: true })],
    [
      "has a changed program",
      /enclave\.mjs in .* is not what was measured/,
      (directory) => appendFileSync(join(directory, "enclave.mjs"), " "),
    ],
    [
      "has a file too many",
      /extra\.mjs in .* is not what was measured/,
      (directory) => writeFileSync(join(directory, "extra.mjs"), ""),
    ],
    [
      "claims other properties",
      /the unique id in .* is not that of its content/,
      (directory) => edit(directory, '"security_version": 1', '"security_version": 2'),
    ],
    ["is signed by nobody", /is not signed/, (directory) => edit(directory, /"signature": .*?,/, "")],
    [
      "has another author",
      /signature of the enclave package does not fit/,
      (directory) => edit(directory, /"author_id": "../, '"author_id": "00'),
    ],
    [
      "is not described",
      /is not a properties file/,
      (directory) => writeFileSync(join(directory, "enclave.json"), "{}"),
    ],
  ])("an enclave package that %s", async (_, reason, change) => {
    const copy = join(base, `package${count++}`);
    cpSync(enclave, copy, { recursive: true });
    change(copy);
    const host = start(node("behaves", { enclave: copy }).file);
    expect(await host.ended).toBe(6);
    expect(host.log()).toMatch(reason);
  });
});

function edit(directory: string, from: string | RegExp, to: string): void {
  const file = join(directory, "enclave.json");
  const text = readFileSync(file, "utf8");
  const changed = text.replace(from, to);
  expect(changed).not.toBe(text);
  writeFileSync(file, changed);
}

async function storedEntries(place: Node): Promise<number> {
  let entries = 0;
  for await (const _ of readStoredLedger(place.at("ledger"))) entries++;
  return entries;
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}
