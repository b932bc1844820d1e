/**
 * The JavaScript engine that governance runs on: its `Interpreter`.
 *
 * Trusted.
 */
import type { GuestCall, GuestResult, Interpreter, Purpose } from "../governance/enclave/interpreter.ts";
import type { Operations } from "../node/enclave/service/operations.ts";
import { serveGuest } from "./ccf/globals.ts";
import { GuestPool, type GuestPoolParts } from "./js/guest-pool.ts";
import { GOVERNANCE_LIMITS, type GuestLimits } from "./js/guest-types.ts";

export type InterpreterParts = GuestPoolParts & Readonly<{ operations: Operations; limits?: GuestLimits }>;

/** The names under which scripts appear in traces. */
const FILE_NAMES: Readonly<Record<Purpose, string>> = {
  decide: "public:ccf.gov.constitution[0]",
  ballot: "ballot",
  apply: "public:ccf.gov.constitution[0]",
};

export function createInterpreter(parts: InterpreterParts): Interpreter & { close(): Promise<void> } {
  const pool = new GuestPool(parts);
  return {
    async call({ purpose, source, export: name, args, tx }: GuestCall): Promise<GuestResult> {
      const program = {
        purpose,
        source,
        fileName: FILE_NAMES[purpose],
        export: name,
        args: JSON.stringify(args),
        limits: parts.limits ?? GOVERNANCE_LIMITS,
      };
      const outcome = await pool.run(program, serveGuest(purpose, tx, parts.operations));
      if (!outcome.ok) return outcome;
      return { ok: true, value: outcome.value === undefined ? undefined : (JSON.parse(outcome.value) as unknown) };
    },
    close: () => pool.close(),
  };
}
