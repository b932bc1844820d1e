import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { noAuth } from "../../../../../node/enclave/http/auth.ts";
import { type Call, type Endpoint, HttpError, json, type Reply } from "../../../../../node/enclave/http/endpoint.ts";
import { Fault } from "../../../../../protocol/check.ts";
import { type Answered, type Bench, bench, type Client, codeOf } from "./client.ts";
import type { FakeService } from "./fake-service.ts";

const TX_ID = "x-ms-ccf-transaction-id";
const KEY = Buffer.from("key");

let handle: (call: Call) => Reply | Promise<Reply>;
let setup: Bench;
let service: FakeService;
let client: Client;

function endpoints(): Endpoint[] {
  const all = { path: "/app/do", auth: [noAuth], handler: (call: Call) => handle(call) };
  return [
    { ...all, method: "POST", kind: "write" },
    { ...all, method: "GET", kind: "read" },
    { ...all, method: "PUT", kind: "local" },
    { ...all, method: "POST", path: "/app/blocking", kind: "write", respondOnCommit: true },
    { ...all, method: "GET", path: "/node/do", kind: "local" },
    { ...all, method: "GET", path: "/app/with/{name}", kind: "local" },
  ];
}

beforeEach(async () => {
  setup = bench(endpoints, { deadlines: { commitWaitMs: 50 } });
  ({ service } = setup);
  client = await setup.connect();
  handle = write;
});
afterEach(() => setup.server.close());

function write({ tx }: Call): Reply {
  tx.map("records").set(KEY, Buffer.from("value"));
  return json(true);
}
const stored = () => service.store.map("records")?.cells.get("key")?.value?.toString();
const post = (headers?: Record<string, string>) => client.call("POST", "/app/do", {}, headers);

describe("before the handler", () => {
  test("an overloaded node refuses all but /node", async () => {
    service.busy = true;
    handle = () => json("here");
    expect(outcome(await post())).toEqual([503, "TooManyPendingTransactions"]);
    expect(outcome(await client.call("GET", "/nothing"))).toEqual([503, "TooManyPendingTransactions"]);
    expect((await client.call("GET", "/node/do")).status).toBe(200);
  });

  test("a closed frontend answers for all its paths", async () => {
    service.closedFrontends.add("app");
    expect(outcome(await post())).toEqual([404, "FrontendNotOpen"]);
    expect(outcome(await client.call("GET", "/app/nothing"))).toEqual([404, "FrontendNotOpen"]);
  });

  test("a write on a backup is redirected to the primary, with everything the client asked for", async () => {
    service.primary = false;
    const answer = await client.call("POST", "/do?x=1&y=%20", {});
    expect(answer).toMatchObject({
      status: 307,
      headers: { location: "https://127.0.0.1:8000/do?x=1&y=%20", "content-length": "0" },
    });
    handle = () => json("read here");
    expect((await client.call("GET", "/app/do")).status).toBe(200);
  });

  test("a write on a backup that knows no primary is refused", async () => {
    service.primary = false;
    service.address = undefined;
    expect(outcome(await post())).toEqual([503, "PrimaryNotFound"]);
  });

  test("OPTIONS names the methods, and another method is refused with them", async () => {
    expect(await client.call("OPTIONS", "/app/do")).toMatchObject({
      status: 204,
      headers: { allow: "OPTIONS, GET, POST, PUT", "content-length": "0" },
    });
    const refused = await client.call("DELETE", "/do");
    expect(outcome(refused)).toEqual([405, "UnsupportedHttpVerb"]);
    expect(refused.headers["allow"]).toBe("OPTIONS, GET, POST, PUT");
    expect(JSON.parse(refused.text).error.message).toBe("Allowed methods for '/do' are: OPTIONS, GET, POST, PUT.");
    expect(outcome(await client.call("PROPFIND", "/app/do"))).toEqual([405, "UnsupportedHttpVerb"]);
  });

  test.each([
    ["/app/nothing", "/nothing"],
    ["/nothing", "/nothing"],
    ["/", "/"],
    ["/app", "/"],
    ["/other/do?x", "/other/do"],
    ["/node/nothing#do", "/nothing"],
    ["/application/do", "/application/do"],
    ["https://127.0.0.1:8000/gov/nothing", "/nothing"],
  ])("%s is unknown", async (path, named) => {
    const answer = await client.call("GET", path);
    expect(outcome(answer)).toEqual([404, "ResourceNotFound"]);
    expect(JSON.parse(answer.text).error.message).toBe(`Unknown path: ${named}.`);
  });
});

