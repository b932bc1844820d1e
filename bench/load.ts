/**
 * The closed loop: every client has one operation outstanding and starts the next when that one has ended.
 *
 * All systems are driven by this loop, with the same clock and the same statistics; what differs is the `Target`. A slow
 * system is asked less, so rates and latencies belong together and only compare at the same number of clients.
 */
import { cpuSeconds } from "./processes.ts";

export interface Target {
  readonly name: string;
  /** Processes of all nodes, whose CPU time an operation costs. */
  readonly pids: readonly number[];
  open(clients: number): Promise<void>;
  /** Calls `done` once: when the operation is complete, for a write: when it is committed. */
  write(client: number, id: number, message: string, done: Done): void;
  read(client: number, id: number, done: Done): void;
  closeClients(): void;
}

export type Done = (error?: Error) => void;
export type Operation = "write" | "read";

export type Result = Readonly<{
  operation: Operation;
  clients: number;
  messageBytes: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** CPU time of all server processes over operations in the measured window. */
  serverCpuMicros: number;
  clientCpuMicros: number;
  errors: number;
  firstError: string | undefined;
}>;

export type LoadParts = Readonly<{
  operation: Operation;
  clients: number;
  messageBytes: number;
  warmSeconds: number;
  seconds: number;
}>;

/** Ids are drawn from so many: as in CCF's own benchmark, so that maps stay small and writes overwrite. */
const KEYSPACE = 1000;
/** A system that only refuses must not be asked for ever. */
const ERRORS_MAX = 100;
const DRAIN_MS = 5000;

/** Drives one target for a while. @throws Error if nothing completed */
export async function drive(target: Target, parts: LoadParts): Promise<Result> {
  const { operation, clients, messageBytes, warmSeconds, seconds } = parts;
  const message = "a".repeat(messageBytes);
  const latencies: number[] = [];
  let measuring = false;
  let stopping = false;
  let outstanding = 0;
  let errors = 0;
  let firstError: string | undefined;
  const drained = Promise.withResolvers<void>();

  const next = (client: number): void => {
    if (stopping) {
      if (outstanding === 0) drained.resolve();
      return;
    }
    const start = performance.now();
    const done: Done = (error) => {
      outstanding -= 1;
      if (error !== undefined) {
        errors += 1;
        firstError ??= error.message;
        if (errors >= ERRORS_MAX) stopping = true;
      } else if (measuring) latencies.push(performance.now() - start);
      next(client);
    };
    outstanding += 1;
    const id = Math.floor(Math.random() * KEYSPACE);
    if (operation === "write") target.write(client, id, message, done);
    else target.read(client, id, done);
  };

  await target.open(clients);
  if (operation === "read") await fill(target, clients, message);
  for (let client = 0; client < clients; client++) next(client);
  await pause(warmSeconds * 1000);
  const serversBefore = cpuSeconds(target.pids);
  const selfBefore = process.cpuUsage();
  const start = performance.now();
  measuring = true;
  await pause(seconds * 1000);
  measuring = false;
  const elapsedSeconds = (performance.now() - start) / 1000;
  const self = process.cpuUsage(selfBefore);
  const serverSeconds = cpuSeconds(target.pids) - serversBefore;
  stopping = true;
  await Promise.race([drained.promise, pause(DRAIN_MS)]);
  target.closeClients();

  const count = latencies.length;
  if (count === 0) throw new Error(`${target.name}: no ${operation} completed: ${firstError ?? "no answer"}`);
  const sorted = Float64Array.from(latencies).sort();
  return {
    operation,
    clients,
    messageBytes,
    perSecond: count / elapsedSeconds,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    serverCpuMicros: (serverSeconds * 1e6) / count,
    clientCpuMicros: (self.user + self.system) / count,
    errors,
    firstError,
  };
}

/** What was written last by `fill`, by target: a read of a record that is not there measures nothing. */
const filled = new WeakMap<Target, string>();

/** Writes every id once. */
async function fill(target: Target, clients: number, message: string): Promise<void> {
  if (filled.get(target) === message) return;
  let next = 0;
  const writer = async (client: number): Promise<void> => {
    while (next < KEYSPACE) {
      const id = next++;
      await new Promise<void>((resolve, reject) =>
        target.write(client, id, message, (error) => (error === undefined ? resolve() : reject(error))),
      );
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, client) => writer(client)));
  filled.set(target, message);
}

/** The middle run by rate: its figures belong together, unlike medians taken column by column. */
export function middle(results: readonly Result[]): Result {
  return results.toSorted((a, b) => a.perSecond - b.perSecond)[results.length >> 1]!;
}

function quantile(sorted: Float64Array, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
