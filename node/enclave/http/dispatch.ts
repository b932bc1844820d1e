/**
 * From a request to its answer: the checks in CCF's order, the transaction, and the wait for commit.
 *
 * The order is CCF's (CCF 7.0.2 `src/node/rpc/frontend.h`): overload, frontend, endpoint, redirection, authentication,
 * handler, session consistency, commit. When what a handler read has changed by the time it commits, all of it runs
 * again. A handler that answers at once is committed and answered at once: nothing on that path waits for a promise.
 *
 * Handlers may be given anything by clients, so an error that is not an `HttpError` is answered without its message, and
 * logged without it too: the log is the host's. A broken invariant stops the node.
 *
 * Trusted.
 */
import { Broken, Fault, isFault } from "../../../protocol/check.ts";
import { formatTxId, type TxId } from "../../../protocol/ids.ts";
import type { Tx } from "../kv/tx.ts";
import { type Answer, answerOf, refusalOf, TX_ID_HEADER } from "./answer.ts";
import { type Caller, type Endpoint, HttpError, type Reply, type ServicePort } from "./endpoint.ts";
import type { Found, Registry } from "./registry.ts";
import type { IncomingRequest } from "./request.ts";

export type DispatchParts = Readonly<{
  registry: Registry;
  service: ServicePort;
  /** How long a request may wait for its transaction to be committed. */
  commitWaitMs: number;
  log(level: "warn" | "error", message: string): void;
}>;

export interface Dispatcher {
  /**
   * Executes a request. `executed` is called once, when its effects are decided and the next request of the session may
   * run; the answer may come later, if it waits for commit. Never throws and never rejects.
   */
  dispatch(request: IncomingRequest, executed: () => void): Answer | Promise<Answer>;
  /** Answers everything that still waits for commit. */
  stop(): void;
}

/** As many attempts as CCF makes. */
const ATTEMPTS_MAX = 30;
const WAIT_HEADER = "x-camerata-wait";
/** Lines of a stack that go to the log. */
const FRAMES_MAX = 8;

/** How an attempt ended: with an answer, with one that must wait for commit, or in a conflict. */
type Attempt = Readonly<{ answer: Answer }> | Readonly<{ answer: Answer; committing: TxId; wait: Wait }> | "conflict";
type Wait = "no" | "header" | "endpoint";

