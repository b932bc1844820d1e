/**
 * The enclave as a child process, in the arrangement that is measured: the pinned runtime with the package's flags, an
 * empty environment, no descriptors but the boundary (3) and two that carry what a dying runtime prints.
 *
 * The process gets a session of its own, so that Ctrl-C in a terminal reaches only the host, which then lets the enclave
 * finish. Should the host die, the enclave sees the end of the boundary and ends too.
 *
 * Untrusted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { present } from "../../protocol/check.ts";
import type { EnclavePackage } from "./enclave-package.ts";
import { lineSplitter } from "./log.ts";

export type EnclaveProcess = Readonly<{
  pid: number;
  /** The host's end of the boundary. */
  boundary: Duplex;
  /** Resolves when the process is gone: its exit code, or the signal that ended it. */
  ended: Promise<Readonly<{ code: number | null; signal: NodeJS.Signals | null }>>;
  kill(): void;
}>;

/** @param onLine a line the process printed; nothing of ours prints, so it comes from the runtime itself */
export async function startEnclave(
  enclave: EnclavePackage,
  runtime: string,
  onLine: (line: string) => void,
): Promise<EnclaveProcess> {
  const child: ChildProcess = spawn(runtime, [...enclave.args], {
    cwd: enclave.directory,
    env: {},
    detached: true,
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  child.stdout?.on("data", lineSplitter(onLine));
  child.stderr?.on("data", lineSplitter(onLine));
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => reject(new Error(`the enclave process cannot be started: ${error.message}`)));
  });
  return {
    pid: present(child.pid, "a started process has a number"),
    boundary: present(child.stdio[3], "the boundary was asked for") as Duplex,
    ended,
    kill: () => void child.kill("SIGKILL"),
  };
}
