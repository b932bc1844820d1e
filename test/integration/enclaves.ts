/**
 * Whole enclaves in one process: real boundary, real TLS, real libp2p, real TCP; a ledger in an array. Governance is a
 * single endpoint that does what it is told, so that the node below it can be tried alone.
 */
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { duplexPair } from "node:stream";
import { loggingEndpoints } from "../../enclave-app/apps/logging.ts";
import { type Relay, startRelay } from "../../network/host/relay.ts";
import type { EnclaveConfig } from "../../node/boundary/config.ts";
import { toEnclave, toHost } from "../../node/boundary/messages.ts";
import { openPort } from "../../node/boundary/port.ts";
import type { MessageOf } from "../../node/boundary/schema.ts";
import { runEnclave } from "../../node/enclave/enclave.ts";
import { noAuth } from "../../node/enclave/http/auth.ts";
import { type Endpoint, json } from "../../node/enclave/http/endpoint.ts";
import { open } from "../../node/enclave/kv/table.ts";
import { TABLES } from "../../node/enclave/kv/tables.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { createVirtualPlatform } from "../../node/enclave/service/platform-virtual.ts";
import { createHostStreams } from "../../node/host/streams.ts";
import type { Platform } from "../../protocol/attestation/evidence.ts";
import { ArrayHost, testConfig } from "../unit/node/enclave/service/cluster.ts";

export const MEASUREMENT = "ab".repeat(32);

export function testPlatform(measurement = MEASUREMENT, debug = false): Platform {
  return createVirtualPlatform({ measurement, hostData: "cd".repeat(32), debug, productId: 1, securityVersion: 1 });
}

/** Opens the service, trusts a node, registers a user: what members would decide. */
function decide(operations: Operations): Endpoint[] {
  return [
    {
      method: "POST",
      path: "/gov/test/decide",
      auth: [noAuth],
      kind: "write",
      handler({ request, tx }) {
        const wish = request.json() as { open?: string; trust?: string; user?: { id: string; cert: string } };
        if (wish.open !== undefined) operations.transitionServiceToOpen(tx, undefined, wish.open);
        if (wish.user !== undefined) open(tx, TABLES.userCerts).set(wish.user.id, wish.user.cert);
        if (wish.trust !== undefined) {
          const info = open(tx, TABLES.nodeInfo);
          const row = info.get(wish.trust)!;
          info.set(wish.trust, { ...row, status: "Trusted", ledger_secret_seqno: 1 });
          const now = new Date()
            .toISOString()
            .replace(/\.\d+Z$/, "Z")
            .replace(/[-:]/g, "")
            .replace("T", "");
          open(tx, TABLES.nodeCertificates).set(
            wish.trust,
            operations.endorseCertificate(tx, row.certificate_signing_request!, now, 90),
          );
        }
        return json(true);
      },
    },
  ];
}

export type InProcessNode = Readonly<{
  rpc: string;
  node(): string;
  published: Map<string, string>;
  stopped: Promise<{ why: string; fatal: boolean }>;
  logs: string[];
  host: ArrayHost;
  /** Every byte that crossed the boundary, in either direction. */
  crossed: Buffer[];
  kill(): Promise<void>;
}>;

export async function startNode(
  command: EnclaveConfig["command"],
  platform: Platform = testPlatform(),
): Promise<InProcessNode> {
  const [inside, outside] = duplexPair();
  const crossed: Buffer[] = [];
  for (const end of [inside, outside]) {
    const write = end._write.bind(end);
    end._write = (chunk: Buffer, encoding, done) => {
      crossed.push(Buffer.from(chunk));
      write(chunk, encoding, done);
    };
  }
  const stopped = Promise.withResolvers<{ why: string; fatal: boolean }>();
  const started = Promise.withResolvers<string>();
  const logs: string[] = [];
  const published = new Map<string, string>();
  const port = openPort({
    stream: outside,
    send: toEnclave,
    receive: toHost,
    onMessage: (message) => receive(message),
    onFault: (fault) => stopped.resolve({ why: fault.message, fatal: true }),
  });
  const host = new ArrayHost((op) => port.send({ kind: "ledgerDurable", op }));
  let relay: Relay | undefined;
  const streams = createHostStreams({
    port,
    connect: async (protocol, address) => {
      if (protocol === "peer") return (await relay?.dial(address))!;
      const colon = address.lastIndexOf(":");
      return new Promise((resolve, reject) => {
        const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) });
        socket.once("connect", () => resolve(socket));
        socket.once("error", reject);
      });
    },
  });
  relay = await startRelay({
    listen: "127.0.0.1:0",
    onStream: (stream, from) => streams.accepted(stream, { protocol: "peer", interface: "", from }),
  });
  const server: Server = createServer((socket) =>
    streams.accepted(socket.setNoDelay(true), { protocol: "rpc", interface: "primary_rpc_interface", from: "client" }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const rpc = `127.0.0.1:${(server.address() as AddressInfo).port}`;

  function receive(message: MessageOf<typeof toHost>): void {
    switch (message.kind) {
      case "started":
        return started.resolve(message.node);
      case "publish":
        return void published.set(message.name, message.content);
      case "log":
        return void logs.push(`${message.level}: ${message.message}`);
      case "stopped":
        return stopped.resolve({ why: message.why, fatal: message.fatal });
      case "ledgerAppend":
        return host.append(message.op, message.first, message.entries);
      case "ledgerTruncate":
        return host.truncate(message.op, message.after);
      case "ledgerCommit":
        return host.commit(message.seqno);
      case "ledgerRead":
        host
          .read(message.first, message.last)
          .then((entries) => port.send({ kind: "ledgerRange", request: message.request, entries: [...entries] }));
        return;
      case "status":
        return;
      default:
        return streams.receive(message);
    }
  }

  runEnclave({
    stream: inside,
    platform,
    version: "test",
    shares: { issue: () => undefined },
    app: loggingEndpoints,
    governance: decide,
    exit: () => undefined,
  });
  const config = testConfig(0, command);
  config.consensus.election_timeout = 2000;
  config.node_to_node_interface = { bind_address: relay.address, published_address: relay.address };
  const [rpcInterface] = Object.values(config.rpc_interfaces);
  config.rpc_interfaces = { primary_rpc_interface: { ...rpcInterface!, bind_address: rpc, published_address: rpc } };
  port.send({ kind: "start", config: JSON.stringify(config) });
  const clock = setInterval(() => port.send({ kind: "tick", elapsedMs: 10 }), 10);
  stopped.promise.finally(() => clearInterval(clock));
  const node = await Promise.race([started.promise, stopped.promise.then(({ why }) => Promise.reject(new Error(why)))]);
  return {
    rpc,
    node: () => node,
    published,
    stopped: stopped.promise,
    logs,
    host,
    crossed,
    async kill() {
      clearInterval(clock);
      server.close();
      streams.close();
      port.close();
      await relay.stop();
    },
  };
}
