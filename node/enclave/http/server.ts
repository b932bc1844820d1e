/**
 * HTTP inside the enclave: TLS streams in, endpoints' answers out.
 *
 * There is no listener. The host relays a connection's bytes, `tls.ts` makes a socket of them, node:http parses,
 * fastify takes the request through its life cycle, and `dispatch.ts` decides. fastify has one route, because CCF's
 * rules of routing are not its own; the body is collected here, because what arrives before the limits are checked must
 * not be parsed by content type.
 *
 * A session that is over a limit, slow or unintelligible is answered once and closed; see `limits.ts`.
 *
 * Trusted.
 */
import {
  createServer as createNodeHttpServer,
  type IncomingMessage,
  type Server as NodeHttpServer,
  type ServerResponse,
} from "node:http";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import createFastify, { type FastifyInstance } from "fastify";
import { present } from "../../../protocol/check.ts";
import { type Answer, refusalOf, send } from "./answer.ts";
import { apiEndpoints } from "./api-document.ts";
import { createDispatcher, type Dispatcher } from "./dispatch.ts";
import { type Endpoint, HttpError, type ServicePort } from "./endpoint.ts";
import { errorBody } from "./errors.ts";
import {
  bodyTooLarge,
  checkHeaders,
  DEADLINES,
  type Deadlines,
  HEADER_BLOCK_FACTOR,
  headersTooLarge,
  type InterfaceLimits,
  PIPELINE_MAX,
} from "./limits.ts";
import { createRegistry } from "./registry.ts";
import { IncomingRequest } from "./request.ts";
import { HttpSession, type Turn } from "./session.ts";
import { createTlsTerminator, type TlsIdentity, type TlsTerminator } from "./tls.ts";

export type HttpServerParts = Readonly<{
  /** By name, as in the configuration. */
  interfaces: Readonly<Record<string, InterfaceLimits>>;
  /** Sessions without a request for this long are closed. */
  idleTimeoutMs: number;
  service: ServicePort;
  /** Every endpoint; the API documents are added. */
  endpoints: readonly Endpoint[];
  log(level: "warn" | "error", message: string): void;
  deadlines?: Partial<Deadlines>;
}>;

export interface HttpServer {
  /** Takes a client's connection on an interface. Over the hard cap, or before there is a certificate, it is dropped. */
  accept(stream: Duplex, interfaceName: string): void;
  /** Shows this certificate from now on, on the interfaces with this endorsement. */
  setCertificate(endorsement: InterfaceLimits["endorsement"], identity: TlsIdentity): void;
  sessionCounts(): SessionMetrics;
  /** Answers what still waits for commit, then ends every session. */
  close(): Promise<void>;
}

/** The `sessions` of CCF's `GET /node/metrics`. */
export type SessionMetrics = {
  active: number;
  peak: number;
  interfaces: Record<string, InterfaceMetrics>;
};
export type InterfaceMetrics = {
  active: number;
  peak: number;
  soft_cap: number;
  hard_cap: number;
  errors: { parsing: number; request_header_too_large: number; request_payload_too_large: number };
};

type Interface = {
  readonly name: string;
  readonly limits: InterfaceLimits;
  readonly metrics: InterfaceMetrics;
  readonly tls: TlsTerminator;
};

/** What is known of a socket beside its session. */
type Client = {
  readonly session: HttpSession;
  readonly at: Interface;
  /** Over the soft cap: every request is refused. */
  readonly surplus: boolean;
  /** Requests begun and not answered. */
  open: number;
  /** One of them is still arriving. */
  arriving: boolean;
};

/** A message on its way through fastify, with the target that fastify's one route took the place of. */
type Incoming = IncomingMessage & { originalUrl?: string };

const NO_BODY = new Uint8Array(0);
/** The methods of node:http that fastify routes; any other one goes to its not-found handler, which is the same. */
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];

export function createHttpServer(parts: HttpServerParts): HttpServer {
  return new Server(parts);
}

class Server implements HttpServer {
  readonly #interfaces: ReadonlyMap<string, Interface>;
  readonly #clients = new WeakMap<object, Client>();
  readonly #streams = new Set<Duplex>();
  readonly #dispatcher: Dispatcher;
  readonly #log: HttpServerParts["log"];
  readonly #http: NodeHttpServer;
  readonly #fastify: FastifyInstance;
  readonly #becomingReady: Promise<void>;
  #ready = false;
  #peak = 0;
  #nextSession = 1;
  #closing = false;
  #whenEmpty: (() => void) | undefined;

