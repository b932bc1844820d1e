/**
 * The `virtual` platform: the same code without hardware, for development and tests.
 *
 * Its evidence is a claim and no proof (attestation/virtual.ts), its memory is open to the host, and it says so:
 * `confidential` is false, and the evidence's own format name is `Insecure_Virtual`. Nothing else in the enclave knows which
 * platform it runs on.
 *
 * Trusted.
 */
import type { Platform } from "../../../protocol/attestation/evidence.ts";
import { type VirtualIdentity, virtualQuote } from "../../../protocol/attestation/virtual.ts";

/** @param identity what the enclave package was measured to be, and what the host was told to launch it with */
export function createVirtualPlatform(identity: VirtualIdentity): Platform {
  return {
    name: "virtual",
    confidential: false,
    evidence: async (reportData) => virtualQuote(identity, reportData),
  };
}
