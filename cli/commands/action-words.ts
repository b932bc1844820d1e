/**
 * The actions of a proposal in words, for those who are about to sign.
 *
 * Everything that is signed is shown, nothing is left out: arguments stand as they are, but for certificates, which nobody
 * reads as PEM and which are shown by the id that the service will know them by.
 *
 * Neutral. Pure.
 */
import type { Action } from "../../governance/member/request.ts";
import { certificateId } from "../../protocol/crypto/keys.ts";

/** Lines, one action after the other, numbered where there are several. */
export function describeActions(actions: readonly Action[]): string[] {
  return actions.flatMap(({ name, args }, at) => [
    `${actions.length > 1 ? `${at + 1}. ` : ""}${name.replaceAll("_", " ")}`,
    ...argumentLines(args).map((line) => `   ${line}`),
  ]);
}

function argumentLines(args: unknown): string[] {
  if (args === undefined || args === null) return [];
  if (typeof args !== "object" || Array.isArray(args)) return [inWords(args)];
  return Object.entries(args).flatMap(([key, value]) => {
    const [first = "", ...more] = inWords(value).split("\n");
    return [`${key}: ${first}`, ...more.map((line) => `  ${line}`)];
  });
}

function inWords(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value);
  if (!value.startsWith("-----BEGIN CERTIFICATE-----")) return value.trimEnd();
  return `certificate ${certificateId(value)}`;
}
