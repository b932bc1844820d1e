/**
 * What processes cost, as Linux counts it.
 */
import { readFileSync } from "node:fs";

/** USER_HZ of every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** User and system time of all of them together. A process that is gone counts nothing more. */
export function cpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + ticks(pid), 0) / TICKS_PER_SECOND;
}

/** Resident memory of one process in MiB; 0 if it is gone. */
export function residentMib(pid: number): number {
  const kib = /VmRSS:\s+(\d+)/.exec(readProc(pid, "status"))?.[1];
  return kib === undefined ? 0 : Number(kib) / 1024;
}

function ticks(pid: number): number {
  const stat = readProc(pid, "stat");
  // The second field is the command in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return stat === "" ? 0 : Number(fields[11]) + Number(fields[12]);
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || (error as NodeJS.ErrnoException).code === "ESRCH")
      return "";
    throw error;
  }
}
