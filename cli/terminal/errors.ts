/**
 * An error as a person meets it: what happened, why, and what to do about it.
 *
 * Four fixed parts in a fixed order: a headline with a stable id, `what`, `why`, `fix`. An error without a remedy is not
 * finished, so `fix` is required here. Anything that is not a `CliError` when it reaches the top is our bug, and is shown
 * as one with exit code 70.
 *
 * Neutral. Pure.
 */
import type { ClientFault } from "../../governance/member/client.ts";
import { Fault } from "../../protocol/check.ts";
import { EXIT, type ExitCode, exitCodeOf } from "./exit-codes.ts";
import { visible } from "./output.ts";

export type CliErrorParts = Readonly<{
  /** Stable, upper case: `E-PORT-IN-USE`. */
  id: string;
  exit: ExitCode;
  /** Continues "error: ". */
  headline: string;
  what?: string;
  why?: string;
  fix: string;
}>;

export class CliError extends Error {
  readonly parts: CliErrorParts;

  constructor(parts: CliErrorParts, options?: ErrorOptions) {
    super(parts.headline, options);
    this.name = "CliError";
    this.parts = parts;
  }
}

/** The command line was wrong. */
export function usageError(headline: string, fix: string): CliError {
  return new CliError({ id: "E-USAGE", exit: EXIT.usage, headline, fix });
}

/** A file that was named on the command line cannot be read. */
export function unreadable(path: string, cause: unknown): CliError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new CliError(
    {
      id: "E-FILE",
      exit: EXIT.usage,
      headline: `cannot read ${path}`,
      why,
      fix: "name a file that exists and is yours",
    },
    { cause },
  );
}

/** Gives anything thrown the form of a `CliError`. */
export function asCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (error instanceof Fault) {
    const parts = fromFault(error);
    return new CliError(parts, { cause: error });
  }
  const unreachable = connectionCode(error);
  if (unreachable !== undefined)
    return new CliError(
      {
        id: "E-UNREACHABLE",
        exit: EXIT.unreachable,
        headline: "the node does not answer",
        why: unreachable,
        fix: "check the address (--url or --node) and that the node runs: camerata node ls",
      },
      { cause: error },
    );
  const message = error instanceof Error ? error.message : String(error);
  return new CliError(
    {
      id: "E-BUG",
      exit: EXIT.bug,
      headline: "something that must not happen happened",
      what: message,
      why: "this is a mistake in camerata, not in what you typed",
      fix: "please report it with the output of the same command and --verbose",
    },
    { cause: error },
  );
}

/** The lines of an error, without a final line break. `paint` colours the headline's first word. */
export function errorLines(error: CliError, verbose: boolean, paint: (text: string) => string): string {
  const { id, headline, what, why, fix } = error.parts;
  const lines = [`${paint("error:")} ${visible(headline)}  [${id}]`];
  for (const [name, text] of Object.entries({ what, why, fix }))
    if (text !== undefined)
      lines.push(
        ...visible(text)
          .split("\n")
          .map((line, at) => `  ${(at === 0 ? name : "").padEnd(5)}  ${line}`),
      );
  if (verbose)
    lines.push(String(error.stack), ...(error.cause instanceof Error ? [`cause: ${error.cause.stack}`] : []));
  return lines.join("\n");
}

/** An expected failure of a floor below: its sentence names cause and remedy already. */
function fromFault(fault: Fault): CliErrorParts {
  const detail = fault.detail as ClientFault;
  switch (detail.code) {
    case "Refused":
      return {
        id: `E-${idOf(detail.error)}`,
        exit: exitCodeOf(detail.status, detail.error),
        headline: "the service refused",
        what: `${detail.status} ${detail.error}: ${fault.message}`,
        ...(detail.details.length > 0 && { why: detail.details.map(reasonIn).join("\n") }),
        fix: REMEDY[detail.error] ?? "correct the request and send it again; it had no effect",
      };
    case "Unreachable":
      return {
        id: "E-UNREACHABLE",
        exit: EXIT.unreachable,
        headline: fault.message,
        fix: "check the address (--url or --node) and that the node runs: camerata node ls",
      };
    case "TimedOut":
      return {
        id: "E-TIMED-OUT",
        exit: EXIT.unknown,
        headline: fault.message,
        fix: "look whether it happened before you send it again",
      };
    case "NotThisService":
      return {
        id: "E-NOT-THIS-SERVICE",
        exit: EXIT.authentication,
        headline: fault.message,
        fix: "compare the service certificate (--ca) with the one that the members agreed on",
      };
    case "AnswerMalformed":
      return {
        id: "E-ANSWER",
        exit: EXIT.unknown,
        headline: fault.message,
        fix: "check that the address is that of a node of this service",
      };
  }
  return {
    id: `E-${idOf(fault.detail.code)}`,
    exit: EXIT.refused,
    headline: fault.message,
    fix: "do as it says; --verbose shows where it was noticed",
  };
}

/** What helps against refusals that people meet often. */
const REMEDY: Readonly<Record<string, string>> = {
  InvalidAuthenticationInfo: "act as someone the service knows: --as NAME, or --cert and --key",
  AuthorizationFailed: "ask a member to propose it, or act as another: --as NAME",
  FrontendNotOpen: "the members open the service first: camerata service open",
  ProposalNotOpen: "look at what became of it: camerata proposal show ID",
  VoteAlreadyExists: "a ballot cannot be changed; the proposer may withdraw the proposal and make a new one",
  StateDigestMismatch: "acknowledge again: camerata member ack",
  ResourceNotFound: "check the path and the id",
  ProposalNotFound: "list what is there: camerata proposal ls",
};

/** `VoteAlreadyExists` as `VOTE-ALREADY-EXISTS`. */
function idOf(code: string): string {
  return code.replaceAll(/([a-z0-9])([A-Z])/g, "$1-$2").toUpperCase();
}

/** One entry of an OData error's details. */
function reasonIn(detail: unknown): string {
  const { message, auth_policy: policy } = detail as { message?: unknown; auth_policy?: unknown };
  const text = typeof message === "string" ? message : JSON.stringify(detail);
  return typeof policy === "string" ? `${policy}: ${text}` : text;
}

const CONNECTION_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENOTFOUND",
  "ETIMEDOUT",
  "EPIPE",
  "EAI_AGAIN",
]);

function connectionCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = (error as NodeJS.ErrnoException).code;
  return code !== undefined && CONNECTION_CODES.has(code) ? error.message : undefined;
}
