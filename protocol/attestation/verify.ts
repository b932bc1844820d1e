/**
 * Evidence of any platform in, claims out.
 *
 * This is the first of two stages: it proves that evidence is genuine and says what it claims. Whether such code may take
 * part is the join policy's decision. Open Enclave's verifier likewise returns claims for a debug enclave; the policy is
 * what refuses it.
 *
 * Neutral. Pure.
 */
import { equal } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import type { Claims, EvidenceFault, QuoteInfo } from "./evidence.ts";
import { decodeEvidence, failed } from "./quote-info.ts";
import { REPORT_DATA_BYTES } from "./report-data.ts";
import { verifyVirtual } from "./virtual.ts";

/** Verifies evidence. @throws Fault<EvidenceFault> `Failed` */
export async function verifyEvidence(quote: QuoteInfo): Promise<Claims> {
  if (quote.format === "Insecure_Virtual") return verifyVirtual(quote);
  throw failed(`this build has no verifier for ${quote.format} evidence; it verifies Insecure_Virtual only`);
}

/** True if the evidence was made for exactly these 32 bytes: a longer field must hold zeros after them. */
export function reportDataMatches(claims: Claims, expected: Uint8Array): boolean {
  assert(expected.length === REPORT_DATA_BYTES, "report data is compared with 32 bytes");
  const { reportData } = claims;
  return (
    reportData.length >= REPORT_DATA_BYTES &&
    equal(reportData.subarray(0, REPORT_DATA_BYTES), expected) &&
    reportData.subarray(REPORT_DATA_BYTES).every((byte) => byte === 0)
  );
}

/**
 * Verifies evidence about a node key, CCF's kind.
 * @throws Fault<EvidenceFault> `Failed`, `FailedInvalidQuotedPublicKey`
 */
export async function verifyNodeEvidence(quote: QuoteInfo, reportData: Uint8Array): Promise<Claims> {
  const claims = await verifyEvidence(quote);
  if (!reportDataMatches(claims, reportData))
    throw new Fault<EvidenceFault>(
      { code: "FailedInvalidQuotedPublicKey" },
      "the evidence was not made for the key that this connection proved",
    );
  return claims;
}

/**
 * Verifies evidence that a peer sent as bytes for this very session.
 * @throws Fault<EvidenceFault> `Failed`, `FailedSessionBinding`
 */
export async function verifySessionEvidence(evidence: Uint8Array, reportData: Uint8Array): Promise<Claims> {
  const claims = await verifyEvidence(decodeEvidence(evidence));
  if (!reportDataMatches(claims, reportData))
    throw new Fault<EvidenceFault>(
      { code: "FailedSessionBinding" },
      "the evidence was made for another session, role or key: it was replayed, relayed or diverted",
    );
  return claims;
}
