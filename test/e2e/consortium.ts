/**
 * A consortium of real processes: `camerata dev` as a child, with everything a test needs of it.
 *
 * Each consortium lives in a directory of its own below the system's temporary directory and on ports of its own. What
 * it started is stopped by process id at the end, also when a test failed, and also when the test process itself ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Compile } from "typebox/compile";
import { keyFiles, nodesDirectory, Ready, readyFile, serviceCertificate } from "../../cli/dev/layout.ts";
import { buildAll } from "../../cli/enclave-package/build.ts";
import { readStoredLedger } from "../../node/host/ledger-store.ts";
import { collect, exitOf, isAlive, type Run, type RunOptions, readIfThere, run, signal, until } from "./processes.ts";

export type CurlAnswer = Readonly<{
  /** Of curl itself; 0 whenever the server answered with HTTP. */
  exitCode: number | null;
  /** 0 where there was no answer. */
  status: number;
  redirects: number;
  headers: Readonly<Record<string, string>>;
  body: string;
  /** The body as JSON. */
  json(): unknown;
  /** Code of the error in the body, as CCF writes it. */
  error(): string | undefined;
  txId: string | undefined;
  stderr: string;
}>;

export type Person = "nobody" | `user${number}` | `member${number}`;

export type ConsortiumOptions = Readonly<{
  nodes?: number;
  members?: number;
  users?: number;
  /** A new one if absent. */
  directory?: string;
  /** More arguments of `camerata dev`. */
  args?: readonly string[];
}>;

export const root = join(import.meta.dirname, "..", "..");
/** The command line as it is published; from source it is four times slower to start. */
const CLI = join(root, "dist", "cli.mjs");
const BUILD_MS = 60_000;
const READY_MS = 60_000;
const STOP_MS = 30_000;
const ATTEMPTS = 5;
/** Below the range that systems give to outgoing connections, which could take a port at any moment. */
const PORTS = { first: 10_000, last: 30_000 };
const PEER_PORT_OFFSET = 1000;

const checkReady = Compile(Ready);
const running = new Set<Consortium>();
process.on("exit", () => {
  for (const consortium of running) consortium.killAll();
});

/** Runs the command line. Its output is not coloured. */
export function camerata(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  return run(process.execPath, [CLI, ...args], options);
}

/** A directory that is removed by `removeDirectories`. */
const directories: string[] = [];
export function temporaryDirectory(): string {
  const made = mkdtempSync(join(tmpdir(), "camerata-e2e-"));
  directories.push(made);
  return made;
}

/** Starts one and waits until its service is open and every node trusted. */
export async function startConsortium(options: ConsortiumOptions = {}): Promise<Consortium> {
  await built();
  for (let attempt = 1; ; attempt++) {
    const consortium = new Consortium(await freePorts(options.nodes ?? 3), options);
    try {
      await consortium.ready();
      return consortium;
    } catch (error) {
      const { log } = consortium;
      await consortium.end();
      // Between looking and taking, somebody else may take a port.
      if (attempt >= ATTEMPTS || !log.includes("E-PORT-IN-USE")) throw error;
    }
  }
}

/**
 * Ends every consortium and removes every directory of this test file. For `afterAll`. With CAMERATA_E2E_KEEP set the
 * directories stay, with the logs and ledgers of every node.
 */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map((consortium) => consortium.end()));
  if (process.env["CAMERATA_E2E_KEEP"] !== undefined) return;
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
}

/** Builds what is out of date. Several test files run at once, and only one of them may build. */
async function built(): Promise<void> {
  const lock = join(root, "dist", "e2e-build.lock");
  mkdirSync(join(root, "dist"), { recursive: true });
  await until("the programs are built", BUILD_MS, () => {
    const owner = readIfThere(lock);
    if (owner !== undefined && owner !== "" && !isAlive(Number(owner))) rmSync(lock, { force: true });
    return claimed(lock);
  });
  try {
    await buildAll({ root });
  } finally {
    rmSync(lock);
  }
}

