/**
 * The program of a guest's worker thread: takes a job, runs it, reports, waits for the next.
 *
 * It is bundled to one text and started with `eval`, because the enclave's package has no other files to load. The thread
 * holds no key and no table, only what a guest was given; the main thread ends it whenever it likes.
 *
 * Trusted; it runs guests that are not.
 */
import { parentPort, workerData } from "node:worker_threads";
import { present } from "../protocol/check.ts";
import { guestGlobals } from "./ccf/globals.ts";
import { runGuest } from "./js/guest.ts";
import type { GuestJob, GuestReport } from "./js/guest-types.ts";
import { SyncCaller } from "./js/sync-call.ts";

/** Lines that one run may log, and the length of each. */
const LOG_LINES_MAX = 100;
const LOG_CHARS_MAX = 1000;

const parent = present(parentPort, "this program runs in a worker");
const { engine } = workerData as { engine: WebAssembly.Module };

parent.on("message", (job: GuestJob) => {
  let lines = 0;
  const report = (message: GuestReport) => parent.postMessage(message);
  const parts = {
    engine,
    globals: guestGlobals(job.purpose),
    caller: new SyncCaller({ port: job.port, answers: new Int32Array(job.answers) }),
    log: (level: "info" | "fail" | "fatal", text: string) => {
      if (++lines <= LOG_LINES_MAX) report({ kind: "log", level, text: text.slice(0, LOG_CHARS_MAX) });
    },
  };
  runGuest(job, parts, () => report({ kind: "begun" })).then(
    (outcome) => report({ kind: "done", outcome }),
    (error: unknown) => {
      // What is wrong here is wrong with the engine or with us, never with the guest: the thread is not used again.
      report({
        kind: "done",
        outcome: { ok: false, why: "crashed", reason: `the script engine did not start: ${String(error)}` },
      });
    },
  );
});
