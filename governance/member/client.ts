/**
 * An HTTPS client that talks to one service and to nobody else.
 *
 * It trusts what the pinned service certificate has endorsed, on whatever address that answers: a name proves nothing
 * about an enclave, the service's signature does. A node that is not the primary redirects writes; the redirection is
 * followed, under the same pin. A node that is restarting or electing is tried again, a bounded number of times.
 *
 * A refusal of the service becomes a `Fault` with CCF's code and words; so do all other ways in which no answer came.
 *
 * Runs on a member's machine.
 */
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../../protocol/check.ts";
import type { SignedCall } from "./request.ts";

export type ClientFault =
  /** The service answered with an error. `error` is CCF's code, such as `ProposalNotFound`. */
  | { code: "Refused"; status: number; error: string; details: readonly unknown[] }
  /** Nobody answered, after all attempts. */
  | { code: "Unreachable"; url: string }
  /** Who answered is not endorsed by the pinned service certificate. */
  | { code: "NotThisService"; url: string }
  /** No answer in time: whether the request took effect is unknown. */
  | { code: "TimedOut"; url: string }
  /** An answer that a node of this service does not give. */
  | { code: "AnswerMalformed"; url: string };

export type ClientParts = Readonly<{
  /** Where a node listens, such as `https://127.0.0.1:8000`. */
  url: string;
  /** PEM of the service certificate: the pin. */
  serviceCertificate: string;
  /** A user's or member's certificate and key, for endpoints that ask for one. */
  client?: Readonly<{ certificate: string; key: string }>;
  /** For each attempt. */
  timeoutMs?: number;
  attempts?: number;
}>;

export type Answer = Readonly<{
  status: number;
  headers: Readonly<Record<string, string>>;
  body: Buffer;
  /** Transaction id of the answer, where it has one. */
  txId: string | undefined;
}>;

export type Call = Readonly<{
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  headers?: Readonly<Record<string, string>>;
  body?: Uint8Array | string;
}>;

export interface ServiceClient {
  readonly url: string;
  /** Sends a request and returns the answer, whatever its status. @throws Fault<ClientFault> where none came */
  send(call: Call): Promise<Answer>;
  /** GET of a JSON resource. @throws Fault<ClientFault> */
  get<T>(path: string): Promise<T>;
  /** POST of a signed request; the answer's JSON, undefined for 204. @throws Fault<ClientFault> */
  post(call: SignedCall): Promise<{ value: unknown; answer: Answer }>;
  close(): void;
}

const TIMEOUT_MS = 30_000;
const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 100;
const REDIRECTS_MAX = 4;
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;

/** What is worth another attempt: nothing was lost, or the signed request may be repeated without harm. */
const PASSING_STATUS = 503;
const PASSING = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"];
const UNTRUSTED = [
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_SIGNATURE_FAILURE",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
];

export function openClient(parts: ClientParts): ServiceClient {
  const agent = new Agent({
    keepAlive: true,
    ca: parts.serviceCertificate,
    minVersion: "TLSv1.3",
    // The pin decides, see above.
    checkServerIdentity: () => undefined,
    ...(parts.client !== undefined && { cert: parts.client.certificate, key: parts.client.key }),
  });
  const client: ServiceClient = {
    url: parts.url,
    send: (call) => send(parts, agent, call),
    async get<T>(path: string): Promise<T> {
      return jsonOf(await accepted(client, { method: "GET", path }), path) as T;
    },
    async post({ path, body }) {
      const headers = { "content-type": "application/cose" };
      const answer = await accepted(client, { method: "POST", path, headers, body });
      return { value: answer.status === 204 ? undefined : jsonOf(answer, path), answer };
    },
    close: () => agent.destroy(),
  };
  return client;
}

/** The refusal in an answer, or undefined for a 2xx answer. */
export function refusalIn(answer: Pick<Answer, "status" | "body">): Fault<ClientFault> | undefined {
  if (answer.status >= 200 && answer.status < 300) return undefined;
  const { code, message, details } = errorIn(answer.body);
  return new Fault<ClientFault>(
    { code: "Refused", status: answer.status, error: code, details },
    message === "" ? `the service answered ${answer.status}` : message,
  );
}

async function accepted(client: ServiceClient, call: Call): Promise<Answer> {
  const answer = await client.send(call);
  const refusal = refusalIn(answer);
  if (refusal !== undefined) throw refusal;
  return answer;
}

