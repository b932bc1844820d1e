import { describe, expect, test } from "vitest";
import { encodeEvidence } from "../../../../protocol/attestation/quote-info.ts";
import {
  CHANNEL_PURPOSE,
  JOIN_PURPOSE,
  nodeIdOf,
  nodeReportData,
  sessionReportData,
} from "../../../../protocol/attestation/report-data.ts";
import { verifyNodeEvidence, verifySessionEvidence } from "../../../../protocol/attestation/verify.ts";
import { virtualQuote } from "../../../../protocol/attestation/virtual.ts";
import { isFault } from "../../../../protocol/check.ts";

const exporter = Buffer.alloc(32, 1);
const publicKey = Buffer.alloc(91, 2);
const end = { role: "initiator", exporter, publicKey } as const;
const identity = { measurement: "m", hostData: "00".repeat(32), debug: false, productId: 1, securityVersion: 1 };

describe("session report data", () => {
  test("is the documented digest", () => {
    // printf '%b' '\x1c\0\0\0camerata channel evidence v1\x09\0\0\0initiator\x20\0\0\0' <32 x 01> '\x5b\0\0\0' <91 x 02> | sha256sum
    expect(sessionReportData(CHANNEL_PURPOSE, end).toString("hex")).toBe(
      "63d5bc5f97d86c06cd9d1ac909c6daae9d47727f8b172c497241b5bff64935fc",
    );
  });

  test("differs with the purpose, the role, the session and the key", () => {
    const variants = [
      sessionReportData(CHANNEL_PURPOSE, end),
      sessionReportData(JOIN_PURPOSE, end),
      sessionReportData(CHANNEL_PURPOSE, { ...end, role: "responder" }),
      sessionReportData(CHANNEL_PURPOSE, { ...end, exporter: Buffer.alloc(32, 3) }),
      sessionReportData(CHANNEL_PURPOSE, { ...end, publicKey: Buffer.alloc(91, 3) }),
      nodeReportData(publicKey),
    ];
    expect(new Set(variants.map((digest) => digest.toString("hex"))).size).toBe(variants.length);
  });

  test("purposes differ in the exporter's label too", () => {
    expect(CHANNEL_PURPOSE.exporterLabel).not.toBe(JOIN_PURPOSE.exporterLabel);
  });
});

describe("evidence for the wrong report data is refused by name", () => {
  const other = Buffer.alloc(32, 9);
  test("about a node key: FailedInvalidQuotedPublicKey", async () => {
    const quote = virtualQuote(identity, nodeReportData(publicKey));
    expect((await verifyNodeEvidence(quote, nodeReportData(publicKey))).measurement).toBe("m");
    await expect(verifyNodeEvidence(quote, other)).rejects.toSatisfy((error) =>
      isFault(error, "FailedInvalidQuotedPublicKey"),
    );
  });

  test("about a session: FailedSessionBinding", async () => {
    const evidence = encodeEvidence(virtualQuote(identity, sessionReportData(CHANNEL_PURPOSE, end)));
    expect((await verifySessionEvidence(evidence, sessionReportData(CHANNEL_PURPOSE, end))).measurement).toBe("m");
    await expect(verifySessionEvidence(evidence, other)).rejects.toSatisfy((error) =>
      isFault(error, "FailedSessionBinding"),
    );
  });

  test("a node's id is its report data in hex", () => {
    expect(nodeIdOf(publicKey)).toBe(nodeReportData(publicKey).toString("hex"));
  });
});
