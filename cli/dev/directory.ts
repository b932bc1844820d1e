/**
 * May a development network begin in this directory?
 *
 * A stopped service cannot yet be recovered from its ledger, and a second service among the keys of the first would be a
 * mess, so old state is refused, or removed when asked to. Only what `camerata dev` itself writes is ever removed.
 *
 * Untrusted, as the host is.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { nodesDirectory, readyFile, serviceCertificate } from "./layout.ts";

const KEY_FILE = /^(?:member|user)\d+_(?:cert|privk|enc_privk|enc_pubk)\.pem$/;

/** @throws CliError `E-DIRECTORY-RUNNING`, `E-OLD-STATE`, `E-DIRECTORY-FOREIGN` */
export function prepareDirectory(directory: string, reset: boolean): void {
  if (!existsSync(directory)) return;
  const pids = livingHosts(directory);
  if (pids.length > 0)
    throw new CliError({
      id: "E-DIRECTORY-RUNNING",
      exit: EXIT.state,
      headline: `a network already runs in ${directory}`,
      why: `its host processes are ${pids.join(", ")}`,
      fix: "stop it first (Ctrl-C where it runs), or choose another --dir",
    });
  const names = readdirSync(directory);
  if (names.length === 0) return;
  const ours = existsSync(nodesDirectory(directory)) || names.some((name) => KEY_FILE.test(name));
  if (!ours)
    throw new CliError({
      id: "E-DIRECTORY-FOREIGN",
      exit: EXIT.state,
      headline: `${directory} holds files that are not of a development network`,
      fix: "choose another --dir; this one is left as it is",
    });
  if (!reset)
    throw new CliError({
      id: "E-OLD-STATE",
      exit: EXIT.state,
      headline: `${directory} holds the ledger and the keys of an earlier network`,
      why: "node identities live in enclave memory only: a stopped service comes back by recovery, which this release does not have",
      fix: "start over with --reset (removes that ledger and those keys), or choose another --dir",
    });
  for (const name of names.filter((name) => KEY_FILE.test(name))) rmSync(join(directory, name));
  rmSync(serviceCertificate(directory), { force: true });
  rmSync(readyFile(directory), { force: true });
  rmSync(nodesDirectory(directory), { recursive: true, force: true });
}

/** Host processes that the directory's ready.json names and that still run. */
function livingHosts(directory: string): number[] {
  const path = readyFile(directory);
  if (!existsSync(path)) return [];
  const pids = [...readFileSync(path, "utf8").matchAll(/"host_pid":\s*(\d+)/g)].map((match) => Number(match[1]));
  return pids.filter((pid) => isOurs(pid, directory));
}

/** Numbers of processes are given anew: only one that was started with this directory is meant. */
function isOurs(pid: number, directory: string): boolean {
  try {
    if (existsSync("/proc/self")) return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);
    return process.kill(pid, 0);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ESRCH" || code === "ENOENT" || code === "EPERM") return false;
    throw error;
  }
}
