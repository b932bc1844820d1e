import { fileURLToPath } from "node:url";
import { MessageChannel, Worker } from "node:worker_threads";
import { build } from "esbuild";
import { afterEach, beforeAll, expect, test } from "vitest";
import { GuestError, SYNC_BYTES_MAX, type SyncValue, serveSyncCalls } from "../../../../enclave-app/js/sync-call.ts";

type Served = (name: string, args: readonly SyncValue[]) => SyncValue;
type Reply = { value?: SyncValue; error?: { name: string; code?: string; message: string } };

/** A worker that makes the calls it is told to and reports what came back. */
let text = "";
beforeAll(async () => {
  const syncCall = fileURLToPath(new URL("../../../../enclave-app/js/sync-call.ts", import.meta.url));
  const { outputFiles } = await build({
    stdin: {
      resolveDir: "/",
      contents: `
        import { parentPort, workerData } from "node:worker_threads";
        import { SyncCaller } from ${JSON.stringify(syncCall)};
        const caller = new SyncCaller({ port: workerData.port, answers: new Int32Array(workerData.answers) });
        parentPort.on("message", ({ name, args, waitMs }) => {
          try {
            parentPort.postMessage({ value: caller.call(name, args, Date.now() + waitMs) });
          } catch (error) {
            parentPort.postMessage({ error: { name: error.name, message: error.message, code: error.detail?.code } });
          }
        });`,
    },
    bundle: true,
    write: false,
    platform: "node",
    format: "cjs",
  });
  text = outputFiles[0]?.text ?? "";
});

let worker: Worker | undefined;
afterEach(() => worker?.terminate());

function start(serve: Served, onAbort: (error: unknown) => void = () => undefined) {
  const { port1, port2 } = new MessageChannel();
  const answers = new SharedArrayBuffer(4);
  serveSyncCalls({ port: port1, answers: new Int32Array(answers) }, serve, onAbort);
  const started = new Worker(text, { eval: true, workerData: { port: port2, answers }, transferList: [port2] });
  worker = started;
  return {
    port: port1,
    call: (name: string, args: SyncValue[], waitMs = 20_000) =>
      new Promise<Reply>((resolve) => {
        started.once("message", resolve);
        started.postMessage({ name, args, waitMs });
      }),
  };
}

test("every kind of value crosses there and back, bytes as copies of their own", async () => {
  const { call } = start((_, args) => args[0]);
  for (const value of [undefined, true, 4.5, "a\u0000\ud83d\ude00", new Uint8Array([1, 2, 3])])
    expect(await call("echo", [value])).toEqual({ value });
  const pooled = Buffer.from("secret neighbours").subarray(0, 3);
  const { value } = await call("echo", [pooled]);
  expect(value).toEqual(new Uint8Array(pooled));
  expect((value as Uint8Array).buffer.byteLength).toBe(3);
});

test("many calls in turn get each its own answer", async () => {
  const { call } = start((name, args) => `${name} ${String(args[0])}`);
  for (let i = 0; i < 200; i++) expect(await call("n", [i])).toEqual({ value: `n ${i}` });
});

test("large values cross, larger ones are refused at either end", async () => {
  const { call } = start((name, args) =>
    name === "grow" ? new Uint8Array(SYNC_BYTES_MAX + 1) : (args[0] as Uint8Array).length,
  );
  expect(await call("length", [new Uint8Array(SYNC_BYTES_MAX)])).toEqual({ value: SYNC_BYTES_MAX });
  expect((await call("length", [new Uint8Array(SYNC_BYTES_MAX + 1)])).error?.name).toBe("RangeError");
  expect((await call("grow", [])).error).toMatchObject({
    name: "RangeError",
    message: "the answer is too large for a guest",
  });
});

test("an error for the guest reaches it by name and message", async () => {
  const { call } = start(() => {
    throw new GuestError("TypeError", "not so");
  });
  expect((await call("x", [])).error).toMatchObject({ name: "TypeError", message: "not so" });
});

test("any other error goes to the server of the calls, and the guest is told to stop", async () => {
  const aborted: unknown[] = [];
  const { call } = start(
    () => {
      throw new Error("a secret");
    },
    (error) => aborted.push(error),
  );
  const { error } = await call("x", []);
  expect(error).toMatchObject({ code: "SyncAborted" });
  expect(error?.message).not.toContain("secret");
  expect(aborted).toEqual([new Error("a secret")]);
});

test("a call that nobody answers ends at its deadline", async () => {
  const { call, port } = start(() => 1);
  port.close();
  expect((await call("x", [], 50)).error).toMatchObject({ code: "SyncTimeout" });
});

test.each([
  ["nothing", undefined],
  ["a number", 1],
  ["no arguments", { name: "x" }],
  ["a name that is none", { name: 1, args: [] }],
  ["a long name", { name: "x".repeat(65), args: [] }],
  ["too many arguments", { name: "x", args: Array(9).fill(1) }],
  ["an argument of another kind", { name: "x", args: [{}] }],
  ["arguments that are no list", { name: "x", args: "y" }],
])("a message that is %s is answered, not served", async (_, message) => {
  let served = 0;
  const { port1, port2 } = new MessageChannel();
  const answers = new Int32Array(new SharedArrayBuffer(4));
  serveSyncCalls(
    { port: port1, answers },
    () => void served++ as undefined,
    () => undefined,
  );
  const answer = new Promise((resolve) => port2.once("message", resolve));
  port2.postMessage(message);
  expect(await answer).toEqual({ kind: "error", name: "TypeError", message: "not a call" });
  expect(served).toBe(0);
  expect(answers[0]).toBe(1);
  port1.close();
});
