/**
 * What all endpoints of `/gov` have in common: the version of the API, the form of ids, the signed caller.
 *
 * Reference ccf-api-governance.md 4.1; messages as a running CCF 7.0.2 gave them. Trusted. Pure.
 */
import { noAuth } from "../../node/enclave/http/auth.ts";
import {
  type AuthPolicy,
  type Call,
  type Caller,
  type Endpoint,
  HttpError,
  type Reply,
} from "../../node/enclave/http/endpoint.ts";
import { fromUtf8, utf8 } from "../../protocol/bytes.ts";
import { assert, Fault } from "../../protocol/check.ts";

const VERSIONS = ["2023-06-01-preview", "2024-07-01"];
const ID = /^[0-9a-fA-F]{64}$/;

type Handler = (call: Call) => Reply | Promise<Reply>;
export type SignedCaller = Extract<Caller, { envelope: Uint8Array }>;

/** A resource that anybody may read, on any node. */
export function reads(path: string, handler: Handler): Endpoint {
  return { method: "GET", path: `/gov${path}`, auth: [noAuth], kind: "read", handler: versioned(handler) };
}

/** Something that a member asks for with a signed request. */
export function signed(
  path: string,
  policy: AuthPolicy,
  handler: (call: Call & { caller: SignedCaller }) => Reply | Promise<Reply>,
): Endpoint {
  return {
    method: "POST",
    path: `/gov${path}`,
    auth: [policy],
    kind: "write",
    handler: versioned((call) => {
      const { caller } = call;
      assert("envelope" in caller, "a signed endpoint has a signed caller");
      return handler({ ...call, caller });
    }),
  };
}

/** A path parameter that is an id. @throws HttpError 400 `InvalidResourceName` */
export function idIn({ request }: Call, name: string, kind: "proposal" | "member" | "user" | "node"): string {
  const text = request.params[name] ?? "";
  if (!ID.test(text))
    throw new HttpError(400, "InvalidResourceName", `'${text}' is not a valid hex-encoded ${kind} ID`);
  return text.toLowerCase();
}

/** JavaScript text, as it is. */
export function script(text: string): Reply {
  return { status: 200, headers: { "content-type": "text/javascript" }, body: utf8(text) };
}

function versioned(handler: Handler): Handler {
  return (call) => {
    const version = call.request.query.get("api-version");
    const supported = `The supported api-versions are: ${VERSIONS.join(", ")}`;
    if (version === null)
      throw new HttpError(
        400,
        "MissingApiVersionParameter",
        `The api-version query parameter (?api-version=) is required for all requests. ${supported}`,
      );
    if (!VERSIONS.includes(version))
      throw new HttpError(400, "UnsupportedApiVersionValue", `Unsupported api-version '${version}'. ${supported}`);
    return handler(call);
  };
}

/**
 * The text that a signed payload carries: JSON with one member of this name.
 * @throws HttpError 400 `InvalidInput` for anything else
 */
export function textIn(payload: Uint8Array, member: string, what: string): string {
  const expected = `The signed payload must be JSON of the form {"${member}": "${what}"}.`;
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(payload));
  } catch (error) {
    if (!(error instanceof SyntaxError) && !(error instanceof Fault)) throw error;
    throw new HttpError(400, "InvalidInput", `${expected} ${error.message}`);
  }
  const text: unknown = typeof value === "object" && value !== null ? Reflect.get(value, member) : undefined;
  if (typeof text !== "string") throw new HttpError(400, "InvalidInput", expected);
  return text;
}
