/**
 * `camerata tx`: what became of a transaction.
 *
 * A member's or a user's machine.
 */

import { isFault } from "../../protocol/check.ts";
import { parseTxId } from "../../protocol/ids.ts";
import type { Session } from "../client/session.ts";
import { transactionStatus, untilCommitted } from "../client/transactions.ts";
import { usageError } from "../terminal/errors.ts";
import { argument, type Declare } from "./group.ts";

export const declare: Declare = (group, act) => {
  group
    .command("status")
    .description("Unknown, Pending, Committed or Invalid, as this node sees it")
    .argument("<id>", "transaction id, <view>.<seqno>")
    .action(act(status));
  group
    .command("wait")
    .description("wait until a transaction is committed; exit 1 if it never will be, 7 when --timeout is up")
    .argument("<id>", "transaction id, <view>.<seqno>")
    .action(act(wait));
};

async function status(session: Session, args: readonly string[]): Promise<void> {
  const id = transactionId(args);
  const found = await transactionStatus(await session.client(), id);
  session.output.record({ transaction_id: id, status: found }, "transaction_id");
}

async function wait(session: Session, args: readonly string[]): Promise<void> {
  const id = transactionId(args);
  await untilCommitted(await session.client(), id, session.timeoutMs);
  session.output.record({ transaction_id: id, status: "Committed" }, "transaction_id");
}

function transactionId(args: readonly string[]): string {
  const text = argument(args, 0);
  try {
    parseTxId(text);
  } catch (error) {
    if (isFault(error, "TxIdMalformed"))
      throw usageError(`"${text}" is not a transaction id`, "it looks like 2.17: <view>.<seqno>");
    throw error;
  }
  return text;
}
