/**
 * Every endpoint of `/gov` that is governance's own.
 *
 * Recovery shares and JavaScript apps have no endpoints yet: their paths are unknown, as is said of any other.
 *
 * Trusted.
 */
import type { Endpoint } from "../../node/enclave/http/endpoint.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import type { Interpreter } from "./interpreter.ts";
import { memberEndpoints } from "./members-api.ts";
import { proposalEndpoints } from "./proposals-api.ts";
import { serviceEndpoints, type Transactions } from "./service-api.ts";

export type GovernanceParts = Readonly<{
  interpreter: Interpreter;
  operations: Operations;
  transactions: Transactions;
  /** The node's clock: the host's, so it may lie. */
  nowMs?(): number;
}>;

export function governanceEndpoints({ interpreter, operations, transactions, nowMs }: GovernanceParts): Endpoint[] {
  return [
    ...proposalEndpoints({ interpreter, operations, nowMs: nowMs ?? Date.now }),
    ...memberEndpoints(operations),
    ...serviceEndpoints(transactions),
  ];
}
