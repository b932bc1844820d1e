/**
 * What one client may take of this node: sessions, headers, bodies, time.
 *
 * The sizes are those of the interface that the client came in on (CCF's configuration); the times hold for all. A client
 * that reaches a limit is told so, and its session is closed, because what it would send next cannot be told apart from
 * what was cut off.
 *
 * Trusted. Pure.
 */
import type { IncomingMessage } from "node:http";
import type { EnclaveConfig } from "../../boundary/config.ts";
import { HttpError } from "./endpoint.ts";

export type InterfaceLimits = Pick<
  EnclaveConfig["rpc_interfaces"][string],
  | "endorsement"
  | "max_open_sessions_soft"
  | "max_open_sessions_hard"
  | "max_body_size"
  | "max_header_size"
  | "max_headers_count"
>;

/** Milliseconds. */
export type Deadlines = Readonly<{
  handshakeMs: number;
  /** From the first byte of a request, or from the start of the session, to the end of the headers. */
  headersMs: number;
  /** From there to the end of the body. */
  requestMs: number;
  /** How long an answer may be held back for commit. */
  commitWaitMs: number;
  /** How often slow requests are looked for. */
  checkIntervalMs: number;
}>;

export const DEADLINES: Deadlines = {
  handshakeMs: 10_000,
  headersMs: 15_000,
  requestMs: 60_000,
  commitWaitMs: 30_000,
  checkIntervalMs: 1_000,
};

/** All headers of a request together may take as many times the size of one. */
export const HEADER_BLOCK_FACTOR = 4;
/** Requests that one session may have begun and not been answered. */
export const PIPELINE_MAX = 128;

/** @throws HttpError 431 */
export function checkHeaders({ rawHeaders }: IncomingMessage, limits: InterfaceLimits): void {
  if (rawHeaders.length > 2 * limits.max_headers_count)
    throw new HttpError(
      431,
      "RequestHeaderTooLarge",
      `Too many headers (max number allowed: ${limits.max_headers_count})`,
    );
  for (let at = 0; at < rawHeaders.length; at++) {
    if ((rawHeaders[at]?.length ?? 0) <= limits.max_header_size) continue;
    const part = at % 2 === 0 ? "key" : "value";
    const name = (rawHeaders[at - (at % 2)] ?? "").slice(0, 256).toLowerCase();
    throw new HttpError(
      431,
      "RequestHeaderTooLarge",
      `Header ${part} for '${name}' is too large (max size allowed: ${sizeText(limits.max_header_size)})`,
    );
  }
}

/** All headers together, which the parser itself refuses. */
export function headersTooLarge({ max_header_size }: InterfaceLimits): HttpError {
  const size = sizeText(HEADER_BLOCK_FACTOR * max_header_size);
  return new HttpError(431, "RequestHeaderTooLarge", `Headers are too large together (max size allowed: ${size})`);
}

export function bodyTooLarge(limits: InterfaceLimits): HttpError {
  return new HttpError(
    413,
    "RequestBodyTooLarge",
    `HTTP request body is too large (max size allowed: ${sizeText(limits.max_body_size)})`,
  );
}

/** CCF's spelling of a size: the largest unit that divides it. */
export function sizeText(sizeBytes: number): string {
  for (const [unit, bytes] of [
    ["GB", 2 ** 30],
    ["MB", 2 ** 20],
    ["KB", 2 ** 10],
  ] as const)
    if (sizeBytes >= bytes && sizeBytes % bytes === 0) return `${sizeBytes / bytes}${unit}`;
  return `${sizeBytes}B`;
}
