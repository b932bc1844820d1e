import { once } from "node:events";
import { afterEach, expect, test } from "vitest";
import { noAuth } from "../../../../../node/enclave/http/auth.ts";
import { type Call, type Endpoint, json, type Reply } from "../../../../../node/enclave/http/endpoint.ts";
import { PIPELINE_MAX } from "../../../../../node/enclave/http/limits.ts";
import { type Bench, bench, type Client, codeOf, INTERFACE, request } from "./client.ts";

const KiB = 1024;
/** Deadlines short enough to wait for. What they end is seen by the client, never by a clock of the test. */
const SHORT = { headersMs: 60, requestMs: 60, checkIntervalMs: 10 };

let open: Bench | undefined;
afterEach(() => open?.server.close());

function start(more: Parameters<typeof bench>[1] = {}, handler: (call: Call) => Reply | Promise<Reply> = echo): Bench {
  const endpoint = (method: "GET" | "POST" | "PUT"): Endpoint => ({
    method,
    path: "/app/echo",
    auth: [noAuth],
    kind: "local",
    handler,
  });
  open = bench(() => [endpoint("GET"), endpoint("POST"), endpoint("PUT")], more);
  return open;
}

function echo({ request: { body, method } }: Call): Reply {
  return json({ method, size: body.length });
}

const errors = ({ server }: Bench) => server.sessionCounts().interfaces[INTERFACE]?.errors;

test("requests of one session are answered in order, each over the same connection", async () => {
  const client = await start().connect();
  for (let n = 0; n < 3; n++) expect((await client.call("POST", "/echo", "x".repeat(n))).text).toContain(`"size":${n}`);
});

test("an answer has no header that the client did not need", async () => {
  const answer = await (await start().connect()).call("GET", "/echo");
  expect(Object.keys(answer.headers)).toEqual(["content-type", "content-length"]);
});

test("pipelined requests are executed in the order they were sent, whatever their bodies and handlers wait for", async () => {
  const seen: string[] = [];
  const { connect } = start({}, async ({ request: { method, body } }) => {
    if (method === "POST") await new Promise(setImmediate);
    seen.push(`${method}${Buffer.from(body)}`);
    return json(seen.length);
  });
  const client = await connect();
  const sent = [
    request("POST", "/echo", "1"),
    request("GET", "/echo"),
    request("PUT", "/echo", "3"),
    request("GET", "/echo"),
  ];
  client.socket.write(Buffer.concat([...sent, ...sent]));
  const answers: unknown[] = [];
  for (let n = 0; n < 8; n++) answers.push(JSON.parse((await client.next())?.text ?? "null"));
  expect(answers).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(seen).toEqual(["POST1", "GET", "PUT3", "GET", "POST1", "GET", "PUT3", "GET"]);
});

