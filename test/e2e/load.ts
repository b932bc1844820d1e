/**
 * Users who write without pause, and who know afterwards what became of each write.
 *
 * Every write has a number and a text of its own and asks to be answered when it is committed. A writer whose node does
 * not answer, or says that another one is the primary, goes on with another node, as a client library would. What it was
 * told about each write is kept: that is what the service is held to.
 */
import { Agent, request as httpsRequest } from "node:https";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "vitest";
import { parseTxId } from "../../protocol/ids.ts";
import { type Consortium, readPem } from "./consortium.ts";
import { until } from "./processes.ts";

export type Answer = Readonly<{
  status: number;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  body: string;
  txId: string | undefined;
}>;

/**
 * `committed`: the service said so. `refused`: it said that nothing was written, or will ever have been. `unknown`: no
 * answer, or one that leaves it open.
 */
export type Fate = "committed" | "refused" | "unknown";
export type Write = Readonly<{
  id: number;
  msg: string;
  fate: Fate;
  txId: string | undefined;
  answeredMs: number;
  node: number;
}>;

const PATH = "/app/log/private";
const REQUEST_MS = 10_000;
const RETRY_MS = 20;
const READERS = 4;
const CATCH_UP_MS = 60_000;
/** Codes that promise that nothing was written, or that it never will have been. */
const REFUSALS = new Set([
  "PrimaryNotFound",
  "TransactionInvalid",
  "TransactionReplicationFailed",
  "SessionConsistencyLost",
  "TooManyPendingTransactions",
]);

/** One user's connection to any node: kept alive, one for each node that it talks to. */
export class User {
  readonly #consortium: Consortium;
  readonly #agent: Agent;
  readonly #timeoutMs: number;

  /** @param timeoutMs after which a node that says nothing is given up */
  constructor(consortium: Consortium, timeoutMs = REQUEST_MS) {
    this.#timeoutMs = timeoutMs;
    const { certificate, privateKey } = consortium.keys("user0");
    this.#consortium = consortium;
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets: 1,
      ca: readPem(consortium.serviceCertificate),
      cert: readPem(certificate),
      key: readPem(privateKey),
    });
  }

  /** @throws Error when there is no answer */
  send(node: number, method: string, path: string, body?: object, wait = false): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const outgoing = httpsRequest(
        {
          agent: this.#agent,
          host: "127.0.0.1",
          port: this.#consortium.port + node,
          method,
          path,
          timeout: this.#timeoutMs,
          headers: {
            ...(body !== undefined && { "content-type": "application/json" }),
            ...(wait && { "x-camerata-wait": "committed" }),
          },
        },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
          incoming.on("error", reject);
          incoming.on("end", () => {
            const { headers } = incoming;
            const txId = headers["x-ms-ccf-transaction-id"] as string | undefined;
            resolve({ status: incoming.statusCode ?? 0, headers, body: Buffer.concat(chunks).toString("utf8"), txId });
          });
        },
      );
      outgoing.on("error", reject);
      outgoing.on("timeout", () => outgoing.destroy(new Error(`node ${node} does not answer`)));
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  write(node: number, id: number, msg: string): Promise<Answer> {
    return this.send(node, "POST", PATH, { id, msg }, true);
  }

  read(node: number, id: number): Promise<Answer> {
    return this.send(node, "GET", `${PATH}?id=${id}`);
  }

  close(): void {
    this.#agent.destroy();
  }
}

export class Load {
  readonly writes: Write[] = [];
  readonly #consortium: Consortium;
  readonly #writers: Promise<void>[];
  #nextId: number;
  #stopping = false;

  /** Begins at once. @param firstId no other load of the same consortium may use the numbers from here */
  constructor(consortium: Consortium, firstId: number, writers = 4) {
    this.#consortium = consortium;
    this.#nextId = firstId;
    this.#writers = Array.from({ length: writers }, (_, at) => this.#run(at % consortium.nodeCount));
  }

  get committed(): Write[] {
    return this.writes.filter(({ fate }) => fate === "committed");
  }