export function createDispatcher(parts: DispatchParts): Dispatcher {
  const { registry, service, commitWaitMs, log } = parts;
  /** Ends each wait for commit that is going on. */
  const waits = new Set<() => void>();
  let stopped = false;

  function dispatch(request: IncomingRequest, executed: () => void): Answer | Promise<Answer> {
    const attempt = attempts(request, 1);
    if (attempt instanceof Promise)
      return attempt.then((ended) => {
        executed();
        return settle(request, ended);
      });
    executed();
    return settle(request, attempt);
  }

  /** Runs attempts until one does not end in a conflict. */
  function attempts(request: IncomingRequest, first: number): Attempt | Promise<Attempt> {
    for (let number = first; number <= ATTEMPTS_MAX; number++) {
      const ended = attempt(request);
      if (ended instanceof Promise)
        return ended.then((later) => (later === "conflict" ? attempts(request, number + 1) : later));
      if (ended !== "conflict") return ended;
    }
    return "conflict";
  }

  function attempt(request: IncomingRequest): Attempt | Promise<Attempt> {
    let endpoint: Endpoint;
    let tx: Tx;
    let wait: Wait;
    let reply: Reply | Promise<Reply>;
    try {
      const admitted = admit(request);
      if ("answer" in admitted) return admitted;
      endpoint = admitted.endpoint;
      wait = waitOf(request, endpoint);
      tx = service.begin();
    } catch (error) {
      return { answer: refuse(request, error) };
    }
    try {
      const caller = authenticate(request, endpoint, tx);
      reply = endpoint.handler({ request, caller, tx });
    } catch (error) {
      return conclude(request, endpoint, tx, wait, error, undefined);
    }
    if (reply instanceof Promise)
      return reply.then(
        (later) => conclude(request, endpoint, tx, wait, undefined, later),
        (error: unknown) => conclude(request, endpoint, tx, wait, error, undefined),
      );
    return conclude(request, endpoint, tx, wait, undefined, reply);
  }

  /** All that is checked before anyone is asked who they are. */
  function admit(request: IncomingRequest): { answer: Answer } | { endpoint: Endpoint } {
    const { frontend } = request;
    if (frontend !== "node" && service.overloaded())
      throw new HttpError(
        503,
        "TooManyPendingTransactions",
        "Too many transactions wait to be committed. Try again shortly.",
      );
    if (!service.frontendOpen(frontend)) throw new HttpError(404, "FrontendNotOpen", "Frontend is not open.");

    const found = registry.find(request.method, request.path);
    if (found.kind !== "endpoint") return { answer: noEndpoint(request, found) };
    const { endpoint, params } = found;
    if (params !== undefined) request.params = params;
    if (endpoint.kind === "write" && !service.isPrimary()) return { answer: redirect(request) };
    return { endpoint };
  }

  function redirect(request: IncomingRequest): Answer {
    const address = service.primaryAddress(request.session.interface);
    if (address === undefined)
      throw new HttpError(
        503,
        "PrimaryNotFound",
        "This request is for the primary, and none is known now. Try again shortly.",
      );
    return answerOf({ status: 307, headers: { location: `https://${address}${request.url}` } }, request);
  }

  /** What follows the handler: consistency of the session, then commit. Exactly one of `error` and `reply` is given. */
  function conclude(
    request: IncomingRequest,
    endpoint: Endpoint,
    tx: Tx,
    wait: Wait,
    error: unknown,
    reply: Reply | undefined,
  ): Attempt {
    if (isFault(error, "TxConflict")) return "conflict";
    try {
      checkSession(request);
      const answer = reply === undefined ? refuse(request, error) : answerOf(reply, request);
      const applies =
        reply === undefined ? error instanceof HttpError && error.applyWrites : reply.applyWrites === true;
      if ((answer.status >= 300 && !applies) || !tx.touched) return { answer };
      if (endpoint.kind !== "write" && tx.writes().size > 0)
        throw new Error(`${endpoint.method} ${endpoint.path} is not a write, and wrote`);

      const id = service.commit(tx);
      // View 0 is before there is any consensus: then there is nothing to name.
      if (id.view > 0) answer.headers.push(TX_ID_HEADER, formatTxId(id));
      return wait === "no" || id.view === 0 ? { answer } : { answer, committing: id, wait };
    } catch (failure) {
      if (isFault(failure, "TxConflict")) return "conflict";
      return { answer: refuse(request, failure) };
    }
  }

  function settle(request: IncomingRequest, ended: Attempt): Answer | Promise<Answer> {
    if (ended === "conflict")
      return refusalOf(
        new HttpError(
          503,
          "TransactionCommitAttemptsExceedLimit",
          `Other transactions changed what this one read, ${ATTEMPTS_MAX} times. Try again.`,
          { headers: { "retry-after": "3" } },
        ),
        request,
      );
    return "committing" in ended ? committed(request, ended.answer, ended.committing, ended.wait) : ended.answer;
  }

  /** Holds an answer back until its transaction is committed; another one takes its place if that does not happen. */
  function committed(request: IncomingRequest, answer: Answer, id: TxId, wait: Wait): Promise<Answer> {
    return new Promise((resolve) => {
      const end = (instead: Answer): void => {
        clearTimeout(deadline);
        waits.delete(giveUp);
        resolve(instead);
      };
      const giveUp = (): void => end(withTxId(unknownOutcome(request, id), id));
      const deadline = setTimeout(giveUp, commitWaitMs);
      waits.add(giveUp);
      if (stopped) giveUp();
      void service
        .outcome(id)
        .then((fate) => end(fate === "Committed" ? answer : withTxId(invalid(request, id, wait), id)));
    });
  }

  function checkSession({ session }: IncomingRequest): void {
    const view = service.view();
    if (session.view === undefined) {
      if (view > 0) session.view = view;
    } else if (session.view !== view) {
      throw new SessionLost(session.id, session.view, view);
    }
  }

  function refuse(request: IncomingRequest, error: unknown): Answer {
    if (error instanceof HttpError) return refusalOf(error, request, error instanceof SessionLost);
    if (isFault(error, "NotPrimary"))
      return refusalOf(
        new HttpError(
          503,
          "TransactionReplicationFailed",
          "This node stopped being the primary. Nothing was written; try again.",
        ),
        request,
      );
    if (error instanceof Broken) throwOutside(error);
    log("error", `a request failed: ${nameOf(error)}`);
    return refusalOf(new HttpError(500, "InternalError", "The service failed to execute this request."), request);
  }

  return {
    dispatch,
    stop() {
      stopped = true;
      for (const giveUp of waits) giveUp();
    },
  };
}

