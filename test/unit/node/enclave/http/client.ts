/**
 * Clients for tests: TLS over a pair of streams in memory, and a reader of HTTP/1.1 answers that shows what was sent.
 */
import type { KeyObject } from "node:crypto";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { type Duplex, duplexPair } from "node:stream";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import type { Endpoint } from "../../../../../node/enclave/http/endpoint.ts";
import type { Deadlines, InterfaceLimits } from "../../../../../node/enclave/http/limits.ts";
import { createHttpServer, type HttpServer } from "../../../../../node/enclave/http/server.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { certificateId, generateEcKey } from "../../../../../protocol/crypto/keys.ts";
import { selfSigned } from "../../../../../protocol/crypto/x509.ts";
import { FakeService } from "./fake-service.ts";

export type Person = Readonly<{ key: KeyObject; certificate: string; id: string }>;

export function person(name: string, validFrom = new Date(Date.now() - 60_000), days = 30): Person {
  const key = generateEcKey("P-256").privateKey;
  const certificate = selfSigned({ subjectName: `CN=${name}`, key, validFrom, days, ca: false });
  return { key, certificate, id: certificateId(certificate) };
}

export const INTERFACE = "primary_rpc_interface";
export const LIMITS: InterfaceLimits = {
  endorsement: "Node",
  max_open_sessions_soft: 100,
  max_open_sessions_hard: 110,
  max_body_size: 1024 * 1024,
  max_header_size: 16 * 1024,
  max_headers_count: 256,
};

const NODE = person("node");

export type Bench = Readonly<{
  server: HttpServer;
  service: FakeService;
  user: Person;
  member: Person;
  logged: string[];
  connect(who?: Person, options?: ConnectionOptions): Promise<Client>;
  /** A connection without anything on top. */
  dial(interfaceName?: string): Duplex;
}>;

/** A server with a user and an active member. */
export function bench(
  endpoints: (service: FakeService) => readonly Endpoint[],
  more: { limits?: Partial<InterfaceLimits>; idleTimeoutMs?: number; deadlines?: Partial<Deadlines> } = {},
): Bench {
  const service = new FakeService();
  const user = person("user0");
  const member = person("member0");
  service.put(TABLES.userCerts, user.id, user.certificate);
  service.put(TABLES.memberCerts, member.id, member.certificate);
  service.put(TABLES.memberInfo, member.id, { status: "Active" });
  const logged: string[] = [];
  const server = createHttpServer({
    interfaces: { [INTERFACE]: { ...LIMITS, ...more.limits } },
    idleTimeoutMs: more.idleTimeoutMs ?? 60_000,
    service,
    endpoints: endpoints(service),
    log: (_level, message) => logged.push(message),
    ...(more.deadlines && { deadlines: more.deadlines }),
  });
  server.setCertificate("Node", NODE);
  const dial = (interfaceName = INTERFACE): Duplex => {
    const [ours, theirs] = duplexPair();
    // Whoever drops a connection drops both ends, as the host does.
    ours.on("close", () => theirs.destroy());
    theirs.on("close", () => ours.destroy());
    server.accept(theirs, interfaceName);
    return ours;
  };
  return {
    server,
    service,
    user,
    member,
    logged,
    dial,
    async connect(who, options) {
      const socket = connect({
        socket: dial(),
        rejectUnauthorized: false,
        ...(who && { cert: who.certificate, key: who.key.export({ type: "pkcs8", format: "pem" }) }),
        ...options,
      });
      const client = new Client(socket);
      await once(socket, "secureConnect");
      return client;
    },
  };
}

export type Answered = Readonly<{ status: number; headers: Record<string, string>; text: string; bytes: Buffer }>;

/** Sends bytes and reads answers one by one. */
export class Client {
  readonly socket: TLSSocket;
  readonly #answers: Answered[] = [];
  readonly #readers: ((answer: Answered | undefined) => void)[] = [];
  #received = Buffer.alloc(0);
  #ended = false;

  constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#parse();
    });
    const end = () => {
      this.#ended = true;
      for (const reader of this.#readers.splice(0)) reader(undefined);
    };
    socket.on("end", end);
    socket.on("close", end);
    socket.on("error", end);
  }

  /** The next answer; undefined when the server ended the connection instead. */
  next(): Promise<Answered | undefined> {
    const answer = this.#answers.shift();
    if (answer !== undefined || this.#ended) return Promise.resolve(answer);
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answered> {
    this.socket.write(request(method, path, body, headers));
    const answer = await this.next();
    if (answer === undefined) throw new Error(`no answer to ${method} ${path}`);
    return answer;
  }

  /** Resolves once the server has closed. */
  async closed(): Promise<void> {
    while (!this.#ended) await new Promise<void>((resolve) => this.#readers.push(() => resolve()));
  }

  certificateShown(): X509Certificate {
    const raw = this.socket.getPeerX509Certificate()?.raw;
    if (raw === undefined) throw new Error("the server showed no certificate");
    return new X509Certificate(raw);
  }

  #parse(): void {
    for (;;) {
      const end = this.#received.indexOf("\r\n\r\n");
      if (end < 0) return;
      const [first = "", ...lines] = this.#received.subarray(0, end).toString("latin1").split("\r\n");
      const headers = Object.fromEntries(lines.map((line) => line.split(": ", 2) as [string, string]));
      const length = Number(headers["content-length"] ?? 0);
      if (this.#received.length < end + 4 + length) return;
      const bytes = this.#received.subarray(end + 4, end + 4 + length);
      this.#received = this.#received.subarray(end + 4 + length);
      const status = Number(first.split(" ")[1]);
      // 100 Continue is no answer.
      if (status === 100) continue;
      const answer = { status, headers, bytes, text: bytes.toString() };
      const reader = this.#readers.shift();
      if (reader === undefined) this.#answers.push(answer);
      else reader(answer);
    }
  }
}

/** The bytes of a request. A body that is no string or bytes goes out as JSON. */
export function request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Buffer {
  const content =
    body === undefined
      ? Buffer.alloc(0)
      : Buffer.from(body instanceof Uint8Array || typeof body === "string" ? body : JSON.stringify(body));
  const lines = {
    host: "127.0.0.1",
    ...(body !== undefined && { "content-type": "application/json", "content-length": String(content.length) }),
    ...headers,
  };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${head.join("")}\r\n`, "latin1"), content]);
}

export function codeOf(answer: Answered): string {
  return (JSON.parse(answer.text) as { error: { code: string } }).error.code;
}
