/**
 * `ccf.node`: what an accepted proposal may make the service do. Only `apply` has it.
 *
 * Everything happens in the proposal's own transaction. `shuffleSealedShares` is absent, not refused: CCF's constitution
 * asks whether it is there.
 *
 * Trusted.
 */
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { PEM_CHARS_MAX } from "../../protocol/crypto/pem.ts";
import type { GuestGlobal } from "../js/guest-types.ts";
import { GuestError } from "../js/sync-call.ts";
import { asGuestError, type Served, utf8Of } from "./served.ts";

export const nodeGlobal: GuestGlobal = {
  prelude: `
const { count, isBuffer } = tools;
const absent = (name) => (...args) => {
  count(args, 0);
  call("node.unavailable", name);
};
ccf.node = {
  transitionServiceToOpen(...args) {
    count(args, 2);
    const [previous, next] = args;
    if (previous !== undefined && !isBuffer(previous)) throw new TypeError("Previous service identity argument is not an array buffer");
    if (!isBuffer(next)) throw new TypeError("Next service identity argument is not an array buffer");
    if (previous === undefined) call("node.open", next);
    else call("node.open", next, previous);
  },
  triggerRecoverySharesRefresh(...args) {
    count(args, 0);
    call("node.refreshShares");
  },
  triggerLedgerRekey: absent("triggerLedgerRekey"),
  triggerLedgerChunk: absent("triggerLedgerChunk"),
  triggerSnapshot: absent("triggerSnapshot"),
};`,
  local: {
    "node.unavailable": (_, name) => {
      throw new GuestError("InternalError", `ccf.node.${name} is not available in this release`);
    },
  },
};

export function serveNode(tx: Tx, operations: Operations): Served {
  const identity = (pem: Parameters<typeof utf8Of>[0]) => utf8Of(pem, "a service identity", PEM_CHARS_MAX);
  return {
    "node.open": (next, previous) =>
      asGuestError(() => {
        operations.transitionServiceToOpen(tx, previous === undefined ? undefined : identity(previous), identity(next));
        return undefined;
      }),
    "node.refreshShares": () =>
      asGuestError(() => {
        operations.refreshRecoveryShares(tx);
        return undefined;
      }),
  };
}
