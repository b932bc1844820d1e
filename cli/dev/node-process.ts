/**
 * One node of a development network as a process: started, watched, stopped.
 *
 * The process started here is the host; it starts its enclave itself. Its log goes to a file, because the terminal
 * belongs to the story that `camerata dev` tells; when it dies early, the end of that file is the reason that is shown.
 *
 * Untrusted, as the host is.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { hostProgram } from "../terminal/package-root.ts";
import { nodeDirectory, statusFile } from "./layout.ts";
import { type JoinCommand, nodeConfig, type StartCommand } from "./node-config.ts";
import type { NodeAddresses } from "./ports.ts";

export type NodeProcessParts = Readonly<{
  /** Of the network. */
  directory: string;
  index: number;
  generation: number;
  addresses: NodeAddresses;
  command: StartCommand | JoinCommand;
}>;

/** As much of the host's status file as is needed here. */
const Status = Type.Object({ node_id: Type.String(), enclave_pid: Type.Integer() });
export type Status = Static<typeof Status>;
const status = Compile(Status);

const STOP_MS = 15_000;
const LOG_TAIL_CHARS = 2000;

export class NodeProcess {
  readonly index: number;
  readonly generation: number;
  readonly addresses: NodeAddresses;
  readonly directory: string;
  /** Resolves when the host process is gone, with what is known about why. */
  readonly exited: Promise<string>;
  readonly #child: ChildProcess;
  #stopping = false;
  #gone = false;
  #status: Status | undefined;

  constructor(parts: NodeProcessParts) {
    this.index = parts.index;
    this.generation = parts.generation;
    this.addresses = parts.addresses;
    this.directory = nodeDirectory(parts.directory, parts.index, parts.generation);
    mkdirSync(this.directory, { recursive: true });
    const config = join(this.directory, "config.json");
    writeFileSync(config, nodeConfig({ ...parts, directory: this.directory }));
    const log = openSync(this.log, "a");
    this.#child = spawn(process.execPath, [hostProgram(), "start", "--config", config], {
      stdio: ["ignore", log, log],
      // Ctrl-C reaches the whole group of a terminal; the network stops its nodes in order instead.
      detached: true,
    });
    closeSync(log);
    // Whatever ends this process ends its nodes; nobody would look after them.
    const abandon = () => this.kill();
    process.on("exit", abandon);
    this.exited = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(this.#ended(error.message)));
      this.#child.once("exit", (code, signal) => resolve(this.#ended(signal ?? `exit code ${code}`)));
    });
    this.exited.then(() => process.off("exit", abandon));
  }

  get log(): string {
    return join(this.directory, "host.log");
  }

  get ledger(): string {
    return join(this.directory, "ledger");
  }

  get hostPid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return !this.#gone;
  }

  /** True once somebody asked it to stop: its end is then no accident. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** What the host says of itself once its enclave is up. */
  status(): Status | undefined {
    const file = statusFile(this.directory);
    if (this.#status === undefined && existsSync(file)) {
      const found: unknown = JSON.parse(readFileSync(file, "utf8"));
      if (status.Check(found)) this.#status = found;
    }
    return this.#status;
  }

  /** Process id of the enclave; 0 while there is none. */
  get enclavePid(): number {
    return this.status()?.enclave_pid ?? 0;
  }

  /** Polls until `probe` gives something, or the process ends, or time is up. @throws CliError with the log's end */
  async until<T>(what: string, timeoutMs: number, probe: () => Promise<T | undefined>): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = await probe();
      if (found !== undefined) return found;
      if (this.#gone) throw this.#failure(`node ${this.index} ended before ${what}`);
      if (performance.now() > deadline) throw this.#failure(`node ${this.index} did not get as far as: ${what}`);
      await pause(POLL_MS);
    }
  }

  /** Asks it to stop and waits; kills it when it does not. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#gone) return;
    this.#child.kill("SIGTERM");
    const cancel = new AbortController();
    const late = pause(STOP_MS, "late", { signal: cancel.signal }).catch(() => "cancelled");
    if ((await Promise.race([this.exited, late])) === "late") this.#child.kill("SIGKILL");
    cancel.abort();
    await this.exited;
  }

  /** Ends it at once, without its leave. */
  kill(): void {
    this.#stopping = true;
    if (!this.#gone) this.#child.kill("SIGKILL");
  }

  #ended(why: string): string {
    this.#gone = true;
    return why;
  }

  #failure(headline: string): CliError {
    return new CliError({
      id: "E-NODE-DIED",
      exit: EXIT.state,
      headline,
      what: this.#logTail() || "it wrote nothing to its log",
      fix: `read ${this.log}`,
    });
  }

  #logTail(): string {
    const text = existsSync(this.log) ? readFileSync(this.log, "utf8") : "";
    return text.slice(-LOG_TAIL_CHARS).trim();
  }
}

const POLL_MS = 10;
