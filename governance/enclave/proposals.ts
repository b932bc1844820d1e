/**
 * The life of a proposal: made, voted on, resolved, applied, withdrawn.
 *
 *   create ──► Open ──ballot──► Accepted   (applied in the same transaction)
 *               │  └──────────► Rejected
 *               ├──withdraw───► Withdrawn
 *               └──(another proposal's action)► Dropped
 *
 * After each ballot all ballots of the proposal run again, on the state of this transaction, and the constitution resolves
 * anew. When a proposal is decided, older decided ones are forgotten: the ledger has them. A resolution or an application
 * that fails undoes the whole transaction, so the proposal stays as it was.
 *
 * Steps, tables and texts are those of CCF 7.0.2 `src/node/gov/handlers/proposals.h` (reference ccf-api-governance.md 4.5,
 * 4.6). Every function here may run again from the start with another transaction: nothing outlives the call.
 *
 * Trusted.
 */
import { HttpError } from "../../node/enclave/http/endpoint.ts";
import { open } from "../../node/enclave/kv/table.ts";
import { type ProposalFailure, type ProposalInfo, TABLES } from "../../node/enclave/kv/tables.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { concat, fromUtf8, toBase64 } from "../../protocol/bytes.ts";
import { isFault, present } from "../../protocol/check.ts";
import { sha256, sha256Hex } from "../../protocol/crypto/hash.ts";
import type { MemberId } from "../../protocol/ids.ts";
import { Constitution, type Vote } from "./constitution.ts";
import type { Interpreter } from "./interpreter.ts";
import { checkFresh } from "./replay.ts";

/** A request that a member has signed. */
export type SignedRequest = Readonly<{
  memberId: MemberId;
  envelope: Uint8Array;
  payload: Uint8Array;
  signature: Uint8Array;
  /** Seconds since 1970. */
  createdAt: number;
}>;

export type Proposal = Readonly<{
  id: string;
  info: ProposalInfo;
  /** Ballots that failed just now, while the proposal is still open. */
  failures?: Readonly<Record<MemberId, ProposalFailure>>;
}>;

export class Proposals {
  readonly #interpreter: Interpreter;
  readonly #tx: Tx;

  constructor(interpreter: Interpreter, tx: Tx) {
    this.#interpreter = interpreter;
    this.#tx = tx;
  }

