/**
 * The worker threads that guests run in.
 *
 * A thread runs one guest at a time. It is started when it is needed, ended some seconds after its last guest to give
 * its memory back, and ended at once, without a word, when a guest neither finishes nor lets itself be interrupted, or
 * when its engine broke. Only a thread whose guest ended cleanly is used again.
 *
 * Trusted.
 */
import { MessageChannel, Worker } from "node:worker_threads";
import type { GuestJob, GuestOutcome, GuestProgram, GuestReport, LogLevel } from "./guest-types.ts";
import { type SyncValue, serveSyncCalls } from "./sync-call.ts";

export type GuestPoolParts = Readonly<{
  /** Bundled text of guest-worker.ts. */
  workerText: string;
  /** The engine's WebAssembly bytes. */
  wasm: Uint8Array;
  threads: number;
  /** How long a thread without work is kept. */
  idleMs?: number;
  log?(level: LogLevel, text: string): void;
}>;

/** Answers one call of a guest; see `serveSyncCalls`. */
export type ServeGuest = (name: string, args: readonly SyncValue[]) => SyncValue;

/** The engine recurses on the thread's own stack; the guest's limit must be reached first (ccf-js-apps.md 7.3). */
const THREAD_STACK_MB = 16;
const THREAD_HEAP_MB = 192;
const IDLE_MS = 5000;
/** For the start of a thread and of its engine, on a busy machine. */
const START_MS = 15_000;
/** Runs that may wait for a thread. */
const WAITING_MAX = 1000;

type Waiting = Readonly<{
  program: GuestProgram;
  serve: ServeGuest;
  resolve(outcome: GuestOutcome): void;
  reject(error: unknown): void;
}>;

export class GuestPool {
  readonly #parts: GuestPoolParts;
  #engine: Promise<WebAssembly.Module> | undefined;
  readonly #idle: GuestThread[] = [];
  readonly #all = new Set<GuestThread>();
  #waiting: Waiting[] = [];

  constructor(parts: GuestPoolParts) {
    this.#parts = parts;
  }

  /**
   * Runs a program, as soon as a thread is free.
   * @throws whatever `serve` threw that is not the guest's business: the run is then given up.
   */
  run(program: GuestProgram, serve: ServeGuest): Promise<GuestOutcome> {
    if (this.#waiting.length >= WAITING_MAX)
      return Promise.resolve({ ok: false, why: "crashed", reason: "too many scripts wait to run; try again later" });
    const { promise, resolve, reject } = Promise.withResolvers<GuestOutcome>();
    this.#waiting.push({ program, serve, resolve, reject });
    this.#next();
    return promise;
  }

  /** Ends every thread. What still runs or waits ends as crashed. */
  async close(): Promise<void> {
    for (const { resolve } of this.#waiting) resolve({ ok: false, why: "crashed", reason: "the node is stopping" });
    this.#waiting = [];
    await Promise.all([...this.#all].map((thread) => thread.end()));
  }

  #next(): void {
    const next = this.#waiting[0];
    if (next === undefined) return;
    const thread =
      this.#idle.findLast(({ usable }) => usable) ?? (this.#all.size < this.#parts.threads ? this.#start() : undefined);
    if (thread === undefined) return;
    this.#waiting.shift();
    this.#forgetIdle(thread);
    thread
      .run(next.program, next.serve)
      .then(next.resolve, next.reject)
      .finally(() => {
        if (thread.usable) this.#idle.push(thread);
        this.#next();
      });
  }

  #start(): GuestThread {
    // Compiled once; each thread instantiates it.
    this.#engine ??= WebAssembly.compile(new Uint8Array(this.#parts.wasm));
    const thread: GuestThread = new GuestThread(this.#parts, this.#engine, () => {
      this.#all.delete(thread);
      this.#forgetIdle(thread);
      this.#next();
    });
    this.#all.add(thread);
    return thread;
  }

  #forgetIdle(thread: GuestThread): void {
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
  }
}

/** One worker thread. */
class GuestThread {
  readonly #parts: GuestPoolParts;
  readonly #worker: Promise<Worker>;
  readonly #onEnd: () => void;
  #ended: Promise<void> | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #onReport: ((report: GuestReport) => void) | undefined;
  #onDeath: ((reason: string) => void) | undefined;

  constructor(parts: GuestPoolParts, engine: Promise<WebAssembly.Module>, onEnd: () => void) {
    this.#parts = parts;
    this.#onEnd = onEnd;
    this.#worker = engine.then((module) => this.#spawn(module));
  }

  get usable(): boolean {
    return this.#ended === undefined;
  }

  async run(program: GuestProgram, serve: ServeGuest): Promise<GuestOutcome> {
    clearTimeout(this.#idleTimer);
    const worker = await this.#worker;
    worker.ref();
    const { port1, port2 } = new MessageChannel();
    const answers = new SharedArrayBuffer(4);
    const { promise, resolve } = Promise.withResolvers<GuestOutcome>();
    let given: { error: unknown } | undefined;
    serveSyncCalls({ port: port1, answers: new Int32Array(answers) }, serve, (error) => {
      given ??= { error };
    });
    const { executionMs, graceMs } = program.limits;
    const late = () =>
      resolve({ ok: false, why: "timeout", reason: `operation took too long: the limit is ${executionMs} ms` });
    let deadline = setTimeout(late, START_MS);
    this.#onDeath = (reason) => resolve({ ok: false, why: "crashed", reason });
    this.#onReport = (report) => {
      switch (report.kind) {
        case "begun":
          clearTimeout(deadline);
          deadline = setTimeout(late, executionMs + graceMs);
          return;
        case "log":
          this.#parts.log?.(report.level, report.text);
          return;
        case "done":
          resolve(report.outcome);
          return;
      }
    };
    worker.postMessage({ ...program, port: port2, answers } satisfies GuestJob, [port2]);
    const outcome = await promise;
    clearTimeout(deadline);
    this.#onReport = undefined;
    this.#onDeath = undefined;
    port1.close();
    if (clean(outcome)) this.#rest(worker);
    else await this.end();
    if (given !== undefined) throw given.error;
    return outcome;
  }

  /** Ends the thread, whatever it does. */
  end(): Promise<void> {
    this.#ended ??= this.#worker.then(async (worker) => {
      clearTimeout(this.#idleTimer);
      await worker.terminate();
      this.#onEnd();
    });
    return this.#ended;
  }

  #spawn(engine: WebAssembly.Module): Worker {
    const worker = new Worker(this.#parts.workerText, {
      eval: true,
      workerData: { engine },
      env: {},
      stdin: false,
      stdout: true,
      stderr: true,
      resourceLimits: { stackSizeMb: THREAD_STACK_MB, maxOldGenerationSizeMb: THREAD_HEAP_MB },
    });
    worker.on("message", (report: GuestReport) => this.#onReport?.(report));
    worker.on("error", (error: Error) => this.#died(`the script engine's thread ended: ${error.message}`));
    worker.on("exit", () => this.#died("the script engine's thread ended"));
    return worker;
  }

  #rest(worker: Worker): void {
    worker.unref();
    this.#idleTimer = setTimeout(() => void this.end(), this.#parts.idleMs ?? IDLE_MS);
    this.#idleTimer.unref();
  }

  #died(reason: string): void {
    this.#onDeath?.(reason);
    void this.end();
  }
}

/** The guest came to an end by itself, and its engine with it. */
function clean(outcome: GuestOutcome): boolean {
  return outcome.ok || outcome.why === "exception" || outcome.why === "syntax";
}
