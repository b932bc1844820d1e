/**
 * A request as handlers see it: node:http's message with CCF's view of the URL.
 *
 * Nothing is parsed before somebody asks for it.
 *
 * Trusted.
 */

import { isUtf8 } from "node:buffer";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { view } from "../../../protocol/bytes.ts";
import { type Frontend, HttpError, type Method, type Request } from "./endpoint.ts";
import type { HttpSession } from "./session.ts";

const FRONTENDS: readonly Frontend[] = ["app", "gov", "node"];
const NO_PARAMS: Readonly<Record<string, string>> = Object.freeze({});
/** The form of a request's target that proxies use: scheme and authority before the path. */
const ABSOLUTE = /^https?:\/\/[^/?#]*/i;

export class IncomingRequest implements Request {
  readonly url: string;
  readonly path: string;
  readonly frontend: Frontend;
  readonly session: HttpSession;
  readonly body: Uint8Array;
  params: Readonly<Record<string, string>> = NO_PARAMS;
  readonly #message: IncomingMessage;
  readonly #queryAt: number;
  #query: URLSearchParams | undefined;

  /** @param target the request target as it was sent */
  constructor(message: IncomingMessage, target: string, session: HttpSession, body: Uint8Array) {
    this.#message = message;
    this.url = target.startsWith("/") ? target : target.replace(ABSOLUTE, "");
    this.session = session;
    this.body = body;
    const end = endOfPath(this.url);
    this.#queryAt = end;
    const path = this.url.slice(0, end);
    const frontend = FRONTENDS.find((name) => path.startsWith(name, 1) && isBoundary(path, 1 + name.length));
    this.frontend = frontend ?? "app";
    // The application is also served without its prefix, and everything that is nobody's is the application's.
    this.path = frontend === undefined ? `/app${path}` : path;
  }

  /** For an endpoint's handler it is one of `Method`: there are no endpoints for others. */
  get method(): Method {
    return this.#message.method as Method;
  }

  get headers(): Readonly<Record<string, string | undefined>> {
    return this.#message.headers as IncomingHttpHeaders & Record<string, string | undefined>;
  }

  get query(): URLSearchParams {
    if (this.#query === undefined) {
      const hash = this.url.indexOf("#", this.#queryAt);
      this.#query = new URLSearchParams(this.url.slice(this.#queryAt + 1, hash < 0 ? undefined : hash));
    }
    return this.#query;
  }

  /** The path below the frontend, as error messages name it. */
  get pathInFrontend(): string {
    return this.path.slice(1 + this.frontend.length) || "/";
  }

  json(): unknown {
    if (this.body.length === 0) return {};
    if (!isUtf8(this.body)) throw new HttpError(400, "InvalidInput", "The body is not UTF-8 text.");
    try {
      return JSON.parse(view(this.body).toString("utf8")) as unknown;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new HttpError(400, "InvalidInput", `The body is not JSON: ${error.message}`);
    }
  }
}

function endOfPath(url: string): number {
  for (let at = 0; at < url.length; at++) {
    const char = url.charCodeAt(at);
    if (char === 0x3f || char === 0x23) return at;
  }
  return url.length;
}

/** True where a path segment ends. */
function isBoundary(path: string, at: number): boolean {
  return at === path.length || path.charCodeAt(at) === 0x2f;
}
