/**
 * Three validators as `camerata dev` starts them, driven through their public face: `POST /app/log/private` with
 * `x-camerata-wait: committed`, one TLS connection a client, answered when the transaction is committed.
 */
import { spawn } from "node:child_process";
import { existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Answer, HttpConnection, type TlsFiles } from "./http-connection.ts";
import type { Done, Target } from "./load.ts";

export type CamerataCluster = Target &
  Readonly<{
    /** From the start of the command to the reply of the first committed write, three nodes trusted. */
    firstCommitMs: number;
    processes: readonly Readonly<{ name: string; pid: number }>[];
    stop(): Promise<void>;
  }>;

const START_MS = 60_000;
const WAIT_FOR_COMMIT = "x-camerata-wait: committed\r\n";
const CLI = fileURLToPath(new URL("../cli/camerata.cjs", import.meta.url));

type Ready = {
  primary_id: string;
  nodes: { node_id: string; rpc_address: string; host_pid: number; enclave_pid: number }[];
};

/** Starts a development network below `directory` and writes once. */
export async function startCamerata(directory: string, port: number): Promise<CamerataCluster> {
  const keys = join(directory, "dev");
  const logFile = join(directory, "camerata.log");
  const log = openSync(logFile, "a");
  const start = performance.now();
  const child = spawn(
    process.execPath,
    [CLI, "dev", "--nodes", "3", "--port", String(port), "--dir", keys, "--app", "native:logging", "--no-respawn"],
    { stdio: ["ignore", log, log] },
  );
  const ready = await waitForReady(join(keys, "ready.json"), start + START_MS, () => child.exitCode !== null, logFile);
  const tls: TlsFiles = {
    ca: readFileSync(join(keys, "service_cert.pem"), "utf8"),
    cert: readFileSync(join(keys, "user0_cert.pem"), "utf8"),
    key: readFileSync(join(keys, "user0_privk.pem"), "utf8"),
  };
  const primary = ready.nodes.find((node) => node.node_id === ready.primary_id) ?? ready.nodes[0]!;
  const found = target(primary.rpc_address, tls, ready);
  await found.open(1);
  await new Promise<void>((resolve, reject) =>
    found.write(0, 0, "first", (error) => (error === undefined ? resolve() : reject(error))),
  );
  found.closeClients();
  const firstCommitMs = performance.now() - start;
  const processes = ready.nodes.flatMap((node, index) => [
    { name: `node${index} host`, pid: node.host_pid },
    { name: `node${index} enclave`, pid: node.enclave_pid },
  ]);
  const stop = () =>
    new Promise<void>((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      child.once("exit", () => resolve());
      child.kill("SIGTERM");
    });
  return { ...found, firstCommitMs, processes, stop };
}

function target(address: string, tls: TlsFiles, ready: Ready): Target {
  let connections: HttpConnection[] = [];
  return {
    name: "camerata",
    pids: ready.nodes.flatMap((node) => [node.host_pid, node.enclave_pid]),
    async open(clients) {
      connections = Array.from({ length: clients }, () => new HttpConnection(address, tls));
      await Promise.all(connections.map((connection) => connection.ready));
    },
    write(client, id, message, done) {
      const body = `{"id":${id},"msg":"${message}"}`;
      connections[client]!.request("POST", "/app/log/private", WAIT_FOR_COMMIT, body, answered(done));
    },
    read(client, id, done) {
      connections[client]!.request("GET", `/app/log/private?id=${id}`, "", undefined, answered(done));
    },
    closeClients() {
      for (const connection of connections) connection.close();
    },
  };
}

function answered(done: Done): (error: Error | undefined, answer?: Answer) => void {
  return (error, answer) => {
    if (error !== undefined) done(error);
    else if (answer!.status >= 300)
      done(new Error(`HTTP ${answer!.status}: ${answer!.body.toString("utf8").slice(0, 300)}`));
    else done();
  };
}

async function waitForReady(path: string, deadline: number, ended: () => boolean, log: string): Promise<Ready> {
  while (!existsSync(path)) {
    if (ended() || performance.now() > deadline)
      throw new Error(`the network did not come up:\n${readFileSync(log, "utf8").slice(-4000)}`);
    await pause(10);
  }
  return JSON.parse(readFileSync(path, "utf8")) as Ready;
}
