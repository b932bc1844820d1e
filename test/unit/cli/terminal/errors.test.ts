/** What a person reads when something goes wrong, and what a script sees. */
import { describe, expect, test } from "vitest";
import { asCliError, CliError, errorLines } from "../../../../cli/terminal/errors.ts";
import { EXIT, exitCodeOf } from "../../../../cli/terminal/exit-codes.ts";
import type { ClientFault } from "../../../../governance/member/client.ts";
import { Broken, Fault } from "../../../../protocol/check.ts";

const plain = (text: string) => text;
const refused = (status: number, error: string, details: readonly unknown[] = []) =>
  new Fault<ClientFault>({ code: "Refused", status, error, details }, "as the service said");

test("the exit codes are those that are documented, and stay so", () => {
  expect(EXIT).toEqual({
    ok: 0,
    refused: 1,
    usage: 2,
    notFound: 3,
    authentication: 4,
    state: 5,
    verification: 6,
    unknown: 7,
    unreachable: 8,
    bug: 70,
  });
});

test.each([
  [401, "InvalidAuthenticationInfo", EXIT.authentication],
  [403, "AuthorizationFailed", EXIT.authentication],
  [403, undefined, EXIT.authentication],
  [404, "ProposalNotFound", EXIT.notFound],
  [404, "FrontendNotOpen", EXIT.state],
  [400, "ProposalNotOpen", EXIT.state],
  [400, "InvalidInput", EXIT.refused],
  [401, "InvalidQuote", EXIT.verification],
  [503, "CommitOutcomeUnknown", EXIT.unknown],
  [503, "PrimaryNotFound", EXIT.unreachable],
  [503, undefined, EXIT.unreachable],
  [500, "InternalError", EXIT.refused],
])("an answer %i %s exits %i", (status, code, exit) => {
  expect(exitCodeOf(status, code)).toBe(exit);
});

test("an error has its parts in order, and a part of several lines stays in its column", () => {
  const error = new CliError({
    id: "E-CONFIG",
    exit: EXIT.usage,
    headline: "node.json cannot be used",
    what: "first\nsecond",
    why: "because",
    fix: "correct these",
  });
  expect(errorLines(error, false, plain).split("\n")).toEqual([
    "error: node.json cannot be used  [E-CONFIG]",
    "  what   first",
    "         second",
    "  why    because",
    "  fix    correct these",
  ]);
});

describe("whatever is thrown becomes an error with an exit code", () => {
  test("a refusal names CCF's code, its words and every reason in its details", () => {
    const details = [
      { auth_policy: "user_cert", code: "InvalidAuthenticationInfo", message: "No caller user certificate." },
    ];
    const { parts } = asCliError(refused(401, "InvalidAuthenticationInfo", details));
    expect(parts).toMatchObject({
      id: "E-INVALID-AUTHENTICATION-INFO",
      exit: EXIT.authentication,
      what: "401 InvalidAuthenticationInfo: as the service said",
      why: "user_cert: No caller user certificate.",
    });
  });

  test.each<[ClientFault, number]>([
    [{ code: "Unreachable", url: "https://a" }, EXIT.unreachable],
    [{ code: "TimedOut", url: "https://a" }, EXIT.unknown],
    [{ code: "NotThisService", url: "https://a" }, EXIT.authentication],
    [{ code: "AnswerMalformed", url: "https://a" }, EXIT.unknown],
  ])("%j", (detail, exit) => {
    const { parts } = asCliError(new Fault<ClientFault>(detail, "in words"));
    expect(parts).toMatchObject({ exit, headline: "in words" });
  });

  test("a fault of another floor keeps its sentence", () => {
    const { parts } = asCliError(new Fault({ code: "LedgerLocked" }, "the ledger is in use"));
    expect(parts).toMatchObject({ id: "E-LEDGER-LOCKED", exit: EXIT.refused, headline: "the ledger is in use" });
  });

  test.each([new Broken("never"), new TypeError("x is not a function"), "text"])("%s is our bug: 70", (thrown) => {
    expect(asCliError(thrown).parts.exit).toBe(EXIT.bug);
  });

  test("a connection error of Node is not our bug", () => {
    const error = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED" });
    expect(asCliError(error).parts.exit).toBe(EXIT.unreachable);
  });
});
