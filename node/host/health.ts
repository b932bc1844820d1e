/**
 * Probes and metrics for operators, on an address of their own that clients do not reach.
 *
 *   GET /livez     200 while the enclave reports, 503 otherwise
 *   GET /readyz    200 while the node is part of the network, knows a primary and is not stopping
 *   GET /status    what is known, as JSON
 *   GET /metrics   the same as OpenMetrics text
 *
 * All it knows is what the enclave says in its `status` messages, and those say nothing secret.
 *
 * Untrusted.
 */
import { createServer, type Server } from "node:http";
import type { toHost } from "../boundary/messages.ts";
import type { MessageOf } from "../boundary/schema.ts";
import { listen } from "./sockets.ts";

type StatusMessage = Extract<MessageOf<typeof toHost>, { kind: "status" }>;

/** What never changes while a node runs. */
export type NodeFacts = Readonly<{
  host_pid: number;
  enclave_pid: number;
  node_id: string;
  /** False: this node keeps nothing secret from its operator. */
  confidential: boolean;
  measurement: string;
  rpc_addresses: Readonly<Record<string, string>>;
  node_to_node_address: string;
  peer_id: string;
  /** Directory of the ledger store. */
  ledger: string;
}>;

/** The host's view of its node, fed by the supervisor. */
export class Health {
  facts: NodeFacts | undefined;
  stopping = false;
  #status: StatusMessage | undefined;
  #reportedAtMs = Number.NEGATIVE_INFINITY;

  report(status: StatusMessage, nowMs: number): void {
    this.#status = status;
    this.#reportedAtMs = nowMs;
  }

  live(nowMs: number): boolean {
    return this.facts !== undefined && nowMs - this.#reportedAtMs < SILENCE_MS;
  }

  ready(nowMs: number): boolean {
    const status = this.#status;
    return this.live(nowMs) && !this.stopping && status?.state === "PartOfNetwork" && status.primary !== "";
  }

  /** Plain data for `/status`. */
  snapshot(nowMs: number): object {
    const { kind: _, ...status } = this.#status ?? { kind: "status" };
    return { ...this.facts, ...status, live: this.live(nowMs), ready: this.ready(nowMs), stopping: this.stopping };
  }

  metrics(nowMs: number): string {
    const status = this.#status;
    const lines = [
      gauge("camerata_live", "The enclave reports", Number(this.live(nowMs))),
      gauge("camerata_ready", "The node serves", Number(this.ready(nowMs))),
      gauge(
        "camerata_confidential",
        "The platform keeps secrets from the operator",
        Number(this.facts?.confidential ?? 0),
      ),
    ];
    if (status !== undefined)
      lines.push(
        gauge("camerata_consensus_view", "Consensus view", status.view),
        gauge("camerata_last_seqno", "Newest entry", status.lastSeqno),
        gauge("camerata_commit_seqno", "Newest committed entry", status.commitSeqno),
        gauge(
          "camerata_sessions",
          "Client sessions",
          Object.values(status.sessions).reduce((sum, n) => sum + n, 0),
        ),
      );
    return `${lines.join("")}# EOF\n`;
  }
}

/** The enclave reports four times a second; busy for this long, it is as good as dead. */
const SILENCE_MS = 5000;
const JSON_TYPE = "application/json";
const METRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/** Serves the probes. @throws Fault<SocketFault> */
export async function serveHealth(
  address: string,
  health: Health,
  nowMs: () => number,
): Promise<Readonly<{ address: string; close(): void }>> {
  const server: Server = createServer(
    { requestTimeout: 5000, headersTimeout: 5000, maxHeaderSize: 8192 },
    (request, reply) => {
      const answer = (status: number, body: string, type = "text/plain") =>
        void reply.writeHead(status, { "content-type": type, connection: "close" }).end(body);
      const probe = (good: boolean) => answer(good ? 200 : 503, good ? "ok\n" : "no\n");
      if (request.method !== "GET") return answer(405, "only GET\n");
      switch (request.url) {
        case "/livez":
          return probe(health.live(nowMs()));
        case "/readyz":
          return probe(health.ready(nowMs()));
        case "/status":
          return answer(200, `${JSON.stringify(health.snapshot(nowMs()))}\n`, JSON_TYPE);
        case "/metrics":
          return answer(200, health.metrics(nowMs()), METRICS_TYPE);
        default:
          return answer(404, "there are /livez, /readyz, /status and /metrics\n");
      }
    },
  );
  server.maxConnections = 64;
  const real = await listen(server, address, "camerata.admin_address");
  return {
    address: real,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function gauge(name: string, help: string, value: number): string {
  return `# TYPE ${name} gauge\n# HELP ${name} ${help}.\n${name} ${value}\n`;
}
