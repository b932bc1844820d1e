/**
 * What a member does: propose, vote, withdraw, acknowledge, and look.
 *
 * Runs on a member's machine.
 */
import { Fault } from "../../protocol/check.ts";
import type { MemberId } from "../../protocol/ids.ts";
import type { ClientFault, ServiceClient } from "./client.ts";
import {
  type Action,
  ackCall,
  ballotCall,
  checkedProposalId,
  governancePath,
  type MemberCall,
  memberIdOf,
  proposalCall,
  proposalTextCall,
  type Signer,
  signCall,
  stateDigestCall,
  withdrawalCall,
} from "./request.ts";

export type ProposalState = "Open" | "Accepted" | "Rejected" | "Withdrawn" | "Dropped" | "Failed";

/** A proposal as the service shows it. */
export type Proposal = Readonly<{
  proposalId: string;
  proposerId: MemberId;
  proposalState: ProposalState;
  ballotCount: number;
  ballotSubmitters?: readonly MemberId[];
  finalVotes?: Readonly<Record<MemberId, boolean>>;
  voteFailures?: Readonly<Record<MemberId, Readonly<{ reason: string; trace?: string }>>>;
  failure?: Readonly<{ reason: string; trace?: string }>;
}>;

export type Member = Readonly<{
  memberId: MemberId;
  status: "Accepted" | "Active";
  memberData: unknown;
  certificate: string;
  publicEncryptionKey?: string;
  recoveryRole?: "NonParticipant" | "Participant" | "Owner";
}>;

/** `txId`: the transaction that the answer belongs to, to be waited for. */
export type Done<T> = Readonly<{ value: T; txId: string | undefined }>;

/** @param actions in order; or the text of a proposal as its author wrote it. @throws Fault<ClientFault> */
export async function createProposal(
  client: ServiceClient,
  signer: Signer,
  actions: readonly Action[] | string,
): Promise<Done<Proposal>> {
  const call = typeof actions === "string" ? proposalTextCall(actions) : proposalCall(actions);
  try {
    return await act<Proposal>(client, signer, call);
  } catch (error) {
    // The answer to an earlier attempt was lost: the proposal is there.
    const earlier = replayed(error);
    if (earlier === undefined) throw error;
    return { value: await getProposal(client, earlier), txId: undefined };
  }
}

/** @param ballot text of a module that exports `vote`; see ballots.ts. @throws Fault<ClientFault> */
export function vote(
  client: ServiceClient,
  signer: Signer,
  proposalId: string,
  ballot: string,
): Promise<Done<Proposal>> {
  return act(client, signer, ballotCall(memberIdOf(signer), proposalId, ballot));
}

/** The value is undefined if the service does not know the proposal any more. @throws Fault<ClientFault> */
export function withdraw(
  client: ServiceClient,
  signer: Signer,
  proposalId: string,
): Promise<Done<Proposal | undefined>> {
  return act(client, signer, withdrawalCall(proposalId));
}

/**
 * Acknowledges the service's present state: a new member becomes active by it.
 * @returns the digest that was acknowledged, hex.
 * @throws Fault<ClientFault>
 */
export async function acknowledge(client: ServiceClient, signer: Signer): Promise<Done<string>> {
  const memberId = memberIdOf(signer);
  const { value } = await act<{ stateDigest: string }>(client, signer, stateDigestCall(memberId));
  const { txId } = await act(client, signer, ackCall(memberId, value.stateDigest));
  return { value: value.stateDigest, txId };
}

export function getProposal(client: ServiceClient, proposalId: string): Promise<Proposal> {
  return client.get(governancePath(`/members/proposals/${checkedProposalId(proposalId)}`));
}

export async function listProposals(client: ServiceClient): Promise<readonly Proposal[]> {
  return (await client.get<{ value: readonly Proposal[] }>(governancePath("/members/proposals"))).value;
}

/** The actions of a proposal, as its author signed them. */
export async function getActions(client: ServiceClient, proposalId: string): Promise<readonly Action[]> {
  const path = governancePath(`/members/proposals/${checkedProposalId(proposalId)}/actions`);
  return (await client.get<{ actions: readonly Action[] }>(path)).actions;
}

export async function listMembers(client: ServiceClient): Promise<readonly Member[]> {
  return (await client.get<{ value: readonly Member[] }>(governancePath("/service/members"))).value;
}

async function act<T>(client: ServiceClient, signer: Signer, call: MemberCall): Promise<Done<T>> {
  const { value, answer } = await client.post(await signCall(call, signer, Math.floor(Date.now() / 1000)));
  return { value: value as T, txId: answer.txId };
}

/** Id of the proposal that this very request made before, where the service says so. */
function replayed(error: unknown): string | undefined {
  if (!(error instanceof Fault) || error.detail.code !== "Refused") return undefined;
  if ((error.detail as Extract<ClientFault, { code: "Refused" }>).error !== "ProposalReplay") return undefined;
  return /[0-9a-f]{64}/.exec(error.message)?.[0];
}
