/** What tests of this folder say about refusals. */
import { Fault } from "../../../protocol/check.ts";

/** The code of the fault that `run` ends in, or "accepted". Any other error is passed on: it is a bug. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof Fault) return error.detail.code;
    throw error;
  }
  return "accepted";
}

/** The same for a promise. */
export async function codeOfAsync(run: () => Promise<unknown>): Promise<string> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Fault) return error.detail.code;
    throw error;
  }
  return "accepted";
}
