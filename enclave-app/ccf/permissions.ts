/**
 * Which tables a script may touch, by what it runs for.
 *
 * The table of CCF 7.0 (reference ccf-api-governance.md 5.2). Governance code never sees private tables, so that no vote
 * can leak what users wrote; an accepted proposal may write application tables but not read them, for the same reason.
 *
 * Trusted. Pure.
 */
import type { Purpose } from "../../governance/enclave/interpreter.ts";

export type Access = "read-write" | "read-only" | "write-only" | "inaccessible";

const READERS = ["has", "get", "getVersionOfPreviousWrite", "forEach", "size"];
const WRITERS = ["set", "delete", "clear"];

/** True for names that no script may even open: CCF keeps `ccf.` and `public:ccf.` for itself. */
export function isReserved(table: string): boolean {
  const name = table.startsWith("public:") ? table.slice("public:".length) : table;
  return name.startsWith("ccf.") && !name.startsWith("ccf.gov.") && !name.startsWith("ccf.internal.");
}

export function accessOf(table: string, purpose: Purpose): Access {
  if (isReserved(table) || !table.startsWith("public:")) return "inaccessible";
  if (table.startsWith("public:ccf.internal.")) return "read-only";
  const applies = purpose === "apply";
  if (table.startsWith("public:ccf.gov.")) return applies ? "read-write" : "read-only";
  return applies ? "write-only" : "inaccessible";
}

/** Why `method` may not be called on `table`; undefined where it may. The words are CCF's. */
export function refusal(method: string, table: string, purpose: Purpose): string | undefined {
  const access = accessOf(table, purpose);
  if (READERS.includes(method) && (access === "read-write" || access === "read-only")) return undefined;
  if (WRITERS.includes(method) && (access === "read-write" || access === "write-only")) return undefined;
  const context = purpose === "apply" ? "read-write governance" : "read-only governance";
  return (
    `Cannot call ${method} on table named ${table}. This table is ${access} in current (${context}) execution context. ` +
    "See https://microsoft.github.io/CCF/main/audit/read_write_restrictions.html for more detail."
  );
}
