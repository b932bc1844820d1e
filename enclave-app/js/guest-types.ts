/**
 * What the main thread and a guest's worker say to each other, and what a global of the guest is.
 *
 * Trusted.
 */
import type { MessagePort } from "node:worker_threads";
import type { Purpose } from "../../governance/enclave/interpreter.ts";
import type { SyncValue } from "./sync-call.ts";

export type GuestLimits = Readonly<{
  /** Memory of the engine's instance, rounded up to 64 KiB; never below the 16 MiB that it starts with. */
  heapBytes: number;
  /** Stack of the guest's own frames. */
  stackBytes: number;
  /** Wall clock from the first instruction, after which the guest is interrupted. */
  executionMs: number;
  /** How much later the thread is ended, where the interrupt did not get through. */
  graceMs: number;
}>;

/** CCF's limits for governance (reference ccf-api-governance.md 4.6): no vote can lower them. */
export const GOVERNANCE_LIMITS: GuestLimits = {
  heapBytes: 100 * 1024 * 1024,
  stackBytes: 1024 * 1024,
  executionMs: 5000,
  graceMs: 1000,
};

export type GuestProgram = Readonly<{
  purpose: Purpose;
  /** Text of an ES module. */
  source: string;
  /** The name that traces show. */
  fileName: string;
  export: string;
  /** A JSON array: the arguments. */
  args: string;
  limits: GuestLimits;
}>;

/** Main thread to worker. */
export type GuestJob = GuestProgram & Readonly<{ port: MessagePort; answers: SharedArrayBuffer }>;

export type GuestOutcome =
  /** `value` is JSON text; undefined where the guest returned nothing that JSON can say. */
  | Readonly<{ ok: true; value: string | undefined }>
  | Readonly<{ ok: false; why: GuestFailure; reason: string; trace?: string }>;
export type GuestFailure = "exception" | "timeout" | "memory" | "stack" | "syntax" | "crashed";

export type LogLevel = "info" | "fail" | "fatal";

/** Worker to main thread. */
export type GuestReport =
  | Readonly<{ kind: "begun" }>
  | Readonly<{ kind: "log"; level: LogLevel; text: string }>
  | Readonly<{ kind: "done"; outcome: GuestOutcome }>;

/** What a function of a global may use while it runs in the worker, beside its arguments. */
export type LocalContext = Readonly<{
  log(level: LogLevel, text: string): void;
  /** Number of parameters of each exported function of a module, evaluated in a context of its own without `ccf`. */
  arities(source: string, fileName: string): Record<string, number>;
}>;

export type LocalFunction = (context: LocalContext, ...args: SyncValue[]) => SyncValue;

/**
 * One global of the guest.
 *
 * `prelude` is the body of a function that runs in the guest before its module, with the parameters `ccf` (the object
 * under construction), `call(name, ...args)` (calls a function below, or one that the main thread serves) and `tools`
 * (see prelude.ts). It is a convenience for the guest and no border: a guest may break it for itself, so everything that
 * must hold is checked by the functions it calls.
 */
export type GuestGlobal = Readonly<{
  prelude: string;
  /** Functions that run in the worker, by name. */
  local?: Readonly<Record<string, LocalFunction>>;
}>;
