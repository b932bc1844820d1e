/**
 * How a member becomes active: it acknowledges the state of the service.
 *
 * A new member asks for a state digest, the root of the latest signature, and signs it: evidence that it saw this very
 * ledger and agreed to be part of it. From then on its votes count; if it holds a recovery key, shares are issued anew so
 * that it has one. A member may acknowledge again at any time.
 *
 * Reference ccf-api-governance.md 4.7. Trusted.
 */
import { HttpError } from "../../node/enclave/http/endpoint.ts";
import { getOne, open } from "../../node/enclave/kv/table.ts";
import { TABLES } from "../../node/enclave/kv/tables.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { toBase64 } from "../../protocol/bytes.ts";
import { Fault, isFault, present } from "../../protocol/check.ts";
import type { MemberId } from "../../protocol/ids.ts";
import { recoveryRole } from "./shares.ts";

/** The digest that a member was last given; undefined for someone who is no member. */
export function stateDigest(tx: Tx, id: MemberId): string | undefined {
  return open(tx, TABLES.memberAcks).get(id)?.state_digest;
}

/** Gives a member the present state to acknowledge: hex of the root of the latest signature. @throws HttpError */
export function updateStateDigest(tx: Tx, id: MemberId): string {
  const digest = getOne(tx, TABLES.signatures)?.root;
  if (digest === undefined)
    throw new HttpError(500, "InternalError", "The service has no signed state yet. Try again in a moment.");
  const acks = open(tx, TABLES.memberAcks);
  acks.set(id, { ...acks.get(id), state_digest: digest });
  return digest;
}

/**
 * Records a member's acknowledgement and makes it active.
 * @param envelope the signed request.
 * @throws HttpError
 */
export function acknowledge(
  tx: Tx,
  id: MemberId,
  digest: string,
  envelope: Uint8Array,
  operations: Pick<Operations, "refreshRecoveryShares">,
): void {
  const expected = stateDigest(tx, id);
  if (expected === undefined) throw new HttpError(403, "AuthorizationFailed", `No ACK record exists for caller ${id}.`);
  // A member that never asked for a digest has been given the empty one, which says nothing about any state.
  if (expected === "" || digest !== expected)
    throw new HttpError(
      400,
      "StateDigestMismatch",
      `Submitted state digest is not valid.\nExpected\n ${expected}\nReceived\n ${digest}`,
    );
  open(tx, TABLES.memberAcks).set(id, { state_digest: expected, cose_sign1_req: toBase64(envelope) });

  const members = open(tx, TABLES.memberInfo);
  const info = present(members.get(id), "a member with a certificate has information");
  if (info.status === "Active") return;
  members.set(id, { ...info, status: "Active" });
  if (recoveryRole(tx, id) !== "NonParticipant" && getOne(tx, TABLES.serviceInfo)?.status === "Open")
    refreshShares(tx, operations);
}

function refreshShares(tx: Tx, operations: Pick<Operations, "refreshRecoveryShares">): void {
  try {
    operations.refreshRecoveryShares(tx);
  } catch (error) {
    if (!(error instanceof Fault) || isFault(error, "TxConflict")) throw error;
    throw new HttpError(500, "InternalError", `Error issuing new recovery shares: ${error.message}`);
  }
}
