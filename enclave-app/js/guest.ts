/**
 * One run of a guest: a fresh engine, one module, one call.
 *
 * QuickJS's own limits do not contain a guest (reference ccf-js-apps.md 7.3, ecosystem.md 1.6): its heap limit counts per
 * allocation, a deep document can exhaust the stack beneath it, and after running out of memory an instance traps on
 * everything. So each run gets its own instance over its own capped memory, any exception that is not the guest's ends
 * the run, and nothing of an instance is used again. What even that cannot stop is ended from outside, with the thread.
 *
 * Runs in a worker thread. Trusted; the guest is not.
 */
import release from "@jitl/quickjs-wasmfile-release-sync";
import {
  newQuickJSWASMModuleFromVariant,
  newVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSRuntime,
  type QuickJSSyncVariant,
} from "quickjs-emscripten-core";
import { isFault } from "../../protocol/check.ts";
import type { GuestFailure, GuestGlobal, GuestOutcome, GuestProgram, LocalContext } from "./guest-types.ts";
import { preludeText } from "./prelude.ts";
import { GuestError, type SyncCaller, type SyncValue } from "./sync-call.ts";

/** The package's types describe its CommonJS form, in which the variant lies one level deeper. */
const variant = release as unknown as QuickJSSyncVariant;

const PAGE_BYTES = 64 * 1024;
/** The memory that the engine is built to start with. */
const INITIAL_PAGES = 256;
/** An instance whose memory grew to this share of its cap and then failed has run out of it. */
const FULL = 0.8;

export type GuestParts = Readonly<{
  engine: WebAssembly.Module;
  globals: readonly GuestGlobal[];
  caller: SyncCaller;
  log: LocalContext["log"];
}>;

/** Runs a program to its end. @param begun is called just before the first instruction of the guest. */
export async function runGuest(program: GuestProgram, parts: GuestParts, begun: () => void): Promise<GuestOutcome> {
  const { heapBytes } = program.limits;
  const memory = new WebAssembly.Memory({
    initial: INITIAL_PAGES,
    maximum: Math.max(INITIAL_PAGES, Math.ceil(heapBytes / PAGE_BYTES)),
  });
  const engine = await newQuickJSWASMModuleFromVariant(
    newVariant(variant, {
      wasmModule: parts.engine,
      wasmMemory: memory,
      emscriptenModule: { printErr: () => undefined } as object,
    }),
  );
  const guest = new Guest(program, parts, engine.newRuntime(), memory);
  begun();
  return guest.run();
}

class Guest {
  readonly #program: GuestProgram;
  readonly #parts: GuestParts;
  readonly #runtime: QuickJSRuntime;
  readonly #memory: WebAssembly.Memory;
  readonly #context: QuickJSContext;
  readonly #local: ReadonlyMap<string, NonNullable<GuestGlobal["local"]>[string]>;
  #driver: QuickJSHandle | undefined;
  #deadlineMs = Number.POSITIVE_INFINITY;
  /** Set once the guest must not go on: nothing it does can catch that. */
  #stopped = false;

  constructor(program: GuestProgram, parts: GuestParts, runtime: QuickJSRuntime, memory: WebAssembly.Memory) {
    this.#program = program;
    this.#parts = parts;
    this.#runtime = runtime;
    this.#memory = memory;
    this.#context = runtime.newContext();
    this.#local = new Map(parts.globals.flatMap(({ local }) => Object.entries(local ?? {})));
  }

