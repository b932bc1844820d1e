/**
 * What goes back to the client: status, headers and body, ready to be written.
 *
 * Everything that a handler may have got wrong is found here, before its transaction is committed: a status that is none,
 * a header that cannot be written or is not the handler's to set, a body that has no JSON.
 *
 * Trusted.
 */
import { type ServerResponse, validateHeaderName, validateHeaderValue } from "node:http";
import { view } from "../../../protocol/bytes.ts";
import { HttpError, type Reply, type Request } from "./endpoint.ts";
import { errorBody } from "./errors.ts";

export type Answer = Readonly<{
  status: number;
  /** Names and values in turns. */
  headers: string[];
  body: string | Uint8Array | undefined;
  /** Close the session after this answer. */
  close: boolean;
}>;

export const TX_ID_HEADER = "x-ms-ccf-transaction-id";

const JSON_TYPE = "application/json";
/** Headers that only this server sets. */
const OURS: ReadonlySet<string> = new Set(["connection", "content-length", "date", "transfer-encoding", TX_ID_HEADER]);

/** @throws HttpError 406 when the client does not take JSON, 500 when the reply cannot be written */
export function answerOf(reply: Reply, request: Request): Answer {
  const { status, body } = reply;
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new HttpError(500, "InternalError", "The endpoint answered with a status that is none.");
  // CCF: a JSON handler that answers `null` has nothing to say.
  if (body === null) return answer(status === 200 ? 204 : status, reply.headers, undefined, undefined, request);
  if (body === undefined) return answer(status, reply.headers, undefined, undefined, request);
  if (body instanceof Uint8Array) return answer(status, reply.headers, "application/octet-stream", body, request);

  const text = JSON.stringify(body);
  if (text === undefined)
    throw new HttpError(500, "InternalError", "The endpoint answered with something that has no JSON.");
  const accept = request.headers["accept"];
  if (accept !== undefined && !acceptsJson(accept))
    throw new HttpError(
      406,
      "UnsupportedContentType",
      `The accept header '${accept}' does not include ${JSON_TYPE}, and this endpoint answers in nothing else.`,
    );
  return answer(status, reply.headers, JSON_TYPE, text, request);
}

export function refusalOf(error: HttpError, request: Pick<Request, "method">, close = false): Answer {
  const text = JSON.stringify(errorBody(error.code, error.message, error.details));
  return answer(error.status, error.headers, JSON_TYPE, text, request, close);
}

/** Hands an answer to node:http. */
export function send(response: ServerResponse, { status, headers, body, close }: Answer): void {
  // The fields that node:http adds on its own are no part of CCF's answers.
  response.sendDate = false;
  if (close) headers.push("connection", "close");
  // A client of HTTP/1.0 has to be told whether the connection stays open; for 1.1 silence says that it does.
  else if (response.req.httpVersionMinor > 0) response.removeHeader("connection");
  response.writeHead(status, headers);
  response.end(body);
}

function answer(
  status: number,
  extra: Reply["headers"],
  contentType: string | undefined,
  content: string | Uint8Array | undefined,
  request: Pick<Request, "method">,
  close = false,
): Answer {
  const body = request.method === "HEAD" ? undefined : typeof content === "string" ? content : content && view(content);
  const headers: string[] = [];
  let type = contentType;
  if (extra !== undefined) {
    for (const [name, value] of Object.entries(extra)) {
      const lowerName = name.toLowerCase();
      check(lowerName, value);
      if (lowerName === "content-type") type = value;
      else headers.push(lowerName, value);
    }
  }
  if (type !== undefined) headers.push("content-type", type);
  headers.push("content-length", body === undefined ? "0" : String(Buffer.byteLength(body)));
  return { status, headers, body, close };
}

function check(name: string, value: string): void {
  if (OURS.has(name))
    throw new HttpError(500, "InternalError", `The endpoint set the header ${name}, which is the server's.`);
  try {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new HttpError(500, "InternalError", "The endpoint set a header that cannot be written.");
  }
}

function acceptsJson(accept: string): boolean {
  return accept.split(",").some((range) => {
    const type = range.split(";", 1)[0]?.trim().toLowerCase();
    return type === JSON_TYPE || type === "*/*" || type === "application/*";
  });
}
