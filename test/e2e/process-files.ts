/**
 * What a process holds, as the kernel tells it: descriptors, sockets, children, environment, memory. Linux only.
 */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { readIfThere } from "./processes.ts";

export const hasProcessFiles = process.platform === "linux";

export type Descriptor = Readonly<{ number: number; target: string }>;

/** Open descriptors. `target` is a path, or a kind with an inode such as `socket:[123]`. */
export function descriptors(pid: number): Descriptor[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    try {
      return [{ number: Number(name), target: readlinkSync(`/proc/${pid}/fd/${name}`) }];
    } catch (error) {
      // Closed between the two calls.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  });
}

/** Inodes of all sockets of this machine that speak to a network. */
export function networkSockets(pid: number): Set<string> {
  const tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "netlink"];
  const inodes = tables.flatMap((table) =>
    (readIfThere(`/proc/${pid}/net/${table}`) ?? "")
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .flatMap((fields) => [fields[9], fields[8]].filter((field) => field !== undefined)),
  );
  return new Set(inodes);
}

/** Process ids of the children of all threads. */
export function children(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    (readIfThere(`/proc/${pid}/task/${thread}/children`) ?? "")
      .split(" ")
      .filter((text) => text.trim() !== "")
      .map(Number),
  );
}

export const environment = (pid: number) => readFileSync(`/proc/${pid}/environ`, "utf8");
export const workingDirectory = (pid: number) => readlinkSync(`/proc/${pid}/cwd`);

/** Files that are mapped into the process and may be written. */
export function writableMappings(pid: number): string[] {
  return mappings(pid)
    .filter(({ shared, writable, file }) => shared && writable && file.startsWith("/"))
    .map(({ file }) => file);
}

/** For each of these texts, whether it is anywhere in the memory that the process may write. */
export function memoryHolds(pid: number, texts: readonly Buffer[]): boolean[] {
  const found = texts.map(() => false);
  const overlap = Math.max(...texts.map((text) => text.length));
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const window = Buffer.allocUnsafe(WINDOW_BYTES);
  try {
    for (const { start, end, readable, writable, residentKb } of mappings(pid)) {
      // Most of what a runtime reserves it never touches.
      if (!readable || !writable || residentKb === 0) continue;
      for (let at = start; at < end; at += BigInt(WINDOW_BYTES - overlap)) {
        const length = Number(end - at < BigInt(WINDOW_BYTES) ? end - at : BigInt(WINDOW_BYTES));
        const seen = window.subarray(0, readMemory(memory, window, length, at));
        for (const [i, text] of texts.entries()) found[i] ||= seen.includes(text);
      }
    }
  } finally {
    closeSync(memory);
  }
  return found;
}

const WINDOW_BYTES = 4 * 1024 * 1024;

/** Bytes read; 0 where a mapping has gone meanwhile or cannot be read, as parts of a reserved heap. */
function readMemory(memory: number, into: Buffer, length: number, at: bigint): number {
  try {
    return readSync(memory, into, 0, length, at);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EIO" || code === "EFAULT" || code === "EINVAL") return 0;
    throw error;
  }
}

type Mapping = Readonly<{
  start: bigint;
  end: bigint;
  readable: boolean;
  writable: boolean;
  shared: boolean;
  file: string;
  residentKb: number;
}>;

function mappings(pid: number): Mapping[] {
  // Each mapping is a line with its range, then lines such as "Rss:  12 kB".
  const texts = readFileSync(`/proc/${pid}/smaps`, "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  return texts.map((text) => {
    const match = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+[ \t]*(.*)\n[\s\S]*?^Rss:\s+(\d+) kB/m.exec(text);
    if (match === null) throw new Error(`the kernel describes memory in another form: ${text}`);
    const [, start, end, rights, file, residentKb] = match as unknown as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    return {
      start: BigInt(`0x${start}`),
      end: BigInt(`0x${end}`),
      readable: rights[0] === "r",
      writable: rights[1] === "w",
      shared: rights[3] === "s",
      file,
      residentKb: Number(residentKb),
    };
  });
}
