/**
 * `/gov/members/proposals`: proposals and ballots.
 *
 * Paths, shapes and errors: reference ccf-api-governance.md 4.3 to 4.6. One thing is added: while a proposal is open, the
 * answer to a ballot names the ballots that failed, so that their authors learn of it at once.
 *
 * Trusted.
 */
import { activeMemberCose } from "../../node/enclave/http/auth.ts";
import { type Call, type Endpoint, HttpError, json } from "../../node/enclave/http/endpoint.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { idIn, reads, type SignedCaller, script, signed, textIn } from "./gov-endpoint.ts";
import type { Interpreter } from "./interpreter.ts";
import { notFound, type Proposal, Proposals } from "./proposals.ts";

export type ProposalParts = Readonly<{
  interpreter: Interpreter;
  operations: Pick<Operations, "rootAt">;
  nowMs(): number;
}>;

const PROPOSALS = "/members/proposals";
const PROPOSAL = `${PROPOSALS}/{proposalId}`;
const BALLOT = `${PROPOSAL}/ballots/{memberId}`;

export function proposalEndpoints({ interpreter, operations, nowMs }: ProposalParts): Endpoint[] {
  const on = ({ tx }: Call) => new Proposals(interpreter, tx);
  return [
    signed(`${PROPOSALS}:create`, activeMemberCose("proposal"), async (call) => {
      const now = Math.floor(nowMs() / 1000);
      return json(shown(await on(call).create(call.caller, operations.rootAt, now)));
    }),
    signed(`${PROPOSAL}:withdraw`, activeMemberCose("withdrawal"), (call) => {
      const withdrawn = on(call).withdraw(signedProposal(call), call.caller);
      return withdrawn === undefined ? { status: 204 } : json(shown(withdrawn));
    }),
    signed(`${BALLOT}:submit`, activeMemberCose("ballot"), async (call) => {
      const id = signedProposal(call);
      if (idIn(call, "memberId", "member") !== call.caller.memberId)
        throw new HttpError(400, "InvalidResourceName", "Authenticated member id does not match URL");
      return json(
        shown(
          await on(call).submitBallot(
            id,
            call.caller,
            textIn(call.caller.payload, "ballot", "<text of a JavaScript module>"),
          ),
        ),
      );
    }),

    reads(PROPOSALS, (call) => json({ value: on(call).all().map(shown) })),
    reads(PROPOSAL, (call) => json(shown(existing(call, on(call))))),
    reads(`${PROPOSAL}/actions`, (call) => {
      const proposals = on(call);
      return { status: 200, body: proposals.payload(existing(call, proposals).id) };
    }),
    reads(BALLOT, (call) => {
      const id = idIn(call, "proposalId", "proposal");
      const member = idIn(call, "memberId", "member");
      const info = on(call).get(id);
      if (info === undefined) throw new HttpError(404, "ProposalNotFound", `Proposal ${id} does not exist.`);
      const ballot = info.ballots[member];
      if (ballot === undefined)
        throw new HttpError(404, "VoteNotFound", `Member m[${member}] has not voted for proposal ${id}.`);
      return script(ballot);
    }),
  ];
}

/** A proposal as CCF shows it. */
function shown({ id, info, failures }: Proposal): object {
  const open = failures !== undefined && Object.keys(failures).length > 0 ? failures : undefined;
  return {
    ballotCount: Object.keys(info.ballots).length,
    ballotSubmitters: Object.keys(info.ballots).sort(),
    failure: info.failure,
    finalVotes: info.final_votes,
    proposalId: id,
    proposalState: info.state,
    proposerId: info.proposer_id,
    voteFailures: info.vote_failures ?? open,
  };
}

function existing(call: Call, proposals: Proposals): Proposal {
  const id = idIn(call, "proposalId", "proposal");
  const info = proposals.get(id);
  if (info === undefined) throw notFound(id);
  return { id, info };
}

/** The proposal of the path, which must be the one that the member signed for. */
function signedProposal(call: Call & { caller: SignedCaller }): string {
  const id = idIn(call, "proposalId", "proposal");
  if (call.caller.proposalId?.toLowerCase() !== id)
    throw new HttpError(400, "InvalidResourceName", "Authenticated proposal id does not match URL");
  return id;
}
