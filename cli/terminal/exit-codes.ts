/**
 * The exit codes of the command line. They are part of its contract: documented in docs/cli.md, never reused.
 *
 * A script decides by these alone, so each says what to do next: correct the command, sign in differently, wait, look
 * again, or report a bug.
 *
 * Neutral. Pure.
 */
export const EXIT = {
  ok: 0,
  /** The service answered no. */
  refused: 1,
  /** The command was not understood; nothing was done. */
  usage: 2,
  notFound: 3,
  /** Not who you say, or not allowed. */
  authentication: 4,
  /** The right request at the wrong time: a closed proposal, a service that is not open, a directory in use. */
  state: 5,
  /** A ledger, a measurement or a signature does not check. */
  verification: 6,
  /** It may or may not have happened. */
  unknown: 7,
  unreachable: 8,
  /** Our bug. */
  bug: 70,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** By CCF's error codes, where they say more than the HTTP status does. */
const BY_ERROR_CODE: Readonly<Record<string, ExitCode>> = {
  AuthorizationFailed: EXIT.authentication,
  InvalidAuthenticationInfo: EXIT.authentication,
  FrontendNotOpen: EXIT.state,
  InvalidNodeState: EXIT.state,
  NodeAlreadyExists: EXIT.state,
  NodeNotRetiredCommitted: EXIT.state,
  ProposalNotOpen: EXIT.state,
  StateDigestMismatch: EXIT.state,
  VoteAlreadyExists: EXIT.state,
  ProposalReplay: EXIT.state,
  SessionCapExhausted: EXIT.unreachable,
  PrimaryNotFound: EXIT.unreachable,
  CommitOutcomeUnknown: EXIT.unknown,
  SessionConsistencyLost: EXIT.unknown,
  TransactionPendingOrUnknown: EXIT.unknown,
  InvalidQuote: EXIT.verification,
};

/** The exit code for an answer of the service that is not a success. */
export function exitCodeOf(status: number, errorCode: string | undefined): ExitCode {
  const known = errorCode === undefined ? undefined : BY_ERROR_CODE[errorCode];
  if (known !== undefined) return known;
  if (status === 401 || status === 403) return EXIT.authentication;
  if (status === 404) return EXIT.notFound;
  if (status === 503 || status === 504) return EXIT.unreachable;
  return EXIT.refused;
}
