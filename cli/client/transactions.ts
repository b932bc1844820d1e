/**
 * Waiting for transactions and proposals to become what they will be.
 *
 * A member's machine.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { ServiceClient } from "../../governance/member/client.ts";
import { getProposal, type Proposal } from "../../governance/member/voting.ts";
import type { TxStatus } from "../../protocol/ids.ts";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";

const POLL_MS = 20;

export async function transactionStatus(client: ServiceClient, id: string): Promise<TxStatus> {
  const found = await client.get<{ status: TxStatus }>(`/node/tx?transaction_id=${encodeURIComponent(id)}`);
  return found.status;
}

/** Waits until it is known whether a transaction is final. @throws CliError where it is lost, or time is up */
export async function untilCommitted(client: ServiceClient, id: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const status = await transactionStatus(client, id);
    if (status === "Committed") return;
    if (status === "Invalid")
      throw new CliError({
        id: "E-TX-INVALID",
        exit: EXIT.refused,
        headline: `transaction ${id} will never be committed`,
        why: "the primary that answered lost its leadership before a majority had the transaction",
        fix: "send the request again; it had no effect",
      });
    if (performance.now() > deadline)
      throw new CliError({
        id: "E-TX-UNKNOWN",
        exit: EXIT.unknown,
        headline: `transaction ${id} is ${status.toLowerCase()} after ${timeoutMs / 1000} s`,
        why: "no majority of nodes has confirmed it; it may still be committed",
        fix: `ask again: camerata tx wait ${id}`,
      });
    await pause(POLL_MS);
  }
}

/** Waits until a proposal is no longer open. @throws CliError when time is up */
export async function untilResolved(client: ServiceClient, id: string, timeoutMs: number): Promise<Proposal> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const proposal = await getProposal(client, id);
    if (proposal.proposalState !== "Open") return proposal;
    if (performance.now() > deadline)
      throw new CliError({
        id: "E-PROPOSAL-OPEN",
        exit: EXIT.unknown,
        headline: `proposal ${id} is still open after ${timeoutMs / 1000} s`,
        why: `${proposal.ballotCount} ballots so far, not enough for a decision`,
        fix: `members vote with: camerata proposal vote ${id} --for`,
      });
    await pause(POLL_MS * 5);
  }
}
