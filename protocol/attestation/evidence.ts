/**
 * What evidence is, and what a verifier says about it.
 *
 * `QuoteInfo` is CCF's JSON, as it travels in `/node/join` and lies in `public:ccf.gov.nodes.info`. A verifier proves
 * that evidence is genuine; whether such code may join is the join policy's business.
 *
 * Neutral. Pure.
 */
export type QuoteFormat = "Insecure_Virtual" | "OE_SGX_v1" | "AMD_SEV_SNP_v1" | "Intel_TDX_v1";

/** CCF's quote object. `quote` and `endorsements` are base64. */
export type QuoteInfo = Readonly<{
  format: QuoteFormat;
  quote: string;
  endorsements: string;
  uvm_endorsements?: string;
  endorsed_tcb?: string;
}>;

/** What genuine evidence says. Digests are lower-case hex. */
export type Claims = Readonly<{
  format: QuoteFormat;
  /** Open Enclave's unique id: the measurement of the code. */
  measurement: string;
  /** What the host was told to launch with. */
  hostData: string;
  /** The bytes that the enclave put in: at least the 32 of a SHA-256. */
  reportData: Uint8Array;
  debug: boolean;
  /** Open Enclave's author id (hash of the signer's public key), product id and security version, where known. */
  authorId?: string;
  productId?: number;
  securityVersion?: number;
}>;

/** CCF's words for refusals (`QuoteVerificationResult`), and ours for what CCF does not check. */
export type EvidenceFault = {
  code:
    | "Failed"
    | "FailedMeasurementNotFound"
    | "FailedInvalidQuotedPublicKey"
    | "FailedHostDataDigestNotFound"
    | "FailedInvalidHostData"
    | "FailedDebugEnclave"
    | "FailedSessionBinding";
};

/** What a node's own platform gives it. */
export interface Platform {
  readonly name: "virtual" | "snp" | "tdx" | "sgx";
  /** False for `virtual`: every surface that shows a node says so. */
  readonly confidential: boolean;
  /** Evidence about this enclave with these 32 bytes of report data. */
  evidence(reportData: Uint8Array): Promise<QuoteInfo>;
}
