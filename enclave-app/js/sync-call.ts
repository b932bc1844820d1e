/**
 * A synchronous call from a guest's worker thread to the main thread.
 *
 * A guest calls `ccf.kv[...].get(k)` and wants the answer at once, but the transaction lives on the main thread. So the
 * worker posts the request, sleeps on one shared word, and takes the answer from its port when the word changes. The
 * main thread serves the request as one task among others: it never waits for a guest.
 *
 * One channel per guest run: when the run ends the channel ends, so that no late answer meets a later guest. What
 * arrives at the main thread comes from our own code in the worker but carries a guest's values; each is checked here for
 * shape and size, and by the function that serves it for meaning.
 *
 * Trusted.
 */
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { Fault } from "../../protocol/check.ts";

/** What may cross, in either direction. Bytes are copied. */
export type SyncValue = undefined | boolean | number | string | Uint8Array;

/** Longest call and longest answer. Copying one takes the main thread some milliseconds, no more. */
export const SYNC_BYTES_MAX = 8 * 1024 * 1024;
const ARGUMENTS_MAX = 8;
const NAME_CHARS_MAX = 64;

/** `SyncTimeout`: no answer in time. `SyncAborted`: the run was given up at the other end; the guest must not go on. */
export type SyncFault = { code: "SyncTimeout" | "SyncAborted" };

/** An error that the guest may catch, by the name of its class in the guest. */
export class GuestError extends Error {
  override readonly name: "TypeError" | "RangeError" | "InternalError" | "Error";

  constructor(name: GuestError["name"], message: string) {
    super(message);
    this.name = name;
  }
}

type Call = Readonly<{ name: string; args: readonly SyncValue[] }>;
type Answer =
  | Readonly<{ kind: "value"; value: SyncValue }>
  | Readonly<{ kind: "error"; name: GuestError["name"]; message: string }>
  | Readonly<{ kind: "abort" }>;

/** One end of a channel: a port, and the word that counts the answers. */
export type SyncEnd = Readonly<{ port: MessagePort; answers: Int32Array }>;

/** The worker's end: calls and sleeps until the answer is there. */
export class SyncCaller {
  readonly #end: SyncEnd;

  constructor(end: SyncEnd) {
    this.#end = end;
  }

  /**
   * @param deadlineMs of `Date.now()`, after which waiting ends.
   * @throws GuestError as the serving function threw it
   * @throws Fault<SyncFault>
   */
  call(name: string, args: readonly SyncValue[], deadlineMs: number): SyncValue {
    if (sizeOf(args) > SYNC_BYTES_MAX)
      throw new GuestError("RangeError", `a call may carry at most ${SYNC_BYTES_MAX} bytes`);
    const { port, answers } = this.#end;
    const before = Atomics.load(answers, 0);
    port.postMessage({ name, args: args.map(ownBytes) } satisfies Call);
    for (;;) {
      const received = receiveMessageOnPort(port) as { message: Answer } | undefined;
      if (received !== undefined) return open(received.message);
      const waitMs = deadlineMs - Date.now();
      if (waitMs <= 0) throw new Fault<SyncFault>({ code: "SyncTimeout" }, "the node did not answer the guest in time");
      Atomics.wait(answers, 0, before, waitMs);
    }
  }
}

/**
 * Serves a guest's calls at the main thread's end until the port is closed.
 *
 * @param serve answers a call. A `GuestError` it throws reaches the guest; anything else goes to `onAbort` and the guest
 *   is told to stop.
 */
export function serveSyncCalls(
  end: SyncEnd,
  serve: (name: string, args: readonly SyncValue[]) => SyncValue,
  onAbort: (error: unknown) => void,
): void {
  end.port.on("message", (message: unknown) => {
    const answer = answerTo(message, serve, onAbort);
    end.port.postMessage(answer);
    Atomics.add(end.answers, 0, 1);
    Atomics.notify(end.answers, 0);
  });
}

function answerTo(
  message: unknown,
  serve: (name: string, args: readonly SyncValue[]) => SyncValue,
  onAbort: (error: unknown) => void,
): Answer {
  try {
    if (!isCall(message)) throw new GuestError("TypeError", "not a call");
    const value = serve(message.name, message.args);
    if (sizeOf([value]) > SYNC_BYTES_MAX) throw new GuestError("RangeError", "the answer is too large for a guest");
    return { kind: "value", value: ownBytes(value) };
  } catch (error) {
    if (error instanceof GuestError) return { kind: "error", name: error.name, message: error.message };
    onAbort(error);
    return { kind: "abort" };
  }
}

function open(answer: Answer): SyncValue {
  switch (answer.kind) {
    case "value":
      return answer.value;
    case "error":
      throw new GuestError(answer.name, answer.message);
    case "abort":
      throw new Fault<SyncFault>({ code: "SyncAborted" }, "the node gave up this run");
  }
}

function isCall(message: unknown): message is Call {
  if (typeof message !== "object" || message === null || !("name" in message) || !("args" in message)) return false;
  const { name, args } = message;
  return (
    typeof name === "string" &&
    name.length <= NAME_CHARS_MAX &&
    Array.isArray(args) &&
    args.length <= ARGUMENTS_MAX &&
    args.every(isSyncValue) &&
    sizeOf(args) <= SYNC_BYTES_MAX
  );
}

function isSyncValue(value: unknown): value is SyncValue {
  return value === undefined || ["boolean", "number", "string"].includes(typeof value) || value instanceof Uint8Array;
}

function sizeOf(values: readonly SyncValue[]): number {
  let size = 0;
  for (const value of values) {
    if (typeof value === "string") size += value.length * 2;
    else if (value instanceof Uint8Array) size += value.length;
  }
  return size;
}

/** Cloning a view sends the whole memory behind it, and a Buffer shares its memory with strangers. */
function ownBytes(value: SyncValue): SyncValue {
  return value instanceof Uint8Array ? new Uint8Array(value) : value;
}
