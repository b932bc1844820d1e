/**
 * What a request does, in words, for whoever is about to sign it.
 *
 * Everything that is signed is shown: a sentence for each action that this release knows, then every argument as it
 * stands. Nothing is left out because it is unknown, and nothing is shown that is not signed. Only certificates and keys
 * are shortened, to the ids and digests by which the service knows them. Control characters are spelled out, so that a
 * text cannot repaint the terminal that shows it.
 *
 * The same input gives the same lines on every machine. Runs on a member's machine. Pure.
 */
import { createPublicKey } from "node:crypto";
import { fromUtf8 } from "../../protocol/bytes.ts";
import { sha256Hex } from "../../protocol/crypto/hash.ts";
import { certificateId, spkiDigest } from "../../protocol/crypto/keys.ts";
import { VOTE_AGAINST, VOTE_FOR } from "./ballots.ts";
import type { Action, MemberCall } from "./request.ts";

type Args = Readonly<Record<string, unknown>>;

/** What each action of the default constitution means. An action that is not here is shown by its name alone. */
const MEANINGS: Readonly<Record<string, string | ((args: Args) => string)>> = {
  set_member: "admit a member, who counts after acknowledging the state",
  remove_member: "expel a member",
  set_member_data: "change what is noted about a member",
  set_recovery_threshold: "change how many members it takes to recover the service",
  trigger_recovery_shares_refresh: "issue new recovery shares; the present ones become useless",
  trigger_ledger_rekey: "encrypt what comes with a new ledger secret",
  set_user: "admit a user, or change one",
  remove_user: "remove a user",
  set_user_data: "change what is noted about a user",
  transition_node_to_trusted: "trust a node: it gets the ledger and its secrets, and counts in consensus",
  remove_node: "remove a node",
  set_node_data: "change what is noted about a node",
  set_node_certificate_validity: "renew a node's certificate",
  set_all_nodes_certificate_validity: "renew the certificates of all nodes",
  add_virtual_measurement: "let nodes join that run this code (virtual platform: not confidential)",
  remove_virtual_measurement: "let no more nodes join that run this code",
  add_virtual_host_data: "let nodes join that were launched like this (virtual platform: not confidential)",
  remove_virtual_host_data: "let no more nodes join that were launched like this",
  transition_service_to_open: ({ previous_service_identity: previous }) =>
    previous === undefined || previous === null
      ? "open the service to users"
      : "open the recovered service, after members submit their shares",
  assert_service_identity: "only if this is the service with that certificate",
  set_constitution: "replace the constitution: the rules by which everything is decided",
};

const INDENT = "   ";

/** Lines that say what a call asks of the service. */
export function describeCall(call: MemberCall): string[] {
  const text = () => fromUtf8(call.payload);
  switch (call.type) {
    case "proposal":
      return ["propose to", ...describeActions(actionsIn(text()))];
    case "ballot":
      return [`vote on proposal ${call.proposalId}:`, ...describeBallot(field(text(), "ballot"))];
    case "withdrawal":
      return [`withdraw proposal ${call.proposalId}`];
    case "state_digest":
      return ["ask for the present state of the service, to acknowledge it"];
    case "ack":
      return [`acknowledge the state of the service: ${printable(field(text(), "stateDigest"))}`];
    case "recovery_share":
      return ["submit a recovery share"];
  }
}

/** Lines for the actions of a proposal, numbered where there are several. */
export function describeActions(actions: readonly Action[]): string[] {
  if (actions.length === 0) return ["do nothing"];
  return actions.flatMap(({ name, args }, at) => {
    const number = actions.length > 1 ? `${at + 1}. ` : "";
    const meaning = meaningOf(name, args);
    const title = meaning === undefined ? printable(name) : `${printable(name)}: ${meaning}`;
    return [`${number}${title}`, ...argumentLines(args).map((line) => INDENT + line)];
  });
}

/** Lines for a ballot; one that is not a plain yes or no is shown whole, because it is a program. */
export function describeBallot(ballot: string): string[] {
  if (ballot === VOTE_FOR) return ["in favour"];
  if (ballot === VOTE_AGAINST) return ["against"];
  return [
    "as this program decides:",
    ...printable(ballot)
      .trimEnd()
      .split("\n")
      .map((line) => INDENT + line),
  ];
}

function actionsIn(text: string): readonly Action[] {
  const value = parsed(text);
  const actions = isRecord(value) && Object.keys(value).length === 1 ? value["actions"] : undefined;
  if (Array.isArray(actions))
    return actions.map((action: unknown): Action => {
      if (!isRecord(action) || typeof action["name"] !== "string") return { name: "unknown", args: action };
      const plain = Object.keys(action).every((key) => key === "name" || key === "args");
      // What is neither name nor arguments is signed as well.
      return { name: action["name"], args: plain ? action["args"] : action };
    });
  // Not a proposal in any form that is known: what is signed is the text.
  return [{ name: "text", args: text }];
}

function field(text: string, name: string): string {
  const value = parsed(text);
  const found = isRecord(value) ? value[name] : undefined;
  return typeof found === "string" ? found : text;
}

function meaningOf(name: string, args: unknown): string | undefined {
  const meaning = Object.hasOwn(MEANINGS, name) ? MEANINGS[name] : undefined;
  return typeof meaning === "function" ? meaning(isRecord(args) ? args : {}) : meaning;
}

function argumentLines(args: unknown): string[] {
  if (args === undefined || args === null) return [];
  if (!isRecord(args)) return lines(args);
  return Object.entries(args).flatMap(([name, value]) => {
    const [first = "", ...more] = lines(value);
    return [`${printable(name)}: ${first}`, ...more.map((line) => INDENT + line)];
  });
}

function lines(value: unknown): string[] {
  if (typeof value !== "string") return [JSON.stringify(value)];
  return printable(shortened(value)).trimEnd().split("\n");
}

/** PEM by what the service knows it by. A text that only looks like PEM stays as it is. */
function shortened(text: string): string {
  try {
    if (text.startsWith("-----BEGIN CERTIFICATE-----")) return `certificate ${certificateId(text)}`;
    if (text.startsWith("-----BEGIN PUBLIC KEY-----")) return `public key ${spkiDigest(createPublicKey(text))}`;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return `not readable as a certificate or key, SHA-256 ${sha256Hex(Buffer.from(text))}:\n${text}`;
  }
  return text;
}

/** Spells out characters that show nothing or move what is shown, but for line breaks. */
function printable(text: string): string {
  return text.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const hex = (character.codePointAt(0) ?? 0).toString(16);
    return hex.length > 4 ? `\\u{${hex}}` : `\\u${hex.padStart(4, "0")}`;
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
