/**
 * `/gov/members/state-digests`: how a member acknowledges the state of the service.
 *
 * Paths, shapes and errors: reference ccf-api-governance.md 4.3, 4.7. Trusted.
 */
import { memberCose } from "../../node/enclave/http/auth.ts";
import { type Call, type Endpoint, HttpError, json } from "../../node/enclave/http/endpoint.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import type { MemberId } from "../../protocol/ids.ts";
import { reads, type SignedCaller, signed, textIn } from "./gov-endpoint.ts";
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
      acknowledge(call.tx, memberId, textIn(payload, "stateDigest", "<hex>"), envelope, operations);
      return { status: 204 };
    }),
  ];
}

function signerInPath({ caller, request }: Call & { caller: SignedCaller }): MemberId {
  if (request.params["memberId"]?.toLowerCase() === caller.memberId) return caller.memberId;
  throw new HttpError(400, "InvalidAuthenticationInfo", "Authenticated member id does not match URL");
}
