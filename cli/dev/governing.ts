/**
 * The members of a development network deciding something together: one proposes, the others vote until it is decided.
 *
 * The same requests that members of a real consortium sign, each on its own machine; only here one process holds all keys.
 *
 * A member's machine.
 */

import { VOTE_FOR } from "../../governance/member/ballots.ts";
import type { ServiceClient } from "../../governance/member/client.ts";
import type { Action } from "../../governance/member/request.ts";
import { createProposal, type Proposal, vote } from "../../governance/member/voting.ts";
import type { Identity } from "../client/context.ts";
import { signerOf } from "../client/session.ts";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";

export type Decision = Readonly<{
  proposal: Proposal;
  /** Who voted for it, the proposer first. */
  voters: readonly Identity[];
  /** The transaction of the ballot that decided. */
  txId: string | undefined;
}>;

/**
 * The first member proposes; members vote in order until the constitution accepts.
 * @param proposed called between the two.
 * @throws CliError if it is not accepted
 */
export async function decide(
  client: ServiceClient,
  members: readonly Identity[],
  actions: readonly Action[],
  proposed: (proposal: Proposal) => void = () => undefined,
): Promise<Decision> {
  let { value: proposal, txId } = await createProposal(client, signerOf(members[0]!), actions);
  proposed(proposal);
  const voters: Identity[] = [];
  for (const member of members) {
    if (proposal.proposalState !== "Open") break;
    voters.push(member);
    ({ value: proposal, txId } = await vote(client, signerOf(member), proposal.proposalId, VOTE_FOR));
  }
  if (proposal.proposalState === "Accepted") return { proposal, voters, txId };
  throw new CliError({
    id: "E-NOT-ACCEPTED",
    exit: EXIT.refused,
    headline: `the proposal to ${actions.map((action) => action.name).join(", ")} is ${proposal.proposalState.toLowerCase()}`,
    why:
      proposal.failure?.reason ??
      `${voters.length} of ${members.length} members voted for it; the constitution decides`,
    fix: `look at it: camerata proposal show ${proposal.proposalId}`,
  });
}