test("a request may arrive byte by byte, and in chunks", async () => {
  const client = await start().connect();
  for (const byte of request("POST", "/echo", "slow")) client.socket.write(Buffer.from([byte]));
  expect((await client.next())?.text).toContain('"size":4');
  client.socket.write("POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  expect((await client.next())?.text).toContain('"size":5');
});

test("what a GET carries is ignored", async () => {
  const client = await start().connect();
  expect((await client.call("GET", "/echo", "ignored")).text).toContain('"size":0');
  expect((await client.call("GET", "/echo")).text).toContain('"size":0');
});

test("a client that asks first whether to send its body is told to", async () => {
  const client = await start().connect();
  expect((await client.call("POST", "/echo", "body", { expect: "100-continue" })).text).toContain('"size":4');
});

test("a client of HTTP/1.0 is answered and told that the connection ends", async () => {
  const client = await start().connect();
  client.socket.write("GET /echo HTTP/1.0\r\n\r\n");
  expect((await client.next())?.headers).toMatchObject({ Connection: "close" });
  await client.closed();
});

test("a session ends after the answer when the client says so", async () => {
  const client = await start().connect();
  expect((await client.call("GET", "/echo", undefined, { connection: "close" })).status).toBe(200);
  await client.closed();
});

test("a body over the limit is refused and the session closed, announced or not", async () => {
  const setup = start({ limits: { max_body_size: KiB } });
  const exact = await setup.connect();
  expect((await exact.call("POST", "/echo", "x".repeat(KiB))).status).toBe(200);

  const announced = await setup.connect();
  const refused = await announced.call("POST", "/echo", "x".repeat(KiB + 1));
  expect([refused.status, codeOf(refused), refused.headers["connection"]]).toEqual([
    413,
    "RequestBodyTooLarge",
    "close",
  ]);
  expect(refused.text).toContain("HTTP request body is too large (max size allowed: 1KB)");
  await announced.closed();

  const chunked = await setup.connect();
  const chunk = `400\r\n${"x".repeat(KiB)}\r\n`;
  chunked.socket.write(`POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n${chunk}${chunk}${chunk}`);
  expect(codeOf((await chunked.next())!)).toBe("RequestBodyTooLarge");
  await chunked.closed();
  expect(errors(setup)).toMatchObject({ request_payload_too_large: 2 });
});

test("a header over the limit is refused by name, and many together too", async () => {
  const setup = start();
  const value = await setup.connect();
  expect((await value.call("GET", "/echo", undefined, { "x-long": "y".repeat(16 * KiB) })).status).toBe(200);
  const refused = await value.call("GET", "/echo", undefined, { "x-long": "y".repeat(20_000) });
  expect([refused.status, codeOf(refused), refused.headers["connection"]]).toEqual([
    431,
    "RequestHeaderTooLarge",
    "close",
  ]);
  expect(refused.text).toContain("Header value for 'x-long' is too large (max size allowed: 16KB)");
  await value.closed();

  const key = await setup.connect();
  const named = await key.call("GET", "/echo", undefined, { ["X".repeat(17_000)]: "y" });
  expect(named.text).toContain(`Header key for '${"x".repeat(256)}' is too large`);

  const together = await setup.connect();
  const many = Object.fromEntries([1, 2, 3, 4, 5].map((n) => [`x-${n}`, "y".repeat(15_000)]));
  const overflow = await together.call("GET", "/echo", undefined, many);
  expect([overflow.status, codeOf(overflow)]).toEqual([431, "RequestHeaderTooLarge"]);
  await together.closed();
  expect(errors(setup)).toMatchObject({ request_header_too_large: 3 });
});

test("more headers than allowed are refused, not dropped", async () => {
  const setup = start({ limits: { max_headers_count: 50 } });
  const headers = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-${n}`, "y"]));
  const client = await setup.connect();
  // One more is the host header.
  expect((await client.call("GET", "/echo", undefined, headers(49))).status).toBe(200);
  expect((await client.call("GET", "/echo", undefined, headers(50))).text).toContain("max number allowed: 50");
  await client.closed();
});

test.each([
  ["no HTTP", "\u0000\u0001\u0002\r\n\r\n"],
  ["an unknown method", "BREW /echo HTTP/1.1\r\n\r\n"],
  ["two lengths", "POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx"],
  ["a length and chunks", "POST /echo HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx"],
  ["a header without a colon", "GET /echo HTTP/1.1\r\nnonsense\r\n\r\n"],
  ["a bare line feed", "GET /echo HTTP/1.1\nhost: x\n\n"],
  ["a chunk without a size", "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"],
])("a request with %s gets 400 and the end of the session", async (_, bytes) => {
  const setup = start();
  const client = await setup.connect();
  client.socket.write(bytes);
  const answer = await client.next();
  expect([answer?.status, answer?.headers["content-type"], answer?.headers["connection"]]).toEqual([
    400,
    "text/plain",
    "close",
  ]);
  expect(answer?.text).toMatch(/^HTTP parsing failed \(HPE_\w+\)\.$/);
  await client.closed();
  expect(errors(setup)).toMatchObject({ parsing: 1 });
});

test("nonsense behind a request that is not answered yet ends the session without tearing the answer", async () => {
  const { promise, resolve } = Promise.withResolvers<Reply>();
  const setup = start({}, () => promise);
  const client = await setup.connect();
  client.socket.write(Buffer.concat([request("GET", "/echo"), Buffer.from("nonsense\r\n\r\n")]));
  await client.closed();
  resolve(json(true));
  expect(await client.next()).toBeUndefined();
});

test("a tunnel is refused by ending the session", async () => {
  const client = await start().connect();
  client.socket.write("CONNECT example.org:443 HTTP/1.1\r\n\r\n");
  await client.closed();
});

test("an upgrade is not taken, the request is", async () => {
  const client = await start().connect();
  const answer = await client.call("GET", "/echo", undefined, { connection: "upgrade", upgrade: "h2c" });
  expect(answer.status).toBe(200);
});

test("a client that says nothing is told and closed", async () => {
  const client = await start({ deadlines: SHORT }).connect();
  expect((await client.next())?.status).toBe(408);
  await client.closed();
});

test.each([
  ["headers", "GET /echo HTTP/1.1\r\nx: "],
  ["body", "POST /echo HTTP/1.1\r\ncontent-length: 1000\r\n\r\nx"],
])("a client whose %s never end is told and closed, however busy it seems", async (_, beginning) => {
  const client = await start({ deadlines: SHORT }).connect();
  client.socket.write(beginning);
  const drip = setInterval(() => client.socket.write("y"), 5);
  const answer = await client.next();
  clearInterval(drip);
  expect(answer?.status).toBe(408);
  await client.closed();
});

test("a session without requests is closed, one that waits for its answer is not", async () => {
  const { promise, resolve } = Promise.withResolvers<Reply>();
  const setup = start({ idleTimeoutMs: 40 }, ({ request: { method } }) => (method === "POST" ? promise : json(true)));
  const waiting = await setup.connect();
  waiting.socket.write(request("POST", "/echo", {}));
  const idle = await setup.connect();
  await idle.call("GET", "/echo");
  await idle.closed();
  resolve(json("late"));
  expect((await waiting.next())?.text).toBe('"late"');
});

test("a client that shuts its writing end is done", async () => {
  const setup = start();
  const client = await setup.connect();
  client.socket.end();
  await client.closed();
  await expect.poll(() => setup.server.sessionCounts().active).toBe(0);
});

test("a client that vanishes while its request is executed harms nobody", async () => {
  const { promise, resolve } = Promise.withResolvers<Reply>();
  const setup = start({}, ({ request: { method } }) => (method === "POST" ? promise : json(true)));
  const gone = await setup.connect();
  gone.socket.write(request("POST", "/echo", {}));
  gone.socket.write("POST /echo HTTP/1.1\r\ncontent-length: 10\r\n\r\nhalf");
  const other = await setup.connect();
  gone.socket.destroy();
  await expect.poll(() => setup.server.sessionCounts().active).toBe(1);
  resolve(json(true));
  expect((await other.call("GET", "/echo")).status).toBe(200);
  expect(setup.logged).toEqual([]);
});

test("a session that piles up unanswered requests is ended", async () => {
  const setup = start({}, () => new Promise(() => {}));
  const client = await setup.connect();
  client.socket.write(Buffer.concat(Array.from({ length: PIPELINE_MAX + 1 }, () => request("GET", "/echo"))));
  await client.closed();
  expect(setup.logged[0]).toContain("without an answer");
});

test("over the soft cap a session is refused in words, over the hard cap without", async () => {
  const setup = start({ limits: { max_open_sessions_soft: 2, max_open_sessions_hard: 3 } });
  const [first] = [await setup.connect(), await setup.connect()];
  const surplus = await setup.connect();
  await once(setup.dial(), "close");
  const refused = await surplus.call("POST", "/echo", "x");
  expect([refused.status, codeOf(refused), refused.headers["connection"]]).toEqual([
    503,
    "SessionCapExhausted",
    "close",
  ]);
  await surplus.closed();

  await expect.poll(() => setup.server.sessionCounts().active).toBe(2);
  expect(setup.server.sessionCounts()).toEqual({
    active: 2,
    peak: 3,
    interfaces: {
      [INTERFACE]: {
        active: 2,
        peak: 3,
        soft_cap: 2,
        hard_cap: 3,
        errors: { parsing: 0, request_header_too_large: 0, request_payload_too_large: 0 },
      },
    },
  });
  first?.socket.destroy();
  await expect.poll(() => setup.server.sessionCounts().active).toBe(1);
  expect((await (await setup.connect()).call("GET", "/echo")).status).toBe(200);
});

test("closing answers what waits for commit, ends every session and takes no new one", async () => {
  const setup = bench((service) => {
    service.manual = true;
    return [
      {
        method: "POST",
        path: "/app/write",
        auth: [noAuth],
        kind: "write",
        respondOnCommit: true,
        handler({ tx }) {
          tx.map("m").set(Buffer.from("k"), Buffer.from("v"));
          return json(true);
        },
      },
    ];
  });
  const [idle, busy, deaf]: Client[] = [await setup.connect(), await setup.connect(), await setup.connect()];
  deaf?.socket.pause();
  busy?.socket.write(request("POST", "/write", {}));
  await expect.poll(() => setup.service.waiting.length).toBe(1);
  await setup.server.close();
  const answer = await busy?.next();
  expect([answer?.status, codeOf(answer!), answer?.headers["connection"]]).toEqual([
    503,
    "CommitOutcomeUnknown",
    "close",
  ]);
  await idle?.closed();
  expect(setup.server.sessionCounts().active).toBe(0);
  await once(setup.dial(), "close");
});

test("each frontend describes its endpoints", async () => {
  const client = await start().connect();
  const app = JSON.parse((await client.call("GET", "/app/api")).text) as { openapi: string; paths: object };
  expect(app.openapi).toBe("3.0.0");
  expect(Object.keys(app.paths)).toEqual(["/app/echo"]);
  expect((await client.call("GET", "/gov/api")).status).toBe(200);
  expect((await client.call("GET", "/node/api")).headers["x-ms-ccf-transaction-id"]).toBeUndefined();
});
