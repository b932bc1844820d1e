/**
 * Three etcd members on loopback with TLS towards clients and between members: the peer we measure ourselves beside.
 *
 * etcd keeps its log with fdatasync on a majority before it answers, the same durability class as ours. Keys and values
 * go through its KV service; the few protobuf fields are encoded by hand.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { GrpcConnection } from "./grpc-connection.ts";
import type { TlsFiles } from "./http-connection.ts";
import type { Done, Target } from "./load.ts";

/** Connections that the clients share, as an etcd client library does. */
const CONNECTIONS = 8;
const START_MS = 20_000;

export type EtcdCluster = Target & Readonly<{ version: string; startMs: number; stop(): Promise<void> }>;

/** The version of the `etcd` in the search path, or undefined. */
export function etcdVersion(): string | undefined {
  try {
    return /Version: (\S+)/.exec(execFileSync("etcd", ["--version"], { encoding: "utf8" }))?.[1];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Starts three members below `directory`, ports from `port` on, and waits for their leader. */
export async function startEtcd(directory: string, port: number): Promise<EtcdCluster> {
  const version = etcdVersion();
  if (version === undefined) throw new Error("etcd is not installed; on Debian: apt-get install etcd-server");
  const tls = createCertificates(join(directory, "tls"));
  const members = [0, 1, 2].map((index) => ({
    name: `n${index}`,
    client: `127.0.0.1:${port + 2 * index}`,
    peer: `127.0.0.1:${port + 2 * index + 1}`,
  }));
  const cluster = members.map((member) => `${member.name}=https://${member.peer}`).join(",");
  const start = performance.now();
  const processes = members.map((member) => {
    const log = openSync(join(directory, `${member.name}.log`), "a");
    return spawn("etcd", memberArguments(member, join(directory, member.name), cluster, join(directory, "tls")), {
      stdio: ["ignore", log, log],
    });
  });
  const addresses = members.map((member) => member.client);
  const leader = await findLeader(addresses, tls, start + START_MS);
  const startMs = performance.now() - start;
  return { ...target(leader, tls, processes), version, startMs, stop: () => stop(processes) };
}

function memberArguments(
  member: { name: string; client: string; peer: string },
  data: string,
  cluster: string,
  tls: string,
): string[] {
  const client = `https://${member.client}`;
  const peer = `https://${member.peer}`;
  return [
    ["--name", member.name, "--data-dir", data, "--logger", "zap", "--log-level", "error"],
    ["--listen-client-urls", client, "--advertise-client-urls", client],
    ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
    ["--initial-cluster", cluster, "--initial-cluster-state", "new"],
    ["--cert-file", join(tls, "node.crt"), "--key-file", join(tls, "node.key")],
    ["--peer-cert-file", join(tls, "node.crt"), "--peer-key-file", join(tls, "node.key")],
    ["--peer-client-cert-auth", "--peer-trusted-ca-file", join(tls, "ca.crt")],
    ["--quota-backend-bytes", String(8 * 2 ** 30)],
  ].flat();
}

function target(leader: string, tls: TlsFiles, processes: readonly ChildProcess[]): Target {
  let connections: GrpcConnection[] = [];
  const call = (client: number, method: string, message: Buffer, done: Done) =>
    connections[client % connections.length]!.call(method, message, (error) => done(error));
  return {
    name: "etcd",
    pids: processes.map((process) => process.pid!),
    async open(clients) {
      connections = Array.from({ length: Math.min(CONNECTIONS, clients) }, () => new GrpcConnection(leader, tls));
      await Promise.all(connections.map((connection) => connection.ready));
    },
    write(client, id, message, done) {
      call(client, "/etcdserverpb.KV/Put", Buffer.concat([bytesField(1, `log/${id}`), bytesField(2, message)]), done);
    },
    // serializable: answered from one member's state, as our nodes answer reads.
    read(client, id, done) {
      call(
        client,
        "/etcdserverpb.KV/Range",
        Buffer.concat([bytesField(1, `log/${id}`), Buffer.from([7 << 3, 1])]),
        done,
      );
    },
    closeClients() {
      for (const connection of connections) connection.close();
    },
  };
}

/** A leader's status names itself: field 4 (leader) equals field 2 (member id) of the header in field 1. */
async function findLeader(addresses: readonly string[], tls: TlsFiles, deadline: number): Promise<string> {
  for (;;) {
    for (const address of addresses) {
      const status = await maintenanceStatus(address, tls);
      if (status !== undefined && status.leader !== 0n && status.leader === status.self) return address;
    }
    if (performance.now() > deadline)
      throw new Error("etcd found no leader in time; its logs lie in the data directory");
    await pause(50);
  }
}

async function maintenanceStatus(
  address: string,
  tls: TlsFiles,
): Promise<{ leader: bigint; self: bigint } | undefined> {
  const connection = new GrpcConnection(address, tls);
  try {
    await connection.ready;
    const message = await new Promise<Buffer>((resolve, reject) =>
      connection.call("/etcdserverpb.Maintenance/Status", Buffer.alloc(0), (error, found) =>
        error === undefined ? resolve(found!) : reject(error),
      ),
    );
    const fields = parseFields(message);
    const header = fields.get(1);
    return {
      leader: BigInt((fields.get(4) as bigint | undefined) ?? 0n),
      self: Buffer.isBuffer(header) ? BigInt((parseFields(header).get(2) as bigint | undefined) ?? 0n) : 0n,
    };
  } catch {
    // Not up yet: asked again until the deadline.
    return undefined;
  } finally {
    connection.close();
  }
}

async function stop(processes: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    processes.map(
      (child) =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) return resolve();
          child.once("exit", () => resolve());
          child.kill("SIGTERM");
        }),
    ),
  );
}

function createCertificates(directory: string): TlsFiles {
  mkdirSync(directory, { recursive: true });
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "ignore" });
  const key = (name: string) => openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name);
  key("ca.key");
  openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=bench", "-days", "30", "-out", "ca.crt");
  key("node.key");
  openssl("req", "-new", "-key", "node.key", "-subj", "/CN=localhost", "-out", "node.csr");
  writeFileSync(
    join(directory, "extensions"),
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
  );
  const signing = ["-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
  openssl("x509", ...signing, "-days", "30", "-extfile", "extensions", "-out", "node.crt");
  return { ca: readFileSync(join(directory, "ca.crt"), "utf8") };
}

const WIRE = { varint: 0, fixed64: 1, bytes: 2 } as const;

function bytesField(field: number, text: string): Buffer {
  const value = Buffer.from(text, "latin1");
  return Buffer.concat([Buffer.from([(field << 3) | WIRE.bytes]), varint(value.length), value]);
}

function varint(value: number): Buffer {
  const out: number[] = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  return Buffer.from([...out, value]);
}

/** Fields of a protobuf message by number: varints as BigInt, the rest as bytes; the last of a repeated one wins. */
function parseFields(bytes: Buffer): Map<number, bigint | Buffer> {
  const fields = new Map<number, bigint | Buffer>();
  let at = 0;
  const read = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(read());
    const wire = tag & 7;
    if (wire === WIRE.varint) fields.set(tag >> 3, read());
    else {
      const length = wire === WIRE.bytes ? Number(read()) : wire === WIRE.fixed64 ? 8 : 4;
      fields.set(tag >> 3, bytes.subarray(at, at + length));
      at += length;
    }
  }
  return fields;
}