async function send(parts: ClientParts, agent: Agent, call: Call): Promise<Answer> {
  const attempts = parts.attempts ?? ATTEMPTS;
  let pauseMs = FIRST_PAUSE_MS;
  for (let attempt = 1; ; attempt++) {
    const last = attempt >= attempts;
    try {
      const answer = await follow(parts, agent, call);
      if (answer.status !== PASSING_STATUS || last) return answer;
    } catch (error) {
      const fault = faultOf(error, parts.url);
      if (last || fault.detail.code !== "Unreachable") throw fault;
    }
    await sleep(pauseMs);
    pauseMs *= 2;
  }
}

async function follow(parts: ClientParts, agent: Agent, call: Call): Promise<Answer> {
  let url = new URL(call.path, parts.url);
  for (let redirects = 0; ; redirects++) {
    const answer = await once(url, agent, call, parts.timeoutMs ?? TIMEOUT_MS);
    const location = answer.headers["location"];
    if ((answer.status !== 307 && answer.status !== 308) || location === undefined) return answer;
    if (redirects >= REDIRECTS_MAX)
      throw new Fault<ClientFault>(
        { code: "Unreachable", url: url.href },
        "the nodes redirect in circles; no primary yet",
      );
    url = new URL(location, url);
    if (url.protocol !== "https:")
      throw new Fault<ClientFault>(
        { code: "AnswerMalformed", url: url.href },
        "the node redirected to something that is not https",
      );
  }
}

function once(url: URL, agent: Agent, call: Call, timeoutMs: number): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const body = typeof call.body === "string" ? Buffer.from(call.body) : call.body;
  const outgoing = request(
    url,
    {
      agent,
      method: call.method,
      headers: { ...call.headers, ...(body !== undefined && { "content-length": body.length }) },
      signal: AbortSignal.timeout(timeoutMs),
    },
    (incoming) => {
      collect(incoming, url).then(resolve, reject);
    },
  );
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

async function collect(incoming: IncomingMessage, url: URL): Promise<Answer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) {
      incoming.destroy();
      throw new Fault<ClientFault>({ code: "AnswerMalformed", url: url.href }, "the answer is too large");
    }
    chunks.push(chunk);
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(incoming.headers))
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
  return {
    status: incoming.statusCode ?? 0,
    headers,
    body: Buffer.concat(chunks),
    txId: headers["x-ms-ccf-transaction-id"],
  };
}

function faultOf(error: unknown, url: string): Fault<ClientFault> {
  if (error instanceof Fault) return error as Fault<ClientFault>;
  if (!(error instanceof Error)) throw error;
  const options = { cause: error };
  const code = "code" in error ? String(error.code) : "";
  if (error.name === "TimeoutError" || error.name === "AbortError")
    return new Fault<ClientFault>(
      { code: "TimedOut", url },
      `${url} did not answer in time; whether the request took effect is unknown`,
      options,
    );
  if (UNTRUSTED.includes(code))
    return new Fault<ClientFault>(
      { code: "NotThisService", url },
      `${url} is not endorsed by the service certificate that is pinned here (${code}): either it has not joined yet, or it belongs to another service`,
      options,
    );
  if (PASSING.includes(code) || code.startsWith("ECONN"))
    return new Fault<ClientFault>({ code: "Unreachable", url }, `${url} cannot be reached (${code})`, options);
  return new Fault<ClientFault>({ code: "AnswerMalformed", url }, `${url}: ${error.message}`, options);
}

function jsonOf(answer: Answer, path: string): unknown {
  try {
    return JSON.parse(answer.body.toString("utf8"));
  } catch (error) {
    throw new Fault<ClientFault>({ code: "AnswerMalformed", url: path }, `the answer of ${path} is not JSON`, {
      cause: error,
    });
  }
}

/** CCF's error body; a body that is none is shown as it is. */
function errorIn(body: Buffer): { code: string; message: string; details: readonly unknown[] } {
  const text = body.toString("utf8").slice(0, 64 * 1024);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { code: "Unknown", message: text.slice(0, 1000), details: [] };
  }
  const error = isRecord(value) && isRecord(value["error"]) ? value["error"] : {};
  const { code, message, details } = error as Record<string, unknown>;
  return {
    code: typeof code === "string" ? code : "Unknown",
    message: typeof message === "string" ? message : text.slice(0, 1000),
    details: Array.isArray(details) ? details : [],
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
