/**
 * The joiner's side of `/node/join`: an HTTPS client inside the enclave.
 *
 * It asks, over a stream that the enemy relays, until the service has made this node `Trusted`. Each attempt is one TLS
 * connection and one request. The server must show a certificate signed by the configured service certificate's key, which
 * is the only anchor, whatever address a redirect names; this node shows its own self-signed certificate. TLS 1.3 only: what
 * both sides prove to each other is bound to the exporter of that connection.
 *
 * What is final: another service than the configured one, a refusal (4xx), evidence that is not accepted. What is tried again
 * after `retryTimeoutMs`: no connection, 5xx, `Pending`. CCF's joiner gives up when the first connection fails; ours tries
 * until `contactTimeoutMs` have passed without any answer, because the nodes of a consortium may be started together.
 *
 * Trusted.
 */
import { X509Certificate } from "node:crypto";
import { request as httpRequest, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import { issuedByService, publicKeyOf } from "../../../network/enclave/certificates.ts";
import type { Platform } from "../../../protocol/attestation/evidence.ts";
import { concat } from "../../../protocol/bytes.ts";
import { Fault } from "../../../protocol/check.ts";
import type { Policy } from "./join-policy.ts";
import {
  checkJoinResponse,
  JOIN_EXPORTER_BYTES,
  JOIN_EXPORTER_LABEL,
  JOIN_RESPONSE_BYTES_MAX,
  type JoinRequest,
  type JoinResponse,
  makeJoinRequest,
  type NetworkInfo,
} from "./join-protocol.ts";

/** From opening the stream until the answer is complete. */
const ATTEMPT_TIMEOUT_MS = 10_000;
/** Redirects followed before the configured address is asked again. */
const REDIRECTS_MAX = 5;
const HEADER_BYTES_MAX = 16 * 1024;
const JOIN_PATH = "/node/join";

export type JoinClientParts = Readonly<{
  /** `host:port` of an RPC interface of a node of the service. */
  target: string;
  /** PEM of the service certificate that the operator trusts. */
  serviceCertificate: string;
  /** PEM of this node's self-signed certificate and its key. */
  certificate: string;
  privateKey: string;
  platform: Platform;
  /** Judges the nodes that answer. */
  policy: Policy;
  content: Omit<JoinRequest, "quote_info" | "camerata">;
  retryTimeoutMs: number;
  contactTimeoutMs: number;
  followRedirect: boolean;
  /** Opens a relayed stream to an RPC address. */
  dial(address: string): Duplex;
  log(level: "info" | "warn", message: string): void;
  /** Gives up, with its reason. */
  signal?: AbortSignal;
}>;

export type JoinClientFault =
  /** The server's refusal: its status, and CCF's error code and message where it gave them. */
  | { code: "JoinRefused"; status: number; error: string }
  /** The server is not a node of the configured service. */
  | { code: "ServiceCertificateMismatch"; address: string }
  /** Nobody answered for `contactTimeoutMs`. */
  | { code: "JoinTimedOut"; address: string }
  /** An attempt failed in a way that another may not. */
  | { code: "JoinAttemptFailed"; address: string };

/**
 * Joins: returns what a trusted node gets, verified.
 * @throws Fault<JoinClientFault | JoinFault | EvidenceFault>
 */
export async function joinService(parts: JoinClientParts): Promise<NetworkInfo> {
  let address = parts.target;
  let redirects = 0;
  let lastWords = "";
  let contactMs = performance.now();
  const say = (level: "info" | "warn", words: string) => {
    if (words !== lastWords) parts.log(level, words);
    lastWords = words;
  };
  while (true) {
    parts.signal?.throwIfAborted();
    const asked = address;
    const answer = await attempt(parts, address).catch((error: unknown) => retriable(error));
    if (answer.kind === "answered") contactMs = performance.now();
    if (answer.kind === "answered" && answer.response.network_info !== undefined) return answer.response.network_info;

    if (answer.kind === "redirected" && parts.followRedirect && ++redirects <= REDIRECTS_MAX) {
      address = answer.address;
      say("info", `joining: ${asked} names ${address} as the primary`);
      continue;
    }
    // Whoever a redirect named may be gone; the configured address knows the newer one.
    if (answer.kind !== "answered") {
      address = parts.target;
      redirects = 0;
    }
    if (answer.kind === "failed") say("warn", `joining: ${answer.why}; trying again`);
    else if (answer.kind === "redirected") say("warn", `joining: ${asked} redirects, which is not followed`);
    else say("info", `joining: this node is ${answer.response.node_status} and waits for the members to trust it`);
    if (performance.now() - contactMs > parts.contactTimeoutMs)
      throw new Fault<JoinClientFault>(
        { code: "JoinTimedOut", address: asked },
        `no node of the service answered at ${asked} for ${parts.contactTimeoutMs} ms (last: ${lastWords}); ` +
          "check target_rpc_address and that the service runs",
      );
    await sleep(parts.retryTimeoutMs, undefined, parts.signal === undefined ? {} : { signal: parts.signal });
  }
}

type Answer =
  | Readonly<{ kind: "answered"; response: JoinResponse }>
  | Readonly<{ kind: "redirected"; address: string }>
  | Readonly<{ kind: "failed"; why: string }>;

function retriable(error: unknown): Answer {
  if (error instanceof Fault && error.detail.code === "JoinAttemptFailed")
    return { kind: "failed", why: error.message };
  throw error;
}

/** One connection, one request. Every stream it opened is closed when it returns. */
async function attempt(parts: JoinClientParts, address: string): Promise<Answer> {
  const stream = parts.dial(address);
  const timeout = AbortSignal.timeout(ATTEMPT_TIMEOUT_MS);
  const signal = parts.signal === undefined ? timeout : AbortSignal.any([timeout, parts.signal]);
  const socket = connect({
    socket: stream,
    cert: parts.certificate,
    key: parts.privateKey,
    minVersion: "TLSv1.3",
    ALPNProtocols: ["http/1.1"],
    // The certificate is judged below, by the service's key alone: addresses and dates prove nothing here.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  const broken = Promise.withResolvers<never>();
  const fail = (why: string) => broken.reject(attemptFailed(address, why));
  stream.on("error", (error) => fail(error.message));
  stream.on("close", () => fail("the stream ended"));
  socket.on("error", (error) => fail(error.message));
  socket.on("close", () => fail("the connection ended"));
  signal.addEventListener("abort", () =>
    fail(timeout.aborted ? `no answer within ${ATTEMPT_TIMEOUT_MS} ms` : "given up"),
  );
  try {
    return await Promise.race([converse(parts, address, socket), broken.promise]);
  } finally {
    socket.destroy();
    stream.destroy();
  }
}

async function converse(parts: JoinClientParts, address: string, socket: TLSSocket): Promise<Answer> {
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined || !issuedByService(certificate, parts.serviceCertificate))
    throw new Fault<JoinClientFault>(
      { code: "ServiceCertificateMismatch", address },
      `the node at ${address} does not belong to the service with the configured certificate; ` +
        "check target_rpc_address and service_certificate_file",
    );
  const exporter = socket.exportKeyingMaterial(JOIN_EXPORTER_BYTES, JOIN_EXPORTER_LABEL, NO_CONTEXT);
  const ownPublicKey = publicKeyOf(new X509Certificate(parts.certificate));
  const request = await makeJoinRequest(parts.content, parts.platform, { exporter, publicKey: ownPublicKey });
  const { status, location, body } = await post(socket, address, Buffer.from(JSON.stringify(request)));
  if (status === 200) {
    const session = { exporter, publicKey: publicKeyOf(certificate) };
    const pinned = { serviceCertificate: parts.serviceCertificate, ownPublicKey };
    return { kind: "answered", response: await checkJoinResponse(body, session, parts.policy, pinned) };
  }
  if (status === 307 || status === 308) return { kind: "redirected", address: redirectTarget(address, location) };
  const error = errorOf(body);
  if (status >= 400 && status < 500)
    throw new Fault<JoinClientFault>(
      { code: "JoinRefused", status, error: error.code },
      `the node at ${address} refuses this node: ${status} ${error.code}: ${error.message}`,
    );
  throw attemptFailed(address, `it answered ${status} ${error.code}: ${error.message}`);
}

const NO_CONTEXT = Buffer.alloc(0);

type HttpAnswer = Readonly<{ status: number; location: string | undefined; body: Buffer }>;

async function post(socket: TLSSocket, address: string, body: Buffer): Promise<HttpAnswer> {
  const answer = Promise.withResolvers<IncomingMessage>();
  const request = httpRequest({
    createConnection: () => socket,
    method: "POST",
    path: JOIN_PATH,
    maxHeaderSize: HEADER_BYTES_MAX,
    headers: {
      host: address,
      "content-type": "application/json",
      "content-length": body.length,
      connection: "close",
    },
  });
  request.on("response", answer.resolve);
  request.on("error", (error) => answer.reject(attemptFailed(address, error.message)));
  request.end(body);
  const response = await answer.promise;
  return {
    status: response.statusCode ?? 0,
    location: response.headers.location,
    body: await readBody(response, address),
  };
}

async function readBody(response: IncomingMessage, address: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > JOIN_RESPONSE_BYTES_MAX) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw attemptFailed(address, error instanceof Error ? error.message : String(error));
  }
  if (bytes > JOIN_RESPONSE_BYTES_MAX)
    throw attemptFailed(address, `its answer is longer than ${JOIN_RESPONSE_BYTES_MAX} bytes`);
  return concat(chunks);
}

/** `host:port` of a redirect. The server is a node of the service, but where it sends us proves nothing. */
function redirectTarget(address: string, location: string | undefined): string {
  const url = location === undefined ? null : URL.parse(location);
  if (url === null || url.protocol !== "https:" || url.pathname !== JOIN_PATH || url.username !== "")
    throw attemptFailed(address, "it redirects to where no node can be");
  return url.port === "" ? `${url.hostname}:443` : url.host;
}

/** CCF's error body, as far as there is one. */
function errorOf(body: Buffer): { code: string; message: string } {
  try {
    const { error } = JSON.parse(body.toString("utf8"));
    const names = (Array.isArray(error.details) ? error.details : []).map((detail: { code?: unknown }) => detail.code);
    const message = [error.message, ...names.filter((name: unknown) => typeof name === "string")].join("; ");
    return { code: String(error.code).slice(0, 64), message: message.slice(0, 1024) };
  } catch {
    return { code: "unknown", message: "without an explanation" };
  }
}

function attemptFailed(address: string, why: string): Fault<JoinClientFault> {
  return new Fault<JoinClientFault>({ code: "JoinAttemptFailed", address }, `${address}: ${why}`);
}
