import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { QuoteInfo } from "../../../../protocol/attestation/evidence.ts";
import { decodeEvidence, EVIDENCE_BYTES_MAX, encodeEvidence } from "../../../../protocol/attestation/quote-info.ts";
import { reportDataMatches, verifyEvidence } from "../../../../protocol/attestation/verify.ts";
import { type VirtualIdentity, verifyVirtual, virtualQuote } from "../../../../protocol/attestation/virtual.ts";
import { toBase64, utf8 } from "../../../../protocol/bytes.ts";
import { isFault } from "../../../../protocol/check.ts";

const identity: VirtualIdentity = {
  measurement: "ab".repeat(32),
  hostData: "cd".repeat(32),
  debug: false,
  authorId: "ef".repeat(32),
  productId: 7,
  securityVersion: 3,
};
const reportData = Buffer.alloc(32, 5);

/** A quote as a node running CCF 7.0.2 gave it at `/node/quotes/self`. */
const FROM_CCF =
  "eyJob3N0X2RhdGEiOiJjODQzOGU0ZmRlMTkzNGU2MWM4ODMxMTYzM2YwMDk0OWZmNjQ1ZDVjMDRjZGI4NjcxZmEzZDc4MTY0ZDJmMzA3IiwibWVhc3Vy" +
  "ZW1lbnQiOiJJbnNlY3VyZSBoYXJkLWNvZGVkIHZpcnR1YWwgbWVhc3VyZW1lbnQgdjEiLCJyZXBvcnRfZGF0YSI6ImdMMVlLZ1dScmZaWXMyR2xMSzNQ" +
  "Q0lEQlBiN0NITDBmVjdBcmlQc1BaSEk9In0=";
const CCF_NODE_ID = "80bd582a0591adf658b361a52cadcf0880c13dbec21cbd1f57b02b88fb0f6472";

const info = (quote: unknown): QuoteInfo => ({
  format: "Insecure_Virtual",
  quote: toBase64(utf8(JSON.stringify(quote))),
  endorsements: "",
});

describe("virtual evidence", () => {
  test("says what it was made to say", () => {
    expect(verifyVirtual(virtualQuote(identity, reportData))).toEqual({
      format: "Insecure_Virtual",
      measurement: identity.measurement,
      hostData: identity.hostData,
      reportData,
      debug: false,
      authorId: identity.authorId,
      productId: 7,
      securityVersion: 3,
    });
  });

  test("is CCF's JSON, members in order of name, with ours beside them", () => {
    const quote = Buffer.from(virtualQuote(identity, reportData).quote, "base64").toString();
    expect(quote).toBe(
      `{"camerata":{"author_id":"${identity.authorId}","debug":false,"product_id":7,"security_version":3},` +
        `"host_data":"${identity.hostData}","measurement":"${identity.measurement}",` +
        `"report_data":"${reportData.toString("base64")}"}`,
    );
  });

  test("of CCF itself verifies, binds CCF's node id, and counts as debug because it does not say", async () => {
    const claims = await verifyEvidence({ format: "Insecure_Virtual", quote: FROM_CCF, endorsements: "" });
    expect(claims.measurement).toBe("Insecure hard-coded virtual measurement v1");
    expect(reportDataMatches(claims, Buffer.from(CCF_NODE_ID, "hex"))).toBe(true);
    expect(claims.debug).toBe(true);
    expect(claims.productId).toBeUndefined();
  });

  const good = { host_data: identity.hostData, measurement: "m", report_data: toBase64(reportData) };
  test.each([
    ["no object", null],
    ["no measurement", { ...good, measurement: undefined }],
    ["an empty measurement", { ...good, measurement: "" }],
    ["a measurement of control characters", { ...good, measurement: "m\n" }],
    ["too long a measurement", { ...good, measurement: "m".repeat(129) }],
    ["host data that is no digest", { ...good, host_data: "xyz" }],
    ["host data in capitals", { ...good, host_data: "AB".repeat(32) }],
    ["31 bytes of report data", { ...good, report_data: toBase64(Buffer.alloc(31)) }],
    ["33 bytes of report data", { ...good, report_data: toBase64(Buffer.alloc(33)) }],
    ["report data that is not base64", { ...good, report_data: "*".repeat(44) }],
    ["an unknown member", { ...good, extra: 1 }],
    ["a debug flag that is no flag", { ...good, camerata: { debug: 0, product_id: 1, security_version: 1 } }],
    ["a product id out of range", { ...good, camerata: { debug: false, product_id: 65536, security_version: 1 } }],
    ["an unknown member of ours", { ...good, camerata: { debug: false, product_id: 1, security_version: 1, x: 1 } }],
  ])("with %s is refused", async (_name, quote) => {
    await expect(verifyEvidence(info(quote))).rejects.toSatisfy((error) => isFault(error, "Failed"));
  });

  test.each([
    ["endorsements", { endorsements: "AAAA" }],
    ["UVM endorsements", { uvm_endorsements: "AAAA" }],
    ["an endorsed TCB", { endorsed_tcb: "00" }],
    ["a quote that is not base64", { quote: "%%%%" }],
    ["a quote that is not JSON", { quote: toBase64(utf8("{")) }],
    ["a quote that is not UTF-8", { quote: toBase64(Buffer.from([0xff])) }],
    ["a quote that is too long", { quote: toBase64(utf8(`${" ".repeat(8000)}${JSON.stringify(good)}`)) }],
  ])("with %s is refused", async (_name, more) => {
    await expect(verifyEvidence({ ...info(good), ...more })).rejects.toSatisfy((error) => isFault(error, "Failed"));
  });

  test.each(["AMD_SEV_SNP_v1", "Intel_TDX_v1", "OE_SGX_v1"] as const)(
    "of %s hardware is refused with the reason that this build cannot verify it",
    async (format) => {
      await expect(verifyEvidence({ ...info(good), format })).rejects.toThrow(/no verifier for/);
    },
  );
});

