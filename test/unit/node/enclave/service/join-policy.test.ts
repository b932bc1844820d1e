import { describe, expect, test } from "vitest";
import { open } from "../../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import {
  checkJoinPolicy,
  checkOwnPolicy,
  invalidQuote,
  isEvidenceFault,
} from "../../../../../node/enclave/service/join-policy.ts";
import type { Claims, EvidenceFault } from "../../../../../protocol/attestation/evidence.ts";
import { Broken, Fault, isFault } from "../../../../../protocol/check.ts";
import { claims, decided, HOST_DATA, MEASUREMENT } from "./joiners.ts";

function codeOf(act: () => void): string {
  try {
    act();
    return "accepted";
  } catch (error) {
    return error instanceof Fault ? error.detail.code : String(error);
  }
}

describe("the members' policy", () => {
  const judge = (more: Partial<Claims>, tx = decided()) => codeOf(() => checkJoinPolicy(tx, { ...claims, ...more }));

  test("accepts what the members listed", () => {
    expect(judge({})).toBe("accepted");
  });

  test.each([
    ["another measurement", { measurement: "00".repeat(32) }, "FailedMeasurementNotFound"],
    ["other host data", { hostData: "00".repeat(32) }, "FailedHostDataDigestNotFound"],
    ["a debug build", { debug: true }, "FailedDebugEnclave"],
    ["a platform without a policy", { format: "AMD_SEV_SNP_v1" as const }, "Failed"],
    ["everything wrong: the debug build first", { debug: true, measurement: "x", hostData: "x" }, "FailedDebugEnclave"],
    [
      "host data and measurement wrong: host data first, as CCF",
      { measurement: "x", hostData: "x" },
      "FailedHostDataDigestNotFound",
    ],
  ])("refuses %s", (_name, more, code) => {
    expect(judge(more)).toBe(code);
  });

  test("refuses what was listed and is no longer", () => {
    const tx = decided();
    open(tx, TABLES.virtualMeasurements).delete(MEASUREMENT);
    expect(judge({}, tx)).toBe("FailedMeasurementNotFound");
    open(tx, TABLES.virtualHostData).delete(HOST_DATA);
    expect(judge({}, tx)).toBe("FailedHostDataDigestNotFound");
  });

  test("refuses a measurement that is listed as anything but AllowedToJoin", () => {
    const tx = decided();
    open(tx, TABLES.virtualMeasurements).set(MEASUREMENT, "Forbidden");
    expect(judge({}, tx)).toBe("FailedMeasurementNotFound");
  });
});

describe("a joiner's own policy", () => {
  const judge = (accepted: string[], more: Partial<Claims> = {}) =>
    codeOf(() => checkOwnPolicy(accepted, claims, { ...claims, ...more }));

  test("accepts its own measurement when its operator listed none", () => {
    expect(judge([])).toBe("accepted");
    expect(judge([], { measurement: "other" })).toBe("FailedMeasurementNotFound");
  });

  test("accepts what its operator listed, and then its own only if listed", () => {
    expect(judge(["other"], { measurement: "other" })).toBe("accepted");
    expect(judge(["other"])).toBe("FailedMeasurementNotFound");
  });

  test("accepts any host data, but no debug build and no other platform", () => {
    expect(judge([], { hostData: "00".repeat(32) })).toBe("accepted");
    expect(judge([], { debug: true })).toBe("FailedDebugEnclave");
    expect(judge([], { format: "AMD_SEV_SNP_v1" })).toBe("Failed");
  });
});

describe("the answer to refused evidence", () => {
  const cases: [EvidenceFault["code"], string][] = [
    ["Failed", "Quote could not be verified"],
    ["FailedMeasurementNotFound", "Quote does not contain known enclave measurement"],
    ["FailedInvalidQuotedPublicKey", "Quote report data does not contain node's public key hash"],
    ["FailedHostDataDigestNotFound", "Quote does not contain trusted host data"],
    ["FailedInvalidHostData", "Quote host data is not authorised"],
  ];
  test.each(cases)("%s is CCF's 401 InvalidQuote with CCF's text", (code, text) => {
    const answer = invalidQuote(new Fault({ code }, "why"));
    expect([answer.status, answer.code, answer.message]).toEqual([401, "InvalidQuote", text]);
    expect(answer.details).toEqual([{ code, message: "why" }]);
  });

  test("is given to evidence faults only", () => {
    expect(isEvidenceFault(new Fault({ code: "FailedDebugEnclave" }))).toBe(true);
    expect(isEvidenceFault(new Fault({ code: "TxConflict" }))).toBe(false);
    expect(isEvidenceFault(new Fault({ code: "toString" }))).toBe(false);
    expect(isEvidenceFault(new Broken("x"))).toBe(false);
    expect(isFault(new Broken("x"), "Failed")).toBe(false);
  });
});
