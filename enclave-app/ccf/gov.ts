/**
 * `ccf.gov.validateConstitution`: is this text a constitution at all?
 *
 * It is evaluated in a context of its own, without `ccf`, inside the same run and under the same limits: what it does at
 * its top level can change nothing here.
 *
 * Trusted.
 */
import type { GuestGlobal } from "../js/guest-types.ts";
import { GuestError, SYNC_BYTES_MAX } from "../js/sync-call.ts";
import { textOf } from "./served.ts";

/** Parameters of each function that a constitution exports (reference ccf-api-governance.md 5.1). */
const EXPORTS: Readonly<Record<string, readonly number[]>> = { validate: [1], resolve: [3, 4], apply: [2] };

export const govGlobal: GuestGlobal = {
  prelude: `
const { count } = tools;
ccf.gov = {
  validateConstitution(...args) {
    count(args, 1);
    if (typeof args[0] !== "string") throw new TypeError("Argument must be a string");
    return call("gov.validateConstitution", args[0]);
  },
};`,
  local: {
    "gov.validateConstitution": ({ arities }, source) => {
      const found = arities(textOf(source, "a constitution", SYNC_BYTES_MAX), "proposed constitution");
      for (const [name, allowed] of Object.entries(EXPORTS)) {
        const arity = found[name];
        if (arity === undefined) throw new GuestError("TypeError", `a constitution must export a function ${name}`);
        if (!allowed.includes(arity))
          throw new GuestError(
            "TypeError",
            `the constitution's ${name} must have ${allowed.join(" or ")} parameters, not ${arity}`,
          );
      }
      return true;
    },
  },
};
