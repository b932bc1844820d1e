/**
 * `/gov/members/state-digests`: how a member acknowledges the state of the service.
 *
 * Paths, shapes and errors: reference ccf-api-governance.md 4.3, 4.7. Trusted.
 */
import { memberCose } from "../../node/enclave/http/auth.ts";
import { type Call, type Endpoint, HttpError, json } from "../../node/enclave/http/endpoint.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { fromUtf8 } from "../../protocol/bytes.ts";
import { Fault } from "../../protocol/check.ts";
import type { MemberId } from "../../protocol/ids.ts";
import { reads, type SignedCaller, signed } from "./gov-endpoint.ts";
import { acknowledge, stateDigest, updateStateDigest } from "./members.ts";

const DIGEST = "/members/state-digests/{memberId}";

export function memberEndpoints(operations: Pick<Operations, "refreshRecoveryShares">): Endpoint[] {
  return [
    reads(DIGEST, ({ request, tx }) => {
      const memberId = (request.params["memberId"] ?? "").toLowerCase();
      const digest = stateDigest(tx, memberId);
      if (digest === undefined)
        throw new HttpError(404, "ResourceNotFound", `No ACK record exists for member ${memberId}.`);
      return json({ memberId, stateDigest: digest });
    }),
    signed(`${DIGEST}:update`, memberCose("state_digest"), (call) => {
      const memberId = signerInPath(call);
      return json({ memberId, stateDigest: updateStateDigest(call.tx, memberId) });
    }),
    signed(`${DIGEST}:ack`, memberCose("ack"), (call) => {
      const memberId = signerInPath(call);
      const { envelope, payload } = call.caller;
      acknowledge(call.tx, memberId, digestIn(payload), envelope, operations);
      return { status: 204 };
    }),
  ];
}

function signerInPath({ caller, request }: Call & { caller: SignedCaller }): MemberId {
  if (request.params["memberId"]?.toLowerCase() === caller.memberId) return caller.memberId;
  throw new HttpError(400, "InvalidAuthenticationInfo", "Authenticated member id does not match URL");
}

function digestIn(payload: Uint8Array): string {
  const expected = 'The signed payload must be JSON of the form {"stateDigest": "<hex>"}.';
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(payload));
  } catch (error) {
    if (!(error instanceof SyntaxError) && !(error instanceof Fault)) throw error;
    throw new HttpError(400, "InvalidInput", `${expected} ${error.message}`);
  }
  if (typeof value === "object" && value !== null && "stateDigest" in value && typeof value.stateDigest === "string")
    return value.stateDigest;
  throw new HttpError(400, "InvalidInput", expected);
}