  run(): GuestOutcome {
    const { limits, source, fileName } = this.#program;
    try {
      this.#build();
      // Only now: with a limit in force, the engine's own set-up can run out of memory and leave it broken.
      this.#runtime.setMemoryLimit(limits.heapBytes);
      this.#runtime.setMaxStackSize(limits.stackBytes);
      this.#deadlineMs = Date.now() + limits.executionMs;
      this.#runtime.setInterruptHandler(() => {
        this.#stopped ||= Date.now() > this.#deadlineMs;
        return this.#stopped;
      });
      const module = this.#context.evalCode(source, fileName, { type: "module" });
      if (module.error !== undefined) return this.#failed(module.error, true);
      return this.#callExport(module.value);
    } catch (error) {
      return this.#broken(error);
    }
  }

  #build(): void {
    const context = this.#context;
    const make = context.unwrapResult(context.evalCode(preludeText(this.#parts.globals), "<ccf>", { type: "global" }));
    const host = context.newFunction("host", (json, ...buffers) => this.#hostCall(json, buffers));
    this.#driver = context.unwrapResult(context.callFunction(make, context.undefined, host));
  }

  #callExport(module: QuickJSHandle): GuestOutcome {
    const context = this.#context;
    const target = context.getProp(module, this.#program.export);
    if (context.typeof(target) !== "function")
      return { ok: false, why: "exception", reason: `the module exports no function named ${this.#program.export}` };
    const result = this.#drive("run", target, context.newString(this.#program.args));
    if (result.error !== undefined) return this.#failed(result.error, false);
    const value = context.typeof(result.value) === "string" ? context.getString(result.value) : undefined;
    return { ok: true, value };
  }

  #drive(name: "run" | "describe", ...args: QuickJSHandle[]) {
    const context = this.#context;
    const driver = this.#driver ?? context.undefined;
    return context.callFunction(context.getProp(driver, name), context.undefined, ...args);
  }

  /** A call of the guest to a function of a global. */
  #hostCall(json: QuickJSHandle | undefined, buffers: QuickJSHandle[]): QuickJSHandle {
    const context = this.#context;
    if (json === undefined) throw new GuestError("TypeError", "a call has a name");
    const [name, ...plain] = JSON.parse(context.getString(json)) as [string, ...SyncValue[]];
    const args = [...plain, ...buffers.map((handle) => this.#bytes(handle))];
    try {
      const local = this.#local.get(name);
      return this.#toGuest(
        local === undefined
          ? this.#parts.caller.call(name, args, this.#deadlineMs)
          : local(this.#localContext(), ...args),
      );
    } catch (error) {
      if (!(error instanceof GuestError)) this.#stopped = true;
      throw error;
    }
  }

  #localContext(): LocalContext {
    return { log: this.#parts.log, arities: (source, fileName) => this.#arities(source, fileName) };
  }

  #bytes(handle: QuickJSHandle): Uint8Array {
    const lifetime = this.#context.getArrayBuffer(handle);
    const copy = lifetime.value.slice();
    lifetime.dispose();
    return copy;
  }

  #toGuest(value: SyncValue): QuickJSHandle {
    const context = this.#context;
    switch (typeof value) {
      case "undefined":
        return context.undefined;
      case "boolean":
        return value ? context.true : context.false;
      case "number":
        return context.newNumber(value);
      case "string":
        return context.newString(JSON.stringify(value));
      case "object":
        return context.newArrayBuffer(new Uint8Array(value).buffer);
    }
  }

  #arities(source: string, fileName: string): Record<string, number> {
    const context = this.#runtime.newContext();
    try {
      const module = context.evalCode(source, fileName, { type: "module" });
      if (module.error !== undefined)
        throw new GuestError("TypeError", `${fileName}: ${nameAndMessage(context, module.error)}`);
      const arities: Record<string, number> = {};
      for (const name of ["validate", "resolve", "apply"])
        context.getProp(module.value, name).consume((handle) => {
          if (context.typeof(handle) === "function")
            arities[name] = context.getProp(handle, "length").consume((length) => context.getNumber(length));
        });
      module.value.dispose();
      return arities;
    } finally {
      context.dispose();
    }
  }

  #failed(error: QuickJSHandle, loading: boolean): GuestOutcome {
    if (this.#stopped) return timedOut(this.#program.limits.executionMs);
    const described = this.#drive("describe", error);
    if (described.error !== undefined)
      return this.#stopped ? timedOut(this.#program.limits.executionMs) : this.#outOf(undefined);
    const { reason, trace } = JSON.parse(this.#context.getString(described.value)) as {
      reason: string;
      trace?: string;
    };
    const why = this.#kind(reason, loading);
    if (why === "memory" && !/memory/.test(reason)) return this.#outOf(undefined);
    return { ok: false, why, reason, ...(trace !== undefined && { trace }) };
  }

  #kind(reason: string, loading: boolean): GuestFailure {
    if (/stack overflow/.test(reason)) return "stack";
    if (reason.startsWith("InternalError: out of memory")) return "memory";
    // Out of memory, the engine often has none left to say so, and throws nothing at all.
    if ((reason === "null" || reason === "") && this.#memoryFull()) return "memory";
    return loading && reason.startsWith("SyntaxError") ? "syntax" : "exception";
  }

  /** The engine itself gave up: the instance is beyond use. */
  #broken(error: unknown): GuestOutcome {
    if (isFault(error, "SyncTimeout")) return timedOut(this.#program.limits.executionMs);
    return this.#outOf(error);
  }

  #outOf(error: unknown): GuestOutcome {
    if (this.#memoryFull())
      return {
        ok: false,
        why: "memory",
        reason: `out of memory: the limit is ${this.#program.limits.heapBytes} bytes`,
      };
    if (error instanceof RangeError) return { ok: false, why: "stack", reason: "stack overflow" };
    return { ok: false, why: "crashed", reason: "the script engine failed while it ran this script" };
  }

  #memoryFull(): boolean {
    return (
      this.#memory.buffer.byteLength >= FULL * Math.max(INITIAL_PAGES * PAGE_BYTES, this.#program.limits.heapBytes)
    );
  }
}

function nameAndMessage(context: QuickJSContext, error: QuickJSHandle): string {
  const text = (name: string) =>
    context
      .getProp(error, name)
      .consume((handle) => (context.typeof(handle) === "string" ? context.getString(handle) : ""));
  return error.consume(() => `${text("name")}: ${text("message")}`).slice(0, 1000);
}

function timedOut(executionMs: number): GuestOutcome {
  return { ok: false, why: "timeout", reason: `operation took too long: the limit is ${executionMs} ms` };
}