function claimed(lock: string): boolean {
  try {
    writeFileSync(lock, `${process.pid}`, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

export class Consortium {
  readonly directory: string;
  readonly port: number;
  readonly nodeCount: number;
  readonly #child: ChildProcess;
  readonly #exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #output: () => string;
  #gone = false;

  constructor(port: number, options: ConsortiumOptions) {
    this.port = port;
    this.nodeCount = options.nodes ?? 3;
    this.directory = options.directory ?? join(temporaryDirectory(), "dev");
    const args = ["dev", "--no-build", "--port", `${port}`, "--dir", this.directory, "--nodes", `${this.nodeCount}`];
    for (const name of ["members", "users"] as const)
      if (options[name] !== undefined) args.push(`--${name}`, `${options[name]}`);
    this.#child = spawn(process.execPath, [CLI, ...args, ...(options.args ?? [])], {
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [out, err] = [collect(this.#child.stdout!), collect(this.#child.stderr!)];
    this.#output = () => out() + err();
    this.#exit = exitOf(this.#child);
    void this.#exit.then(() => {
      this.#gone = true;
    });
    running.add(this);
  }

  /** What `camerata dev` has said so far. */
  get log(): string {
    return this.#output();
  }

  /** Process id of `camerata dev`. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Waits for `ready.json`; gives it as it is now. */
  ready(): Promise<Ready> {
    return until("ready.json is there", READY_MS, () => {
      if (this.#gone) throw new Error(`camerata dev ended before the network was ready:\n${this.log}\n${this.#logs()}`);
      return this.readyNow();
    });
  }

  /** `ready.json` as it is now. */
  readyNow(): Ready | undefined {
    const text = readIfThere(readyFile(this.directory));
    if (text === undefined) return undefined;
    const value: unknown = JSON.parse(text);
    if (!checkReady.Check(value)) throw new Error(`ready.json has another form: ${text}`);
    return value;
  }

  address(node: number): string {
    return `127.0.0.1:${this.port + node}`;
  }

  url(node: number, path: string): string {
    return `https://${this.address(node)}${path}`;
  }

  get serviceCertificate(): string {
    return serviceCertificate(this.directory);
  }

  keys(person: Person): { certificate: string; privateKey: string } {
    return keyFiles(this.directory, person);
  }

  /** Index of the node that the others take for the primary. */
  async primary(askedNode = 0): Promise<number> {
    return until("there is a primary", READY_MS, async () => {
      const answer = await this.curl("nobody", this.url(askedNode, "/node/network"));
      if (answer.status !== 200) return undefined;
      const { primary_id: id } = answer.json() as { primary_id: string | null };
      const at = this.readyNow()?.nodes.findIndex((node) => node.node_id === id) ?? -1;
      return at < 0 ? undefined : { at };
    }).then(({ at }) => at);
  }

  /** Runs curl as one of the participants. */
  async curl(person: Person, ...args: readonly string[]): Promise<CurlAnswer> {
    const identity =
      person === "nobody" ? [] : ["--cert", this.keys(person).certificate, "--key", this.keys(person).privateKey];
    return curl(["--cacert", this.serviceCertificate, ...identity, ...args]);
  }

  /** Runs the command line against this network. */
  camerata(...args: readonly string[]): Promise<Run> {
    return camerata(["--context", this.directory, ...args], { cwd: this.directory });
  }

  /** As `camerata`, with its JSON; anything but exit code 0 is an error. */
  async camerataJson<T>(...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.camerata("-o", "json", ...args);
    if (code !== 0) throw new Error(`camerata ${args.join(" ")} ended with ${code}:\n${stdout}\n${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Asks `camerata dev` to stop, as Ctrl-C or a supervisor does, and waits until it has. */
  async stop(by: NodeJS.Signals = "SIGTERM"): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    signal(this.pid, by);
    const timer = setTimeout(() => this.killAll(), STOP_MS);
    const ended = await this.#exit;
    clearTimeout(timer);
    return ended;
  }

  /** Every process this network has started and that the files name: hosts and enclaves, also of replaced nodes. */
  processes(): number[] {
    const nodes = nodesDirectory(this.directory);
    if (!existsSync(nodes)) return [];
    const pids = readdirSync(nodes).flatMap((name) => {
      const status = readIfThere(join(nodes, name, "status.json"));
      const host = readIfThere(join(nodes, name, "node.pid"));
      const { enclave_pid = 0 } = status === undefined ? {} : (JSON.parse(status) as { enclave_pid?: number });
      return [Number(host ?? 0), enclave_pid];
    });
    return pids.filter((pid) => pid > 0);
  }

  /** Stops whatever is left. */
  async end(): Promise<void> {
    if (!this.#gone) {
      // A process that a test has paused cannot stop by itself.
      for (const pid of this.processes()) if (isAlive(pid)) signal(pid, "SIGCONT");
      await this.stop();
    }
    this.killAll();
    running.delete(this);
  }

  /** Kills everything at once. */
  killAll(): void {
    for (const pid of [this.#gone ? 0 : this.pid, ...this.processes()]) if (isAlive(pid)) signal(pid, "SIGKILL");
  }

  /** The end of each node's log: why a network did not come up. */
  #logs(): string {
    const nodes = nodesDirectory(this.directory);
    if (!existsSync(nodes)) return "";
    return readdirSync(nodes)
      .map((name) => `--- ${name}\n${(readIfThere(join(nodes, name, "host.log")) ?? "").slice(-2000)}`)
      .join("\n");
  }
}

/** Runs curl; what it wrote, and what it saw. Redirects are followed only if `-L` is among the arguments. */
export async function curl(args: readonly string[], options: RunOptions = {}): Promise<CurlAnswer> {
  const mark = "\ncamerata-e2e ";
  const format = `${mark}{"status":"%{http_code}","redirects":%{num_redirects},"headers":%{header_json}}`;
  const ran = await run(
    "curl",
    ["--silent", "--show-error", "--max-time", "40", "--write-out", format, ...args],
    options,
  );
  const at = ran.stdout.lastIndexOf(mark);
  const seen = JSON.parse(ran.stdout.slice(at + mark.length)) as {
    status: string;
    redirects: number;
    headers: Record<string, string[]>;
  };
  const headers = Object.fromEntries(Object.entries(seen.headers).map(([name, values]) => [name, values.join(", ")]));
  const body = ran.stdout.slice(0, at);
  return {
    exitCode: ran.code,
    status: Number(seen.status),
    redirects: seen.redirects,
    headers,
    body,
    json: () => JSON.parse(body) as unknown,
    error: () => (JSON.parse(body) as { error?: { code?: string } }).error?.code,
    txId: headers["x-ms-ccf-transaction-id"],
    stderr: ran.stderr,
  };
}

/** A port with room for a network beside and above it, as `camerata dev` uses them. */
async function freePorts(nodes: number): Promise<number> {
  for (;;) {
    const first = PORTS.first + Math.floor(Math.random() * (PORTS.last - PORTS.first - PEER_PORT_OFFSET));
    const wanted = Array.from({ length: nodes }, (_, at) => [first + at, first + PEER_PORT_OFFSET + at]).flat();
    const free = await Promise.all(wanted.map(isFree));
    if (free.every(Boolean)) return first;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ port, host: "127.0.0.1" }, () => probe.close(() => resolve(true)));
  });
}

/** The entries of a stopped node's store. */
export async function storedEntries(store: string): Promise<Uint8Array[]> {
  const entries: Uint8Array[] = [];
  for await (const entry of readStoredLedger(store)) entries.push(entry);
  return entries;
}

export const readPem = (path: string) => readFileSync(path, "utf8");
