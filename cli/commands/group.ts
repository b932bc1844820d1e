/**
 * How a group of commands is declared.
 *
 * A group's file is loaded only when one of its commands runs, so that `camerata --help` and a health check stay quick.
 *
 * Neutral.
 */
import type { Command } from "commander";
import type { Session } from "../client/session.ts";
import { usageError } from "../terminal/errors.ts";

/** Work of one command: its arguments in order, its own and the global options by name. */
export type Work<O> = (session: Session, args: readonly string[], options: O) => Promise<void>;

/** Turns work into what commander calls. */
export type Act = <O>(work: Work<O>) => (...parameters: unknown[]) => Promise<void>;

/** Adds the commands of a group. */
export type Declare = (group: Command, act: Act) => void;

/** `a=1 b=text c={"d":2}` as an object: a value that is JSON is meant as JSON, anything else is text. */
export function parsePairs(pairs: readonly string[]): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at <= 0) throw usageError(`"${pair}" is not of the form name=value`, "write it like id=1 or msg=hello");
    found[pair.slice(0, at)] = parseValue(pair.slice(at + 1));
  }
  return found;
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

/** The argument at a place; commander has already refused a command line that lacks a required one. */
export function argument(args: readonly string[], at: number): string {
  const found = args[at];
  if (found === undefined) throw usageError(`argument ${at + 1} is missing`, "see --help");
  return found;
}
