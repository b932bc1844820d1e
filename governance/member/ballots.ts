/**
 * The two ballots that almost every vote is.
 *
 * A ballot is a JavaScript module that the service runs; these say yes and no whatever the state. The signature around a
 * ballot names the proposal, so such a ballot counts for that proposal only.
 *
 * Runs on a member's machine. Pure.
 */
export const VOTE_FOR = "export function vote(proposal, proposerId) {\n  return true;\n}\n";
export const VOTE_AGAINST = "export function vote(proposal, proposerId) {\n  return false;\n}\n";