function noEndpoint(request: IncomingRequest, found: Exclude<Found, { kind: "endpoint" }>): Answer {
  if (found.kind === "unknown")
    throw new HttpError(404, "ResourceNotFound", `Unknown path: ${request.pathInFrontend}.`);
  const headers = { allow: found.allow };
  if ((request.method as string) === "OPTIONS") return answerOf({ status: 204, headers }, request);
  throw new HttpError(
    405,
    "UnsupportedHttpVerb",
    `Allowed methods for '${request.pathInFrontend}' are: ${found.allow}.`,
    { headers },
  );
}

function authenticate(request: IncomingRequest, endpoint: Endpoint, tx: Tx): Caller {
  const details: object[] = [];
  for (const policy of endpoint.auth) {
    const result = policy.authenticate(request, tx);
    if ("caller" in result) return result.caller;
    details.push({ auth_policy: policy.name, code: "InvalidAuthenticationInfo", message: result.refused });
  }
  const challenge = endpoint.auth.at(-1)?.wwwAuthenticate;
  throw new HttpError(401, "InvalidAuthenticationInfo", "Invalid authentication credentials.", {
    details,
    ...(challenge !== undefined && { headers: { "www-authenticate": challenge } }),
  });
}

function waitOf(request: IncomingRequest, endpoint: Endpoint): Wait {
  const asked = request.headers[WAIT_HEADER];
  if (asked !== undefined && asked !== "committed")
    throw new HttpError(400, "InvalidHeaderValue", `The header ${WAIT_HEADER} can only be 'committed'.`);
  if (endpoint.respondOnCommit === true) return "endpoint";
  return asked === undefined ? "no" : "header";
}

/** Lets a broken invariant through to whoever stops the process, past everyone who catches on behalf of a request. */
function throwOutside(error: Broken): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** The session saw another view: what it read before may have been rolled back since. */
class SessionLost extends HttpError {
  constructor(session: number, before: number, now: number) {
    super(
      500,
      "SessionConsistencyLost",
      `Potential loss of session consistency on session ${session}. Started in view ${before}, now in view ${now}. Closing session.`,
    );
  }
}

function invalid(request: IncomingRequest, id: TxId, wait: Wait): Answer {
  const message = `Transaction ${formatTxId(id)} was rolled back before it was committed. Nothing was written; try again.`;
  // An endpoint that always waits is CCF's, and so is its status; our own header says what a client can do about it.
  return refusalOf(new HttpError(wait === "endpoint" ? 500 : 503, "TransactionInvalid", message), request);
}

function unknownOutcome(request: IncomingRequest, id: TxId): Answer {
  const text = formatTxId(id);
  return refusalOf(
    new HttpError(
      503,
      "CommitOutcomeUnknown",
      `Transaction ${text} is not committed yet and may still be. Ask for its status: /app/tx?transaction_id=${text}.`,
    ),
    request,
  );
}

function withTxId(answer: Answer, id: TxId): Answer {
  answer.headers.push(TX_ID_HEADER, formatTxId(id));
  return answer;
}

/** What the log may say of an error: its kind and where it happened, never its message, which may quote a request. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return "something was thrown that is no error";
  const kind = error instanceof Fault ? `${error.name} ${error.detail.code}` : error.name;
  const stack = error.stack ?? "";
  const frames = stack.slice(stack.indexOf(error.message) + error.message.length).split("\n", FRAMES_MAX + 1);
  return [kind, ...frames.slice(1)].join("\n");
}
