/**
 * Every scenario file does what it says, and those written against a defect show it when the defect is put back.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Mutation } from "../../node/enclave/consensus/mutations.ts";
import { runScenario } from "./scenario.ts";

const folder = import.meta.dirname;
const files = readdirSync(folder).filter((file) => file.endsWith(".txt"));

describe("scenarios", () => {
  test.each(files)("%s", (file) => {
    const path = join(folder, file);
    const text = readFileSync(path, "utf8");
    const { printed } = runScenario(text);
    if (process.env["REWRITE_SCENARIOS"] === "1") writeFileSync(path, printed);
    else expect(printed).toBe(text);
  });
});

/** Which scenario is there for which defect. */
const AGAINST: Partial<Record<Mutation, string>> = {
  forgetVoteOnStepDown: "double-vote.txt",
  commitBeyondVerified: "follower-overcommit.txt",
  ackLocalTail: "follower-overcommit.txt",
  refusalSetsMatch: "refusal-is-no-agreement.txt",
  silentWhenRetired: "retire-leader.txt",
  ackBeforeStable: "durable-commit.txt",
  countUnstable: "durable-commit.txt",
  staleStableReport: "late-report-after-rollback.txt",
  unionQuorum: "every-configuration-votes.txt",
  commitPreviousView: "earlier-view.txt",
  truncateWithoutConflict: "no-truncation-without-conflict.txt",
  checkQuorumAny: "check-quorum.txt",
  truncateOnStepDown: "step-down-keeps-ledger.txt",
  voteForStaleLog: "stale-log-loses.txt",
  commitOldestConfiguration: "reconfigure-1-to-3.txt",
};

describe("a defect put back changes what its scenario prints", () => {
  test.each(Object.entries(AGAINST))("%s: %s", (mutation, file) => {
    const text = readFileSync(join(folder, file), "utf8");
    expect(() => expect(runScenario(text, { [mutation]: true }).printed).toBe(text)).toThrow();
  });
});