  /** Waits until so many more writes have been committed than are now. */
  async more(count: number, timeoutMs = CATCH_UP_MS): Promise<void> {
    const goal = this.committed.length + count;
    await until(`${count} more writes are committed`, timeoutMs, () => this.committed.length >= goal);
  }

  /** Ends the writers. @throws whatever a writer met that no client should meet */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#writers);
  }

  async #run(node: number): Promise<void> {
    const user = new User(this.#consortium);
    try {
      while (!this.#stopping) {
        const id = this.#nextId++;
        const msg = `record ${id} of ${this.#consortium.port}`;
        let answer: Answer | undefined;
        try {
          answer = await user.write(node, id, msg);
        } catch {
          // No answer: whether it was written is not known, and that is what the record of this write says.
          answer = undefined;
        }
        const fate = answer === undefined ? "unknown" : fateIn(answer);
        this.writes.push({ id, msg, fate, txId: answer?.txId, answeredMs: performance.now(), node });
        const location = answer?.status === 307 ? String(answer.headers["location"]) : undefined;
        if (location !== undefined) node = Number(new URL(location).port) - this.#consortium.port;
        else if (fate !== "committed") {
          node = (node + 1) % this.#consortium.nodeCount;
          await pause(RETRY_MS);
        }
      }
    } finally {
      user.close();
    }
  }
}

/** @throws Error for an answer that no such request may get */
function fateIn({ status, body }: Answer): Fate {
  if (status === 200) return "committed";
  if (status === 307) return "refused";
  const { code } = (JSON.parse(body) as { error: { code: string } }).error;
  if (REFUSALS.has(code)) return "refused";
  if (code === "CommitOutcomeUnknown" || code === "FrontendNotOpen") return "unknown";
  throw new Error(`a write was answered with ${status} ${body}`);
}

/** Waits until these nodes hold as committed whatever is committed anywhere now. */
export async function settled(consortium: Consortium, nodes: readonly number[]): Promise<void> {
  const user = new User(consortium);
  try {
    const last = await until("a write is committed", CATCH_UP_MS, async () => {
      for (const node of nodes) {
        const answer = await user.write(node, 0, "the last one").catch(() => undefined);
        if (answer?.status === 200 && answer.txId !== undefined) return parseTxId(answer.txId).seqno;
      }
      return undefined;
    });
    for (const node of nodes)
      await until(`node ${node} has ${last} committed`, CATCH_UP_MS, async () => {
        const answer = await user.send(node, "GET", "/app/commit").catch(() => undefined);
        if (answer?.status !== 200) return false;
        const { transaction_id: id } = JSON.parse(answer.body) as { transaction_id: string };
        return parseTxId(id).seqno >= last;
      });
  } finally {
    user.close();
  }
}

/**
 * Reads every write on every one of these nodes: what was said to be committed is there as it was written, what was
 * refused is not, and what is unknown is on all of them or on none.
 */
export async function expectKept(consortium: Consortium, load: Load, nodes: readonly number[]): Promise<void> {
  await settled(consortium, nodes);
  const found = await Promise.all(nodes.map((node) => readAll(consortium, node, load.writes)));
  const wrong: string[] = [];
  for (const { id, msg, fate, txId } of load.writes) {
    const seen = found.map((records) => records.get(id));
    const kept = seen.every((text) => text === msg);
    const absent = seen.every((text) => text === undefined);
    if ((fate === "committed" && !kept) || (fate === "refused" && !absent) || (!kept && !absent))
      wrong.push(`${id} (${txId}) was ${fate}; nodes ${nodes} have ${JSON.stringify(seen)}`);
  }
  expect(wrong).toEqual([]);
}

async function readAll(consortium: Consortium, node: number, writes: readonly Write[]): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  const left = writes.map(({ id }) => id);
  const reader = async (): Promise<void> => {
    const user = new User(consortium);
    try {
      for (let id = left.pop(); id !== undefined; id = left.pop()) {
        const { status, body } = await user.read(node, id);
        if (status === 200) found.set(id, (JSON.parse(body) as { msg: string }).msg);
        else if (status !== 404) throw new Error(`node ${node} answered a read with ${status} ${body}`);
      }
    } finally {
      user.close();
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  return found;
}