describe("a transaction", () => {
  test("that wrote is answered with its id", async () => {
    const answer = await post();
    expect(answer).toMatchObject({ status: 200, text: "true" });
    expect(answer.headers).toEqual({ "content-type": "application/json", "content-length": "4", [TX_ID]: idNow() });
    expect(stored()).toBe("value");
  });

  test("that only read is answered with the id of what it saw, and one that touched nothing with none", async () => {
    handle = ({ tx }) => json(tx.map("records").has(KEY));
    expect((await client.call("GET", "/app/do")).headers[TX_ID]).toBe(idNow());
    handle = () => json(true);
    expect((await client.call("GET", "/app/do")).headers[TX_ID]).toBeUndefined();
  });

  test("of a handler that answers later is committed then", async () => {
    handle = async (call) => {
      await new Promise(setImmediate);
      return write(call);
    };
    expect((await post()).headers[TX_ID]).toBe(idNow());
  });

  test.each([400, 302, 500])("whose answer is %i leaves nothing behind", async (status) => {
    handle = (call) => ({ ...write(call), status });
    const answer = await post();
    expect(answer.status).toBe(status);
    expect(answer.headers[TX_ID]).toBeUndefined();
    expect(stored()).toBeUndefined();
  });

  test("whose handler insists is committed although it is refused", async () => {
    handle = (call) => ({ ...write(call), status: 400, applyWrites: true });
    expect((await post()).headers[TX_ID]).toBe(idNow());
    expect(stored()).toBe("value");

    handle = ({ tx }) => {
      tx.map("records").set(KEY, Buffer.from("kept"));
      throw new HttpError(400, "InvalidInput", "refused", { applyWrites: true });
    };
    const answer = await post();
    expect([outcome(answer), answer.headers[TX_ID], stored()]).toEqual([[400, "InvalidInput"], idNow(), "kept"]);
  });

  test("that conflicts is run again from the start", async () => {
    let runs = 0;
    handle = async (call) => {
      const seen = call.tx.map("records").get(KEY)?.toString() ?? "";
      if (++runs < 3) {
        const other = service.begin();
        other.map("records").set(KEY, Buffer.from(`${seen}${runs}`));
        await new Promise(setImmediate);
        service.commit(other);
      }
      call.tx.map("records").set(KEY, Buffer.from(`${seen}!`));
      return json(seen);
    };
    expect((await post()).text).toBe('"12"');
    expect([runs, stored()]).toEqual([3, "12!"]);
  });

  test("that always conflicts is given up after 30 attempts", async () => {
    let runs = 0;
    handle = () => {
      runs++;
      throw new Fault({ code: "TxConflict", map: "records" });
    };
    const answer = await post();
    expect([...outcome(answer), answer.headers["retry-after"], runs]).toEqual([
      503,
      "TransactionCommitAttemptsExceedLimit",
      "3",
      30,
    ]);
  });

  test("that lost its primary is refused", async () => {
    service.failures.push(new Fault({ code: "NotPrimary" }));
    expect(outcome(await post())).toEqual([503, "TransactionReplicationFailed"]);
  });

  test("of an endpoint that should only read must not write", async () => {
    for (const method of ["GET", "PUT"]) {
      const answer = await client.call(method, "/app/do", method === "PUT" ? {} : undefined);
      expect(outcome(answer)).toEqual([500, "InternalError"]);
    }
    expect(stored()).toBeUndefined();
  });
});

describe("a session", () => {
  test("that saw another view is told and closed", async () => {
    await post();
    service.currentView = 3;
    const answer = await post();
    expect([...outcome(answer), answer.headers["connection"]]).toEqual([500, "SessionConsistencyLost", "close"]);
    await client.closed();
    expect(service.commits).toBe(1);
    const next = await setup.connect();
    expect((await next.call("POST", "/app/do", {})).status).toBe(200);
  });

  test("that began before there was a view takes the first one it sees", async () => {
    service.currentView = 0;
    handle = () => json(true);
    await client.call("GET", "/node/do");
    service.currentView = 2;
    expect((await client.call("GET", "/node/do")).status).toBe(200);
    service.currentView = 4;
    expect(outcome(await client.call("GET", "/node/do"))).toEqual([500, "SessionConsistencyLost"]);
  });
});

