/**
 * Programs run as a user runs them, and conditions waited for.
 *
 * Nothing here sleeps for a fixed time: `until` polls, and its deadline is only how long a broken run may last.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

export type Run = Readonly<{ code: number | null; stdout: string; stderr: string }>;
export type RunOptions = Readonly<{
  input?: string | Uint8Array;
  timeoutMs?: number;
  cwd?: string;
  environment?: Readonly<Record<string, string>>;
}>;

const RUN_MS = 60_000;
const POLL_MS = 25;

/** Runs a program to its end. A program that does not end in time is killed, and that is an error. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, NO_COLOR: "1", ...options.environment },
    stdio: "pipe",
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  // A program may end without reading all that it is given.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input);
  const ended = exitOf(child);
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? RUN_MS);
  const { code, signal } = await ended;
  clearTimeout(timer);
  if (signal !== null) throw new Error(`${program} ${args.join(" ")} was ended by ${signal}\n${stdout()}\n${stderr()}`);
  return { code, stdout: stdout(), stderr: stderr() };
}

/** Resolves when the process is gone and its output has been read. */
export function exitOf(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

/** Everything a stream has given so far, as text. */
export function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString("utf8");
}

/** True while a process runs. One that has ended and waits to be collected by its parent does not run. */
export function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  if (existsSync("/proc/self/stat")) {
    const stat = readIfThere(`/proc/${pid}/stat`);
    return stat !== undefined && !/^\d+ \(.*\) [ZX] /s.test(stat);
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** Sends a signal to a process that may be gone by now. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The contents of a file, or undefined where there is none, also because its process is gone. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

/** Polls until `probe` gives something. @throws Error that names `what` when it has not come true in time */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`did not happen within ${timeoutMs} ms: ${what}`);
    await pause(POLL_MS);
  }
}
