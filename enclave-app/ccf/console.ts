/**
 * `console`: four levels of one line each, as CCF maps them to its log (reference ccf-js-apps.md 2.7).
 *
 * Governance code sees public tables only, so what it logs is no secret; the worker bounds how much it may say.
 *
 * Trusted.
 */
import type { GuestGlobal, LocalFunction, LogLevel } from "../js/guest-types.ts";

const log =
  (level: LogLevel): LocalFunction =>
  (context, text) => {
    context.log(level, String(text));
    return undefined;
  };

export const consoleGlobal: GuestGlobal = {
  prelude: `
const { stringify, freeze } = tools;
const text = String;
const show = (value) =>
  typeof value === "object" && value !== null && !(value instanceof Error) ? text(stringify(value)) : text(value);
const line = (level) => (...args) => {
  let joined = "";
  for (let i = 0; i < args.length; i++) joined += (i > 0 ? " " : "") + show(args[i]);
  call("console." + level, joined);
};
globalThis.console = freeze({ log: line("info"), info: line("info"), warn: line("warn"), error: line("error") });`,
  local: { "console.info": log("info"), "console.warn": log("fail"), "console.error": log("fatal") },
};
