/**
 * What every platform must do, whatever its hardware. One row for each implementation.
 */
import { describe, expect, test } from "vitest";
import { createVirtualPlatform } from "../../node/enclave/service/platform-virtual.ts";
import type { Platform } from "../../protocol/attestation/evidence.ts";
import { decodeEvidence, EVIDENCE_BYTES_MAX, encodeEvidence } from "../../protocol/attestation/quote-info.ts";
import { reportDataMatches, verifyEvidence } from "../../protocol/attestation/verify.ts";
import { Broken } from "../../protocol/check.ts";

const identity = { measurement: "ab".repeat(32), hostData: "cd".repeat(32), productId: 1, securityVersion: 2 };

const platforms: [string, (debug: boolean) => Platform, { confidential: boolean }][] = [
  ["virtual", (debug) => createVirtualPlatform({ ...identity, debug }), { confidential: false }],
];

describe.each(platforms)("the %s platform", (name, create, { confidential }) => {
  const platform = create(false);
  const reportData = Buffer.from(Array.from({ length: 32 }, (_, i) => i));

  test("says what it is", () => {
    expect([platform.name, platform.confidential]).toEqual([name, confidential]);
  });

  test("gives evidence that its verifier accepts, for the report data it was given", async () => {
    const claims = await verifyEvidence(await platform.evidence(reportData));
    expect(reportDataMatches(claims, reportData)).toBe(true);
    expect(claims).toMatchObject({ ...identity, debug: false });
  });

  test("gives other evidence for other report data", async () => {
    const claims = await verifyEvidence(await platform.evidence(Buffer.alloc(32)));
    expect(reportDataMatches(claims, reportData)).toBe(false);
  });

  test("takes 32 bytes of report data and nothing else", async () => {
    for (const length of [0, 31, 33, 64])
      await expect(platform.evidence(Buffer.alloc(length))).rejects.toBeInstanceOf(Broken);
  });

  test("says of a debug build that it is one", async () => {
    expect((await verifyEvidence(await create(true).evidence(reportData))).debug).toBe(true);
  });

  test("makes evidence that fits into a frame and survives it", async () => {
    const quote = await platform.evidence(reportData);
    const bytes = encodeEvidence(quote);
    expect(bytes.length).toBeLessThanOrEqual(EVIDENCE_BYTES_MAX);
    expect(decodeEvidence(bytes)).toEqual(quote);
  });

  test.runIf(!confidential)("says in every quote that it is insecure", async () => {
    expect((await platform.evidence(reportData)).format).toMatch(/^Insecure/);
  });
});