describe("report data", () => {
  const claims = verifyVirtual(virtualQuote(identity, reportData));
  test("matches as a whole only", () => {
    expect(reportDataMatches(claims, reportData)).toBe(true);
    for (let at = 0; at < 32; at++) {
      const other = Buffer.from(reportData);
      other[at]! ^= 1;
      expect(reportDataMatches(claims, other)).toBe(false);
    }
  });

  test("in a longer field is followed by zeros", () => {
    const long = (tail: number) => ({ ...claims, reportData: Buffer.concat([reportData, Buffer.alloc(32, tail)]) });
    expect(reportDataMatches(long(0), reportData)).toBe(true);
    expect(reportDataMatches(long(1), reportData)).toBe(false);
    expect(reportDataMatches({ ...claims, reportData: reportData.subarray(1) }, reportData)).toBe(false);
  });
});

describe("evidence as bytes", () => {
  test("comes back as it was", () => {
    const base64 = fc.uint8Array({ maxLength: 300 }).map(toBase64);
    fc.assert(
      fc.property(
        fc.record(
          {
            format: fc.constantFrom("Insecure_Virtual" as const, "AMD_SEV_SNP_v1" as const),
            quote: base64,
            endorsements: base64,
            uvm_endorsements: base64,
            endorsed_tcb: fc.constant("0123456789abcdef"),
          },
          { requiredKeys: ["format", "quote", "endorsements"], noNullPrototype: true },
        ),
        (quote) => {
          expect(decodeEvidence(encodeEvidence(quote))).toEqual(quote);
        },
      ),
    );
  });

  const bytes = encodeEvidence(virtualQuote(identity, reportData));
  test("cut anywhere is refused", () => {
    for (let cut = 0; cut < bytes.length; cut++)
      expect(() => decodeEvidence(bytes.subarray(0, cut)), `cut at ${cut}`).toThrowError(/./);
  });

  test("that is anything else is refused with Failed", () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json().map(utf8)), (hostile) => {
        try {
          decodeEvidence(hostile);
          expect.unreachable();
        } catch (error) {
          expect(isFault(error, "Failed")).toBe(true);
        }
      }),
    );
  });

  test.each([
    ["of an unknown format", { format: "None", quote: "", endorsements: "" }],
    ["with an unknown member", { format: "Insecure_Virtual", quote: "", endorsements: "", x: 1 }],
    ["without endorsements", { format: "Insecure_Virtual", quote: "" }],
  ])("%s is refused", (_name, value) => {
    expect(() => decodeEvidence(utf8(JSON.stringify(value)))).toThrow(/evidence must be/);
  });

  test("beyond the bound is refused before it is read", () => {
    expect(() => decodeEvidence(Buffer.alloc(EVIDENCE_BYTES_MAX + 1, 32))).toThrow(/longer than/);
  });
});
