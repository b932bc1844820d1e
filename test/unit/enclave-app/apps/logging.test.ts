import { afterAll, expect, test } from "vitest";
import { loggingEndpoints } from "../../../../enclave-app/apps/logging.ts";
import { sha256 } from "../../../../protocol/crypto/hash.ts";
import { bench, type Client, codeOf } from "../../node/enclave/http/client.ts";

const { service, user, connect, server } = bench(loggingEndpoints);
const client: Client = await connect(user);
afterAll(() => server.close());

test("a private message is read back, and the ledger's map holds JSON under a decimal key", async () => {
  const written = await client.call("POST", "/app/log/private", { id: 42, msg: "hello" });
  expect([written.status, written.text]).toEqual([200, "true"]);
  expect(written.headers["x-ms-ccf-transaction-id"]).toBe(`2.${service.store.version}`);
  const got = await client.call("GET", "/app/log/private?id=42");
  expect([got.status, got.text]).toEqual([200, '{"msg":"hello"}']);
  expect(service.store.map("records")?.cells.get("42")?.value?.toString()).toBe('"hello"');
});

test("public messages are another map, and carry the message's digest as etag", async () => {
  await client.call("POST", "/app/log/public", { id: 100, msg: "public message number 100" });
  const got = await client.call("GET", "/app/log/public?id=100");
  expect(got.headers["etag"]).toBe("152ad5b10605b324396fb74d9128440708d1a09ac6be0d524236cdc5e24a1762");
  expect((await client.call("GET", "/app/log/private?id=100")).status).toBe(404);
  expect(service.store.map("public:records")?.cells.has("100")).toBe(true);
});

test("a recorded claim is the digest of the message", async () => {
  const digests: (Uint8Array | undefined)[] = [];
  const commit = service.commit.bind(service);
  service.commit = (tx) => {
    digests.push(tx.claimsDigest);
    return commit(tx);
  };
  await client.call("POST", "/app/log/public", { id: 1, msg: "claimed", record_claim: true });
  await client.call("POST", "/app/log/public", { id: 1, msg: "unclaimed" });
  service.commit = commit;
  expect(digests).toEqual([sha256(Buffer.from("claimed")), undefined]);
});

test("deleting says whether there was something, and counting follows", async () => {
  const scope = "?scope=count";
  for (const id of [1, 2, 3]) await client.call("POST", `/app/log/private${scope}`, { id, msg: "x" });
  expect((await client.call("GET", `/app/log/private/count${scope}`)).text).toBe("3");
  expect((await client.call("DELETE", `/app/log/private${scope}&id=2`)).text).toBe("true");
  expect((await client.call("DELETE", `/app/log/private${scope}&id=2`)).text).toBe("false");
  expect((await client.call("GET", `/app/log/private/count${scope}`)).text).toBe("2");
  expect((await client.call("DELETE", `/app/log/private/all${scope}`)).text).toBe("true");
  expect((await client.call("GET", `/app/log/private/count${scope}`)).text).toBe("0");
});

test("the blocking write is answered when its transaction is committed", async () => {
  service.manual = true;
  const writing = client.call("POST", "/app/log/blocking/private", { id: 7, msg: "durable" });
  await expect.poll(() => service.waiting.length).toBe(1);
  service.settle("Committed");
  service.manual = false;
  expect([(await writing).status, (await writing).text]).toEqual([200, "true"]);
});

test.each([
  [{ foo: 1 }, "At #/: Missing required field 'id' in object."],
  [{ id: 1 }, "At #/: Missing required field 'msg' in object."],
  [{ id: 1, msg: "" }, "Cannot record an empty log message."],
  [{ id: "1", msg: "x" }, "At #/id: Expected a whole number from 0 to 2^53 - 1."],
  [{ id: -1, msg: "x" }, "At #/id: Expected a whole number from 0 to 2^53 - 1."],
  [{ id: 1.5, msg: "x" }, "At #/id: Expected a whole number from 0 to 2^53 - 1."],
  [{ id: 2 ** 53, msg: "x" }, "At #/id: Expected a whole number from 0 to 2^53 - 1."],
  [{ id: 1, msg: 5 }, "At #/msg: Expected a string."],
  [{ id: 1, msg: "x", record_claim: 1 }, "At #/record_claim: Expected true or false."],
  [[1], "At #/: Expected an object."],
  ["null", "At #/: Expected an object."],
  ["", "At #/: Missing required field 'id' in object."],
])("the body %j is refused: %s", async (body, message) => {
  const answer = await client.call("POST", "/app/log/private", body);
  expect(answer.status).toBe(400);
  expect(JSON.parse(answer.text)).toEqual({ error: { code: "InvalidInput", message } });
  expect(answer.headers["x-ms-ccf-transaction-id"]).toBeUndefined();
});

test.each(["", "?id=", "?id=abc", "?id=-1", "?id=1e3", "?id=99999999999999999"])(
  "a read of %j is refused",
  async (query) => {
    const answer = await client.call("GET", `/app/log/private${query}`);
    expect([answer.status, codeOf(answer)]).toEqual([400, "InvalidQueryParameterValue"]);
  },
);

test.each(["a/b", "", "x".repeat(65), "%00"])("the scope %j is refused", async (scope) => {
  const answer = await client.call("GET", `/app/log/private?id=1&scope=${scope}`);
  expect([answer.status, codeOf(answer)]).toEqual([400, "InvalidQueryParameterValue"]);
});