  constructor({ interfaces, idleTimeoutMs, service, endpoints, log, deadlines }: HttpServerParts) {
    const times = { ...DEADLINES, ...deadlines };
    this.#log = log;
    this.#interfaces = new Map(
      Object.entries(interfaces).map(([name, limits]) => [name, this.#openInterface(name, limits, times)]),
    );
    const registry = createRegistry([...endpoints, ...apiEndpoints(endpoints)]);
    this.#dispatcher = createDispatcher({ registry, service, commitWaitMs: times.commitWaitMs, log });

    let http: NodeHttpServer | undefined;
    this.#fastify = createFastify({
      logger: false,
      exposeHeadRoutes: false,
      genReqId: () => "",
      rewriteUrl: () => "/",
      clientErrorHandler: (error, socket) => this.#unreadable(error, socket as unknown as TLSSocket),
      serverFactory: (handler) => (http = this.#nodeServer(handler, idleTimeoutMs, times)),
    });
    // To fastify no method has a body: it is read by `#receive`, under the limits of the interface.
    for (const method of METHODS) this.#fastify.addHttpMethod(method, { hasBody: false, overrideExisting: true });
    const take = (request: { raw: Incoming }, reply: { raw: ServerResponse; hijack(): unknown }): void => {
      reply.hijack();
      this.#receive(request.raw, reply.raw);
    };
    this.#fastify.route({ method: METHODS, url: "/", handler: take });
    this.#fastify.setNotFoundHandler(take);
    this.#becomingReady = Promise.resolve(this.#fastify.ready()).then(() => {
      this.#ready = true;
    });
    this.#http = present(http, "fastify makes its server at once");
  }

  accept(stream: Duplex, interfaceName: string): void {
    const at = this.#interfaces.get(interfaceName);
    if (at === undefined || this.#closing || !at.tls.ready() || at.metrics.active >= at.limits.max_open_sessions_hard) {
      stream.destroy();
      return;
    }
    this.#streams.add(stream);
    at.metrics.active++;
    at.metrics.peak = Math.max(at.metrics.peak, at.metrics.active);
    this.#peak = Math.max(this.#peak, this.#streams.size);
    stream.once("close", () => {
      this.#streams.delete(stream);
      at.metrics.active--;
      if (this.#streams.size === 0) this.#whenEmpty?.();
    });
    // fastify is ready a few turns after the start; from then on nothing waits. No later step may: a client may end its
    // session in the very bytes that end the handshake.
    if (this.#ready) at.tls.accept(stream);
    else void this.#becomingReady.then(() => stream.destroyed || at.tls.accept(stream));
  }

  setCertificate(endorsement: InterfaceLimits["endorsement"], identity: TlsIdentity): void {
    for (const { limits, tls } of this.#interfaces.values())
      if (limits.endorsement === endorsement) tls.setIdentity(identity);
  }

  sessionCounts(): SessionMetrics {
    return {
      active: this.#streams.size,
      peak: this.#peak,
      interfaces: Object.fromEntries([...this.#interfaces].map(([name, { metrics }]) => [name, metrics])),
    };
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#dispatcher.stop();
    // The answers that were just given are written in promise callbacks; after them idle sessions can be told apart.
    await new Promise(setImmediate);
    this.#http.close();
    await this.#drained();
    for (const stream of this.#streams) stream.destroy();
    await this.#fastify.close();
  }

  /** Resolves when the last session has ended, or has had its time. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#streams.size === 0) return resolve();
      const deadline = setTimeout(resolve, FAREWELL_MS);
      this.#whenEmpty = () => {
        clearTimeout(deadline);
        resolve();
      };
    });
  }

  #openInterface(name: string, limits: InterfaceLimits, { handshakeMs }: Deadlines): Interface {
    const at: Interface = {
      name,
      limits,
      metrics: {
        active: 0,
        peak: 0,
        soft_cap: limits.max_open_sessions_soft,
        hard_cap: limits.max_open_sessions_hard,
        errors: { parsing: 0, request_header_too_large: 0, request_payload_too_large: 0 },
      },
      tls: createTlsTerminator({ handshakeTimeoutMs: handshakeMs, secured: (socket) => this.#secured(socket, at) }),
    };
    return at;
  }

  #nodeServer(
    handler: (request: IncomingMessage, response: ServerResponse) => void,
    idleTimeoutMs: number,
    times: Deadlines,
  ): NodeHttpServer {
    const limits = [...this.#interfaces.values()].map((at) => at.limits);
    const server = createNodeHttpServer(
      {
        // The parser's own bounds hold for every interface; each interface's are checked on what it lets through.
        maxHeaderSize: HEADER_BLOCK_FACTOR * Math.max(...limits.map(({ max_header_size }) => max_header_size)),
        headersTimeout: Math.min(times.headersMs, idleTimeoutMs),
        requestTimeout: Math.max(times.requestMs, Math.min(times.headersMs, idleTimeoutMs)),
        connectionsCheckingInterval: times.checkIntervalMs,
        keepAliveTimeout: idleTimeoutMs,
        keepAliveTimeoutBuffer: 0,
        requireHostHeader: false,
      },
      handler,
    );
    // The parser drops what is beyond this number; one more is let through, so that it is noticed.
    server.maxHeadersCount = Math.max(...limits.map(({ max_headers_count }) => max_headers_count)) + 1;
    // A client that does not read its answer: nothing moves in either direction for longer than any request may wait.
    server.timeout = idleTimeoutMs + times.commitWaitMs;
    // Starts node:http's search for slow requests, which otherwise begins with `listen`.
    server.emit("listening");
    return server;
  }

  #secured(socket: TLSSocket, at: Interface): void {
    const session = new HttpSession(this.#nextSession++, at.name, socket);
    const surplus = at.metrics.active > at.limits.max_open_sessions_soft;
    this.#clients.set(socket, { session, at, surplus, open: 0, arriving: false });
    this.#http.emit("connection", socket);
  }

  /** The headers of a request are here; the body may follow. */
  #receive(message: Incoming, response: ServerResponse): void {
    const client = present(this.#clients.get(message.socket), "requests come from sockets of ours");
    if (++client.open > PIPELINE_MAX) {
      this.#log("warn", `session ${client.session.id} sent more than ${PIPELINE_MAX} requests without an answer`);
      message.socket.destroy();
      return;
    }
    const turn = client.session.arrive();
    try {
      if (client.surplus) throw BUSY;
      checkHeaders(message, client.at.limits);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#refuse(message, response, client, turn, error);
      return;
    }
    this.#collect(message, response, client, turn);
  }

  /** Collects the body, and then waits for the request's turn. */
  #collect(message: Incoming, response: ServerResponse, client: Client, turn: Turn): void {
    const { headers, method } = message;
    const length = headers["content-length"];
    const chunked = headers["transfer-encoding"] !== undefined;
    // CCF ignores what a GET carries. node:http throws it away.
    if ((!chunked && (length === undefined || length === "0")) || method === "GET" || method === "HEAD") {
      this.#complete(message, response, client, turn, NO_BODY);
      return;
    }
    const sizeMax = client.at.limits.max_body_size;
    if (Number(length) > sizeMax) {
      this.#refuse(message, response, client, turn, bodyTooLarge(client.at.limits));
      return;
    }
    client.arriving = true;
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    message.on("data", (chunk: Buffer) => {
      if (sizeBytes > sizeMax) return;
      sizeBytes += chunk.length;
      if (sizeBytes > sizeMax) this.#refuse(message, response, client, turn, bodyTooLarge(client.at.limits));
      else chunks.push(chunk);
    });
    message.on("end", () => {
      if (sizeBytes > sizeMax) return;
      const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, sizeBytes);
      this.#complete(message, response, client, turn, body ?? NO_BODY);
    });
  }

  #complete(message: Incoming, response: ServerResponse, client: Client, turn: Turn, body: Uint8Array): void {
    const { session } = client;
    client.arriving = false;
    session.ready(turn, () => {
      const target = present(message.originalUrl, "fastify keeps the target that it rewrites");
      const request = new IncomingRequest(message, target, session, body);
      const answer = this.#dispatcher.dispatch(request, () => session.leave(turn));
      if (answer instanceof Promise) void answer.then((later) => this.#answer(response, client, later));
      else this.#answer(response, client, answer);
    });
  }

  #answer(response: ServerResponse, client: Client, answer: Answer): void {
    client.open--;
    send(response, this.#closing ? { ...answer, close: true } : answer);
  }

  /** Refuses a request before it is executed, and closes the session behind it. */
  #refuse(message: Incoming, response: ServerResponse, client: Client, turn: Turn, error: HttpError): void {
    client.arriving = false;
    const { errors } = client.at.metrics;
    if (error.status === 431) errors.request_header_too_large++;
    if (error.status === 413) errors.request_payload_too_large++;
    this.#answer(response, client, refusalOf(error, { method: message.method as "GET" }, true));
    client.session.leave(turn);
  }

  /** What arrived is no HTTP, or did not arrive in time. */
  #unreadable(error: Error & { code?: string }, socket: TLSSocket): void {
    const client = this.#clients.get(socket);
    // An answer that is on its way would be torn apart by this one.
    if (client === undefined || client.open > (client.arriving ? 1 : 0) || !socket.writable) {
      socket.destroy();
      return;
    }
    const { errors } = client.at.metrics;
    if (error.code === "HPE_HEADER_OVERFLOW") errors.request_header_too_large++;
    else if (error.code?.startsWith("HPE_") === true) errors.parsing++;
    socket.end(farewell(error.code, client.at.limits));
    socket.destroySoon();
  }
}

const BUSY = new HttpError(503, "SessionCapExhausted", "Service is currently busy and unable to serve new connections");
/** How long sessions have to take their last answer when the server closes. */
const FAREWELL_MS = 1_000;

function farewell(code: string | undefined, limits: InterfaceLimits): string {
  if (code === "HPE_HEADER_OVERFLOW") {
    const { code: name, message } = headersTooLarge(limits);
    return lastAnswer(
      "431 Request Header Fields Too Large",
      "application/json",
      JSON.stringify(errorBody(name, message)),
    );
  }
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return lastAnswer("408 Request Timeout", "text/plain", "The request did not arrive in time.");
  return lastAnswer("400 Bad Request", "text/plain", `HTTP parsing failed (${code ?? "unknown"}).`);
}

/** An answer that is written past node:http. The text is ASCII. */
function lastAnswer(status: string, contentType: string, text: string): string {
  const lines = [`content-type: ${contentType}`, `content-length: ${text.length}`, "connection: close"];
  return [`HTTP/1.1 ${status}`, ...lines, "", text].join("\r\n");
}
