/**
 * What governance needs of a JavaScript engine. `enclave-app` supplies it.
 *
 * Constitutions and ballots are other people's code: each call runs in a fresh interpreter with bounded time, memory and
 * stack, off the main thread, and can be killed. What it may touch depends on the purpose alone.
 *
 * Trusted.
 */
import type { Tx } from "../../node/enclave/kv/tx.ts";

export type Purpose =
  /** `validate` and `resolve` of the constitution: governance tables, read only. */
  | "decide"
  /** `vote` of a ballot: the same rights. */
  | "ballot"
  /** `apply` of the constitution: governance tables read and write, application tables write only, node operations. */
  | "apply";

export type GuestCall = Readonly<{
  purpose: Purpose;
  /** Text of an ES module. */
  source: string;
  /** The exported function to call. */
  export: string;
  /** JSON-able arguments. */
  args: readonly unknown[];
  tx: Tx;
}>;

export type GuestResult =
  /** `value` is JSON-able; functions and undefined arrive as undefined. */
  | Readonly<{ ok: true; value: unknown }>
  | Readonly<{
      ok: false;
      why: "exception" | "timeout" | "memory" | "stack" | "syntax" | "crashed";
      reason: string;
      trace?: string;
    }>;

export interface Interpreter {
  call(call: GuestCall): Promise<GuestResult>;
}
