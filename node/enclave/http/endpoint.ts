/**
 * What an endpoint is, and what a handler gets and gives.
 *
 * An API file exports a list of `Endpoint`s; `server.ts` finds the endpoint for a request, authenticates the caller,
 * runs the handler in a transaction, commits and answers. Handlers throw `HttpError` for every refusal.
 *
 * Trusted.
 */
import type { MemberId, NodeId, Seqno, TxId, TxStatus, UserId, View } from "../../../protocol/ids.ts";
import type { Tx } from "../kv/tx.ts";
import type { HttpErrorCode } from "./errors.ts";

export type Method = "GET" | "POST" | "PUT" | "DELETE" | "HEAD";
export type Frontend = "app" | "gov" | "node";

/** The connection a request came in on. */
export interface Session {
  readonly id: number;
  /** Name of the RPC interface, as in the configuration. */
  readonly interface: string;
  /** DER of the client certificate as shown; nobody has verified it. */
  readonly clientCertificate: Uint8Array | undefined;
  /** TLS exporter value of this connection (RFC 8446 7.5): equal at both ends, different for every connection. */
  exportKey(label: string, length: number): Uint8Array;
}

export interface Request {
  readonly method: Method;
  /** Path as sent, without the query; the frontend's first segment is always there. */
  readonly path: string;
  /** Path and query as sent. */
  readonly url: string;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Uint8Array;
  readonly session: Session;
  /** The body as JSON. @throws HttpError 400 `InvalidInput` */
  json(): unknown;
}

/** Who is calling, as one of the endpoint's policies established. */
export type Caller =
  | Readonly<{ policy: "no_auth" }>
  | Readonly<{ policy: "user_cert"; userId: UserId; certificate: Uint8Array }>
  | Readonly<{ policy: "member_cert"; memberId: MemberId; certificate: Uint8Array }>
  | Readonly<{ policy: "any_cert"; certificate: Uint8Array }>
  | Readonly<{ policy: "node_cert"; nodeId: NodeId }>
  | Readonly<{
      policy: "member_cose_sign1" | "active_member_cose_sign1";
      memberId: MemberId;
      /** The COSE_Sign1 as sent. */
      envelope: Uint8Array;
      payload: Uint8Array;
      signature: Uint8Array;
      /** Seconds since the epoch, from the protected header. */
      createdAt: number;
      proposalId: string | undefined;
    }>;

export type AuthResult = Readonly<{ caller: Caller }> | Readonly<{ refused: string }>;

/** A way to establish who calls. Tried in the order an endpoint lists them; the first success wins. */
export interface AuthPolicy {
  readonly name: string;
  readonly wwwAuthenticate?: string;
  authenticate(request: Request, tx: Tx): AuthResult;
}

export type Reply = Readonly<{
  status: number;
  headers?: Readonly<Record<string, string>>;
  /** Bytes go out as they are; anything else as JSON. Absent: no body. */
  body?: unknown;
  /** Commit what was written although the status is not 2xx. */
  applyWrites?: boolean;
}>;

export type Call = Readonly<{ request: Request; caller: Caller; tx: Tx }>;

export type Endpoint = Readonly<{
  method: Method;
  /** Full path with `{name}` placeholders, e.g. `/gov/members/proposals/{proposalId}:withdraw`. */
  path: string;
  auth: readonly AuthPolicy[];
  /**
   * `write`: runs on the primary only (307 elsewhere). `read`: any node; writes are an error. `local`: any node, answers
   * about this node itself.
   */
  kind: "write" | "read" | "local";
  /** Answer only once the transaction is committed, as if the client had asked for it with `x-camerata-wait`. */
  respondOnCommit?: boolean;
  handler(call: Call): Reply | Promise<Reply>;
}>;

/** What the HTTP layer needs of the node it runs in. */
export interface ServicePort {
  /** A transaction at the newest version. */
  begin(): Tx;
  /**
   * Orders what a transaction wrote, after checking that what it read is current. A transaction without writes gets the
   * id of the version it read.
   * @throws Fault `TxConflict` (run it again) or `NotPrimary` (no longer leading)
   */
  commit(tx: Tx): TxId;
  frontendOpen(frontend: Frontend): boolean;
  /** True while too much is uncommitted: everything but `/node` is refused. */
  overloaded(): boolean;
  /** This node leads and may write. */
  isPrimary(): boolean;
  /** Consensus view now; a session must not live through a change of it. */
  view(): View;
  /** `host:port` that clients reach the primary at on the interface of this name; undefined while there is none. */
  primaryAddress(interfaceName: string): string | undefined;
  commitTxId(): TxId;
  /** First transaction of each view from `since` on. */
  viewHistory(since: View): TxId[];
  txStatus(id: TxId): TxStatus;
  /** Resolves when the fate of a transaction is final. Never rejects. */
  outcome(id: TxId): Promise<"Committed" | "Invalid">;
  /** Seqno of the newest state here. */
  lastSeqno(): Seqno;
}

/** A refusal: CCF's OData error body. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: HttpErrorCode;
  readonly details: readonly object[];
  readonly headers: Readonly<Record<string, string>>;
  /** Commit what was written although this is a refusal. */
  readonly applyWrites: boolean;

  constructor(
    status: number,
    code: HttpErrorCode,
    message: string,
    more: Partial<Pick<HttpError, "details" | "headers" | "applyWrites">> = {},
  ) {
    super(message);
    this.name = "HttpError";
    this.status = status;
    this.code = code;
    this.details = more.details ?? [];
    this.headers = more.headers ?? {};
    this.applyWrites = more.applyWrites ?? false;
  }
}

export function json(body: unknown, status = 200): Reply {
  return { status, body };
}