describe("waiting for commit", () => {
  const WAIT = { "x-camerata-wait": "committed" };
  beforeEach(() => {
    service.manual = true;
  });

  test("the normal answer comes when the transaction is committed", async () => {
    const answer = post(WAIT);
    await expect.poll(() => service.waiting.length).toBe(1);
    service.settle("Committed");
    expect(await answer).toMatchObject({ status: 200, text: "true", headers: { [TX_ID]: idNow() } });
  });

  test("a rolled back transaction is a clear error that names it", async () => {
    const answer = post(WAIT);
    await expect.poll(() => service.waiting.length).toBe(1);
    service.settle("Invalid");
    expect([outcome(await answer), (await answer).headers[TX_ID]]).toEqual([[503, "TransactionInvalid"], idNow()]);
  });

  test("an endpoint that always waits answers a rolled back transaction as CCF's does", async () => {
    const answer = client.call("POST", "/app/blocking", {});
    await expect.poll(() => service.waiting.length).toBe(1);
    service.settle("Invalid");
    expect([outcome(await answer), (await answer).headers[TX_ID]]).toEqual([[500, "TransactionInvalid"], idNow()]);
  });

  test("an outcome that does not come in time is said to be unknown, with the id to ask for", async () => {
    const answer = await post(WAIT);
    expect([outcome(answer), answer.headers[TX_ID]]).toEqual([[503, "CommitOutcomeUnknown"], idNow()]);
    expect(JSON.parse(answer.text).error.message).toContain(`/app/tx?transaction_id=${idNow()}`);
    // What comes too late is nobody's answer.
    service.settle("Committed");
    service.manual = false;
    expect((await post()).status).toBe(200);
  });

  test("a refused request does not wait", async () => {
    handle = () => {
      throw new HttpError(400, "InvalidInput", "no");
    };
    expect(outcome(await post(WAIT))).toEqual([400, "InvalidInput"]);
    expect(service.waiting).toEqual([]);
  });

  test("another value of the header is refused", async () => {
    expect(outcome(await post({ "x-camerata-wait": "replicated" }))).toEqual([400, "InvalidHeaderValue"]);
  });

  test("the next request of the session does not wait for it", async () => {
    const first = post(WAIT);
    const second = client.call("POST", "/app/do", {});
    await expect.poll(() => service.commits).toBe(2);
    service.settle("Committed");
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });
});

describe("what a handler does wrong", () => {
  test.each([
    ["throws an error", () => Promise.reject(new Error("secret"))],
    ["throws at once", () => thrown(new TypeError("secret"))],
    ["throws what is no error", () => thrown("secret")],
    ["has an unforeseen fault", () => thrown(new Fault({ code: "Unforeseen", data: "secret" }, "secret"))],
    ["answers with no status", () => ({ status: 99_999 })],
    ["answers with half a status", () => ({ status: 200.5 })],
    ["sets a header that cannot be", () => ({ status: 200, headers: { "a\nb": "secret" } })],
    ["sets a header's value that cannot be", () => ({ status: 200, headers: { a: "secret\r\nb: c" } })],
    ["sets a header that is ours", () => ({ status: 200, headers: { "Content-Length": "5" } })],
    ["answers with what has no JSON", () => ({ status: 200, body: () => "secret" })],
  ] satisfies [string, () => Reply | Promise<Reply>][])(
    "a handler that %s is an internal error that tells nothing",
    async (_, wrong) => {
      handle = (call) => {
        write(call);
        return wrong();
      };
      const answer = await post();
      expect(outcome(answer)).toEqual([500, "InternalError"]);
      expect(answer.text).not.toContain("secret");
      expect(setup.logged.join()).not.toContain("secret");
      expect(stored()).toBeUndefined();
      handle = write;
      expect((await post()).status).toBe(200);
    },
  );

  test("the log names the kind of an unforeseen error and where it was", async () => {
    handle = () => thrown(new RangeError("line one\n    at secret"));
    await post();
    expect(setup.logged[0]).toMatch(/^a request failed: RangeError\n +at .*dispatch\.test\.ts/);
  });
});

