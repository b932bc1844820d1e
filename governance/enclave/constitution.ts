/**
 * The constitution's four questions, put to the interpreter.
 *
 * `validate` (may members vote on this?), `vote` (what does this ballot say?), `resolve` (is it decided?), `apply` (do it).
 * The scripts are members' code: whatever comes back is looked at before it is believed, and a script that throws, hangs
 * or exhausts its memory is an answer like any other.
 *
 * Trusted.
 */
import { getOne } from "../../node/enclave/kv/table.ts";
import { type ProposalFailure, TABLES } from "../../node/enclave/kv/tables.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import { present } from "../../protocol/check.ts";
import type { MemberId } from "../../protocol/ids.ts";
import type { GuestResult, Interpreter } from "./interpreter.ts";

/** CCF's words for a script that ran out of time (7.0.2 `src/node/gov/handlers/proposals.h`). */
const TOOK_TOO_LONG = "Operation took too long to complete.";

export type Vote = Readonly<{ member_id: MemberId; vote: boolean }>;
export type Resolution = "Open" | "Accepted" | "Rejected";

export type Validity =
  | Readonly<{ valid: true }>
  | Readonly<{ valid: false; description: string }>
  /** The constitution gave no verdict. */
  | Readonly<{ failed: Extract<GuestResult, { ok: false }>["why"]; failure: ProposalFailure }>;

/** The constitution in force, with the proposal it is asked about. */
export class Constitution {
  readonly #interpreter: Interpreter;
  readonly #tx: Tx;
  readonly #source: string;

  constructor(interpreter: Interpreter, tx: Tx) {
    this.#interpreter = interpreter;
    this.#tx = tx;
    this.#source = present(getOne(tx, TABLES.constitution), "a service has a constitution");
  }

  async validate(proposal: string): Promise<Validity> {
    const result = await this.#ask("decide", "validate", [proposal]);
    if (!result.ok) return { failed: result.why, failure: failureOf(result) };
    const { value } = result;
    if (typeof value !== "object" || value === null)
      return { failed: "exception", failure: { reason: "Validation failed to return an object" } };
    const { valid, description } = value as Record<string, unknown>;
    if (valid === true) return { valid: true };
    return { valid: false, description: typeof description === "string" ? description : "Validation failed" };
  }

  /** What a ballot says; only `true` is in favour. */
  async vote(ballot: string, proposal: string, proposerId: MemberId): Promise<boolean | ProposalFailure> {
    const args = [proposal, proposerId];
    const result = await this.#interpreter.call({
      purpose: "ballot",
      source: ballot,
      export: "vote",
      args,
      tx: this.#tx,
    });
    return result.ok ? result.value === true : failureOf(result);
  }

  async resolve(
    proposal: string,
    proposerId: MemberId,
    votes: readonly Vote[],
    proposalId: string,
  ): Promise<Resolution | ProposalFailure> {
    const result = await this.#ask("decide", "resolve", [proposal, proposerId, votes, proposalId]);
    if (!result.ok) return failed("resolve", result);
    const { value } = result;
    if (value === "Open" || value === "Accepted" || value === "Rejected") return value;
    return { reason: `resolve() returned invalid status value: ${JSON.stringify(value)?.slice(0, 100)}` };
  }

  /** Undefined when everything is done. What was written before a failure is for the caller to throw away. */
  async apply(proposal: string, proposalId: string): Promise<ProposalFailure | undefined> {
    const result = await this.#ask("apply", "apply", [proposal, proposalId]);
    return result.ok ? undefined : failed("apply", result);
  }

  #ask(purpose: "decide" | "apply", name: string, args: readonly unknown[]): Promise<GuestResult> {
    return this.#interpreter.call({ purpose, source: this.#source, export: name, args, tx: this.#tx });
  }
}

function failed(name: string, result: Extract<GuestResult, { ok: false }>): ProposalFailure {
  const { reason, trace } = failureOf(result);
  return { reason: `Failed to ${name}(): ${reason}`, ...(trace !== undefined && { trace }) };
}

function failureOf({ why, reason, trace }: Extract<GuestResult, { ok: false }>): ProposalFailure {
  return { reason: why === "timeout" ? TOOK_TOO_LONG : reason, ...(trace !== undefined && { trace }) };
}
