/**
 * Chance and time: `Math.random` and `Date`.
 *
 * Random numbers come from the system's generator, so that they differ between interpreters and cannot be foretold. Time
 * stands still at the epoch unless a script asks for the host's clock, which may lie: a decision that depends on it
 * should say so (reference ccf-api-governance.md 5.5).
 *
 * Trusted.
 */
import { randomInt } from "node:crypto";
import type { GuestGlobal } from "../js/guest-types.ts";

export const ambientGlobal: GuestGlobal = {
  prelude: `
const { count, defineProperty } = tools;
const { construct } = Reflect;
Math.random = () => call("ambient.random");

const RealDate = Date;
const hostNow = RealDate.now;
let untrusted = false;
const now = () => (untrusted ? hostNow() : 0);
defineProperty(RealDate, "now", { value: now });
const SteadyDate = new Proxy(RealDate, {
  construct: (target, args, newTarget) => construct(target, args.length > 0 ? args : [now()], newTarget),
  apply: () => new RealDate(now()).toString(),
});
defineProperty(RealDate.prototype, "constructor", { value: SteadyDate });
globalThis.Date = SteadyDate;
ccf.enableUntrustedDateTime = (...args) => {
  count(args, 1);
  if (typeof args[0] !== "boolean") throw new TypeError("Argument must be a boolean");
  const before = untrusted;
  untrusted = args[0];
  return before;
};
let metrics = true;
ccf.enableMetricsLogging = (...args) => {
  count(args, 1);
  if (typeof args[0] !== "boolean") throw new TypeError("Argument must be a boolean");
  const before = metrics;
  metrics = args[0];
  return before;
};`,
  local: {
    // 48 bits are what one call of the generator gives.
    "ambient.random": () => randomInt(2 ** 48 - 1) / 2 ** 48,
  },
};
