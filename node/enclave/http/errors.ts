/**
 * CCF's error codes (`odata_error.h`; reference ccf-api-governance.md 1.8), and the few of ours.
 *
 * Trusted. Pure.
 */
export const ERROR_CODES = [
  "AuthorizationFailed",
  "InternalError",
  "NotImplemented",
  "InvalidAuthenticationInfo",
  "InvalidHeaderValue",
  "InvalidInput",
  "InvalidQueryParameterValue",
  "InvalidResourceName",
  "MissingRequiredHeader",
  "ResourceNotFound",
  "UnsupportedHttpVerb",
  "UnsupportedContentType",
  "RequestBodyTooLarge",
  "RequestHeaderTooLarge",
  "SessionCapExhausted",
  "FrontendNotOpen",
  "KeyNotFound",
  "ProposalNotOpen",
  "ProposalNotFound",
  "ProposalFailedToValidate",
  "StateDigestMismatch",
  "TransactionNotFound",
  "TransactionCommitAttemptsExceedLimit",
  "TransactionReplicationFailed",
  "VoteNotFound",
  "VoteAlreadyExists",
  "NodeCannotHandleRequest",
  "TransactionPendingOrUnknown",
  "TransactionInvalid",
  "PrimaryNotFound",
  "BackupNotFound",
  "NodeNotRetiredCommitted",
  "SessionConsistencyLost",
  "ProposalReplay",
  "ProposalCreatedTooLongAgo",
  "InvalidCreatedAt",
  "TooManyPendingTransactions",
  "MissingApiVersionParameter",
  "UnsupportedApiVersionValue",
  "InvalidQuote",
  "InvalidNodeState",
  "NodeAlreadyExists",
  "StartupSeqnoIsOld",
  "CSRPublicKeyInvalid",
  // Ours: the request waited for commit, and the node stopped or the deadline passed before its fate was known.
  "CommitOutcomeUnknown",
] as const;

export type HttpErrorCode = (typeof ERROR_CODES)[number];

/** The JSON body of a refusal. */
export function errorBody(code: HttpErrorCode, message: string, details: readonly object[] = []): object {
  return { error: { code, message, ...(details.length > 0 && { details }) } };
}