  /**
   * Makes a proposal and resolves it without votes.
   * @param now seconds since 1970, by the node's clock.
   * @throws HttpError
   */
  async create(request: SignedRequest, rootAt: Operations["rootAt"], now: number): Promise<Proposal> {
    const { memberId, payload, signature, createdAt } = request;
    const freshness = checkFresh(this.#tx, { createdAt, signature, now });
    if (!freshness.fresh) throw new HttpError(400, freshness.code, freshness.message);
    const text = payloadText(payload);
    await this.#validate(text);

    // Depends on everything before it, so the same actions proposed again have another id.
    const root = await rootAt(this.#tx.readVersion);
    const id = sha256Hex(concat([root, sha256(signature)]));
    const info: ProposalInfo = { proposer_id: memberId, state: "Open", ballots: {} };
    open(this.#tx, TABLES.proposals).set(id, payload);
    open(this.#tx, TABLES.proposalInfo).set(id, info);
    this.#record(request);
    freshness.remember(id);
    return this.#resolve(id, info, text);
  }

  /** Adds a member's ballot and resolves. The same ballot again changes nothing. @throws HttpError */
  async submitBallot(id: string, request: SignedRequest, ballot: string): Promise<Proposal> {
    const before = this.get(id);
    if (before === undefined) throw notFound(id);
    const given = before.ballots[request.memberId];
    if (given === ballot) return { id, info: before };
    if (before.state !== "Open") throw notOpen(id, before, "only open proposals can be voted on");
    if (given !== undefined)
      throw new HttpError(
        400,
        "VoteAlreadyExists",
        `Member ${request.memberId} has already submitted another ballot for proposal ${id}. A ballot cannot be changed.`,
      );

    const info: ProposalInfo = { ...before, ballots: { ...before.ballots, [request.memberId]: ballot } };
    open(this.#tx, TABLES.proposalInfo).set(id, info);
    this.#record(request);
    return this.#resolve(id, info, payloadText(this.payload(id)));
  }

  /** Undefined for an unknown proposal: withdrawn long ago, perhaps. @throws HttpError */
  withdraw(id: string, request: SignedRequest): Proposal | undefined {
    const before = this.get(id);
    if (before === undefined) return undefined;
    if (before.proposer_id !== request.memberId)
      throw new HttpError(
        403,
        "AuthorizationFailed",
        `Proposal ${id} can only be withdrawn by its proposer, member ${before.proposer_id}.`,
      );
    if (before.state === "Withdrawn") return { id, info: before };
    if (before.state !== "Open") throw notOpen(id, before, "only open proposals can be withdrawn");

    const info: ProposalInfo = { ...before, state: "Withdrawn" };
    this.#forgetDecided(id);
    open(this.#tx, TABLES.proposalInfo).set(id, info);
    this.#record(request);
    return { id, info };
  }

  get(id: string): ProposalInfo | undefined {
    return open(this.#tx, TABLES.proposalInfo).get(id);
  }

  all(): Proposal[] {
    return open(this.#tx, TABLES.proposalInfo)
      .entries()
      .map(([id, info]) => ({ id, info }));
  }

  /** What the proposer signed, of a proposal that exists. */
  payload(id: string): Uint8Array {
    return present(open(this.#tx, TABLES.proposals).get(id), "a proposal has a payload");
  }

  async #validate(text: string): Promise<void> {
    const verdict = await new Constitution(this.#interpreter, this.#tx).validate(text);
    if ("failed" in verdict) throw noVerdict(verdict.failed, verdict.failure, text);
    if (!verdict.valid)
      throw new HttpError(400, "ProposalFailedToValidate", `Proposal failed to validate: ${verdict.description}`);
  }

  async #resolve(id: string, info: ProposalInfo, text: string): Promise<Proposal> {
    const constitution = new Constitution(this.#interpreter, this.#tx);
    const { votes, failures } = await countVotes(constitution, info, text);
    const resolution = await constitution.resolve(text, info.proposer_id, votes, id);
    if (typeof resolution === "object") throw failure(resolution);
    if (resolution === "Open") return { id, info, failures };

    this.#forgetDecided(id);
    const decided: ProposalInfo = {
      ...info,
      state: resolution,
      final_votes: Object.fromEntries(votes.map(({ member_id, vote }) => [member_id, vote])),
      vote_failures: failures,
    };
    open(this.#tx, TABLES.proposalInfo).set(id, decided);
    if (resolution === "Accepted") {
      const failed = await constitution.apply(text, id);
      if (failed !== undefined) throw failure(failed);
    }
    return { id, info: decided };
  }

  /** Of proposals that are decided, the tables hold the latest only. */
  #forgetDecided(except: string): void {
    const infos = open(this.#tx, TABLES.proposalInfo);
    for (const [id, { state }] of infos.entries()) {
      if (id === except || state === "Open") continue;
      infos.delete(id);
      open(this.#tx, TABLES.proposals).delete(id);
    }
  }

  /** The signed request, in the transaction that it caused: this is what an auditor checks. */
  #record({ memberId, envelope }: SignedRequest): void {
    open(this.#tx, TABLES.coseHistory).set(memberId, toBase64(envelope));
  }
}

/** Runs every ballot. A ballot that fails has not voted. */
async function countVotes(
  constitution: Constitution,
  { ballots, proposer_id }: ProposalInfo,
  text: string,
): Promise<{ votes: Vote[]; failures: Record<MemberId, ProposalFailure> }> {
  const results = await Promise.all(
    Object.entries(ballots).map(
      async ([member_id, ballot]) => [member_id, await constitution.vote(ballot, text, proposer_id)] as const,
    ),
  );
  const votes: Vote[] = [];
  const failures: Record<MemberId, ProposalFailure> = {};
  for (const [member_id, result] of results) {
    if (typeof result === "boolean") votes.push({ member_id, vote: result });
    else failures[member_id] = result;
  }
  return { votes, failures };
}

function payloadText(payload: Uint8Array): string {
  try {
    return fromUtf8(payload);
  } catch (error) {
    if (!isFault(error, "NotUtf8")) throw error;
    throw new HttpError(400, "ProposalFailedToValidate", "Proposal failed to validate: it is not UTF-8 text");
  }
}

/** The fault is the proposal's if it is no JSON or exhausts the constitution, else the constitution's. */
function noVerdict(why: string, { reason, trace }: ProposalFailure, text: string): HttpError {
  const message = `Failed to execute validation: ${reason}${trace === undefined ? "" : ` ${trace}`}`;
  if (why === "crashed") return new HttpError(503, "InternalError", message);
  if (why === "syntax" || (why === "exception" && isJson(text))) return new HttpError(500, "InternalError", message);
  return new HttpError(400, "ProposalFailedToValidate", message);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

function failure({ reason, trace }: ProposalFailure): HttpError {
  return new HttpError(500, "InternalError", trace === undefined ? reason : `${reason}\n${trace}`);
}

function notOpen(id: string, { state }: ProposalInfo, rule: string): HttpError {
  return new HttpError(400, "ProposalNotOpen", `Proposal ${id} is currently in state ${state}: ${rule}.`);
}

export function notFound(id: string): HttpError {
  return new HttpError(404, "ProposalNotFound", `Could not find proposal ${id}.`);
}