describe("an answer", () => {
  test.each([
    [{ status: 200, body: { b: 1 } }, 200, "application/json", '{"b":1}'],
    [{ status: 200, body: "text" }, 200, "application/json", '"text"'],
    [{ status: 200, body: "ü" }, 200, "application/json", '"ü"'],
    [{ status: 200, body: null }, 204, undefined, ""],
    [{ status: 202 }, 202, undefined, ""],
    [{ status: 200, body: Buffer.from([1, 2]) }, 200, "application/octet-stream", "\u0001\u0002"],
    [{ status: 200, body: Buffer.from("x"), headers: { "Content-Type": "text/plain" } }, 200, "text/plain", "x"],
  ] satisfies [Reply, number, string | undefined, string][])(
    "%j has status %i and type %s",
    async (reply, status, type, text) => {
      handle = () => reply;
      const answer = await client.call("PUT", "/app/do", {});
      expect(answer.headers).toEqual({
        ...(type !== undefined && { "content-type": type }),
        "content-length": String(Buffer.byteLength(text)),
      });
      expect([answer.status, answer.text]).toEqual([status, text]);
    },
  );

  test.each(["*/*", "application/json", "text/html, application/*;q=0.5", "APPLICATION/JSON; q=1"])(
    "a client that takes %s gets JSON",
    async (accept) => expect((await post({ accept })).status).toBe(200),
  );

  test("a client that takes no JSON is refused before anything is written", async () => {
    expect(outcome(await post({ accept: "text/html" }))).toEqual([406, "UnsupportedContentType"]);
    expect(stored()).toBeUndefined();
  });

  test("a handler sees the path with its frontend, its parameters and its query", async () => {
    handle = ({ request }) => json([request.path, request.url, request.params, [...request.query], request.method]);
    const answer = await client.call("GET", "/with/a%20b?x=1&y=a%2Bb+c#z=2");
    expect(JSON.parse(answer.text)).toEqual([
      "/app/with/a%20b",
      "/with/a%20b?x=1&y=a%2Bb+c#z=2",
      { name: "a b" },
      [
        ["x", "1"],
        ["y", "a+b c"],
      ],
      "GET",
    ]);
  });

  test.each([
    ["", {}],
    ["[1]", [1]],
  ])("the body %j is read as JSON %j", async (body, value) => {
    handle = ({ request }) => json([request.json()]);
    expect(JSON.parse((await client.call("PUT", "/do", body)).text)).toEqual([value]);
  });

  test.each(["{", "nothing", Buffer.from([0x22, 0xff, 0x22])])("the body %j is not JSON", async (body) => {
    handle = ({ request }) => json(request.json());
    expect(outcome(await client.call("PUT", "/do", body))).toEqual([400, "InvalidInput"]);
  });
});

test("a broken invariant is thrown past everyone who handles requests", async () => {
  const { Broken } = await import("../../../../../protocol/check.ts");
  const { createDispatcher } = await import("../../../../../node/enclave/http/dispatch.ts");
  const { createRegistry } = await import("../../../../../node/enclave/http/registry.ts");
  const tasks: (() => void)[] = [];
  vi.stubGlobal("queueMicrotask", (task: () => void) => tasks.push(task));
  const broken = new Broken("two and two are four");
  const registry = createRegistry([
    { method: "GET", path: "/app/x", auth: [noAuth], kind: "read", handler: () => thrown(broken) },
  ]);
  const dispatcher = createDispatcher({ registry, service, commitWaitMs: 1, log: () => {} });
  const request = { method: "GET", path: "/app/x", frontend: "app", headers: {}, session: { id: 1, view: undefined } };
  const answer = await dispatcher.dispatch(request as never, () => {});
  vi.unstubAllGlobals();
  expect(answer.status).toBe(500);
  expect(() => tasks[0]?.()).toThrow(broken);
});

function outcome(answer: Answered): [number, string] {
  return [answer.status, codeOf(answer)];
}

function idNow(): string {
  return `2.${service.store.version}`;
}

function thrown(error: unknown): never {
  throw error;
}
