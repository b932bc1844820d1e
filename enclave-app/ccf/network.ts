/**
 * `ccf.network`: certificates and secrets of the service, as far as an accepted proposal needs them. Only `apply` has it.
 *
 * Trusted.
 */
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import { PEM_CHARS_MAX } from "../../protocol/crypto/pem.ts";
import type { GuestGlobal } from "../js/guest-types.ts";
import { GuestError } from "../js/sync-call.ts";
import { asGuestError, type Served, textOf } from "./served.ts";

const TIME_CHARS_MAX = 64;

export const networkGlobal: GuestGlobal = {
  prelude: `
const { count } = tools;
const string = (value, what) => {
  if (typeof value !== "string") throw new TypeError(what + " argument is not a string");
  return value;
};
ccf.network = {
  getLatestLedgerSecretSeqno(...args) {
    count(args, 0);
    return call("network.ledgerSecretSeqno");
  },
  generateEndorsedCertificate(...args) {
    count(args, 3);
    if (typeof args[2] !== "number") throw new TypeError("validity period argument is not a number");
    return call("network.endorse", string(args[0], "csr"), string(args[1], "valid from"), args[2]);
  },
  generateNetworkCertificate(...args) {
    count(args, 2);
    call("network.unavailable", "generateNetworkCertificate");
  },
};`,
  local: {
    "network.unavailable": (_, name) => {
      throw new GuestError("InternalError", `ccf.network.${name} is not available in this release`);
    },
  },
};

export function serveNetwork(tx: Tx, operations: Operations): Served {
  return {
    "network.ledgerSecretSeqno": () => operations.latestLedgerSecretSeqno(tx),
    "network.endorse": (csr, validFrom, days) => {
      const request = textOf(csr, "a certificate request", PEM_CHARS_MAX);
      const from = textOf(validFrom, "a time", TIME_CHARS_MAX);
      if (typeof days !== "number") throw new GuestError("TypeError", "a validity period is a number of days");
      return asGuestError(() => operations.endorseCertificate(tx, request, from, days));
    },
  };
}
