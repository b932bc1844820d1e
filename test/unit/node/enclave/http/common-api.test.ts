import { afterAll, expect, test } from "vitest";
import { commonEndpoints } from "../../../../../node/enclave/http/common-api.ts";
import { bench, codeOf } from "./client.ts";

const { server, service, connect } = bench(commonEndpoints);
const client = await connect();
afterAll(() => server.close());

const get = async (path: string) => {
  const { status, text, headers } = await client.call("GET", path);
  expect(headers["x-ms-ccf-transaction-id"]).toBeUndefined();
  return [status, JSON.parse(text)] as const;
};

test.each(["app", "gov", "node"])("/%s says how far the service has committed", async (frontend) => {
  const transaction_id = `2.${service.store.version}`;
  expect(await get(`/${frontend}/commit`)).toEqual([200, { transaction_id }]);
  expect(await get(`/${frontend}/commit?view_history=false`)).toEqual([200, { transaction_id }]);
  expect(await get(`/${frontend}/commit?view_history=true`)).toEqual([200, { transaction_id, view_history: ["2.1"] }]);
  expect(await get(`/${frontend}/commit?view_history_since=2`)).toEqual([
    200,
    { transaction_id, view_history: ["2.1"] },
  ]);
});

test("a history that is empty is left out", async () => {
  service.viewHistory = () => [];
  expect(await get("/node/commit?view_history=true")).toEqual([200, { transaction_id: `2.${service.store.version}` }]);
});

test.each([
  "view_history=maybe",
  "view_history_since=0",
  "view_history_since=3",
  "view_history_since=x",
  "view_history_since=",
])("/commit?%s is refused", async (query) => {
  const answer = await client.call("GET", `/node/commit?${query}`);
  expect([answer.status, codeOf(answer)]).toEqual([400, "InvalidQueryParameterValue"]);
});

test.each(["app", "gov", "node"])("/%s knows what became of a transaction", async (frontend) => {
  expect(await get(`/${frontend}/tx?transaction_id=2.1`)).toEqual([
    200,
    { status: "Committed", transaction_id: "2.1" },
  ]);
  expect(await get(`/${frontend}/tx?transaction_id=2.999`)).toEqual([
    200,
    { status: "Unknown", transaction_id: "2.999" },
  ]);
});

test.each(["xyz", "2", "2.", "2.1.1", "02.1", "-1.1", "2.99999999999999999999", ""])(
  "the id '%s' is refused",
  async (id) => {
    const answer = await client.call("GET", `/app/tx?transaction_id=${id}`);
    expect([answer.status, codeOf(answer)]).toEqual([400, "InvalidQueryParameterValue"]);
  },
);
