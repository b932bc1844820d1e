/**
 * What every command does that changes the service: it makes a proposal, and says in words what is signed and by whom.
 *
 * A command such as `user add` never adds a user: it proposes to. What becomes of it is the constitution's business, so
 * each of these prints the proposal's state and, while it is open, how the others vote.
 *
 * A member's machine.
 */
import type { Command } from "commander";
import { VOTE_FOR } from "../../governance/member/ballots.ts";
import { describeActions } from "../../governance/member/describe.ts";
import type { Action } from "../../governance/member/request.ts";
import { createProposal, type Proposal, vote } from "../../governance/member/voting.ts";
import type { Identity } from "../client/context.ts";
import { type Session, signerOf } from "../client/session.ts";
import { untilResolved } from "../client/transactions.ts";

export type ProposeOptions = { vote?: boolean; wait?: boolean; dryRun?: boolean };

/** The options of every command that proposes. */
export function withProposalOptions(command: Command): Command {
  return command
    .option("--vote", "also vote for it")
    .option("--wait", "wait until it is no longer open")
    .option("--dry-run", "say what would be signed, and sign nothing");
}

/** Signs and sends a proposal as the member of this session. */
export async function propose(session: Session, actions: readonly Action[], options: ProposeOptions): Promise<void> {
  const member = session.identity("member0");
  announce(session, member, "a proposal", describeActions(actions));
  if (options.dryRun === true) return session.output.say("nothing was signed (--dry-run)");
  const client = await session.client();
  let { value: proposal } = await createProposal(client, signerOf(member), actions);
  if (options.vote === true && proposal.proposalState === "Open") {
    announce(session, member, "a ballot", [`in favour of proposal ${proposal.proposalId}`]);
    ({ value: proposal } = await vote(client, signerOf(member), proposal.proposalId, VOTE_FOR));
  }
  if (options.wait === true && proposal.proposalState === "Open")
    proposal = await untilResolved(client, proposal.proposalId, session.timeoutMs);
  showProposal(session, proposal);
}

/** Says what is about to be signed, before it is. */
export function announce(session: Session, member: Identity, kind: string, lines: readonly string[]): void {
  const { output } = session;
  output.say(`${output.paint("bold", `${member.name}`)} signs ${kind} (member ${member.id.slice(0, 8)}…):`);
  for (const line of lines) output.say(`  ${line}`);
}

export function showProposal(session: Session, proposal: Proposal): void {
  session.output.record(
    {
      proposal: proposal.proposalId,
      state: proposal.proposalState,
      proposer: proposal.proposerId,
      ballots: proposal.ballotCount,
      ...(proposal.finalVotes !== undefined && { votes: proposal.finalVotes }),
      ...(proposal.voteFailures !== undefined &&
        Object.keys(proposal.voteFailures).length > 0 && { vote_failures: proposal.voteFailures }),
      ...(proposal.failure !== undefined && { failure: proposal.failure }),
    },
    "proposal",
  );
  if (proposal.proposalState === "Open")
    session.output.say(`the others vote with: camerata proposal vote ${proposal.proposalId} --for --as NAME`);
}
