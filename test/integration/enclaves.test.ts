import { afterEach, expect, test } from "vitest";
import { addUser, call, endAll, found, joinAll, joinCommand, openService, until } from "./consortium.ts";
import { startNode, testPlatform } from "./enclaves.ts";

afterEach(endAll);

test("three enclaves attest each other and commit a user's private record", async () => {
  const first = await found();
  await openService(first);
  const [, third] = await joinAll(first, 2);
  const user = await addUser(first);
  const written = await call(first, "POST", "/app/log/private", { id: 42, msg: "sealed" }, user, {
    "x-camerata-wait": "committed",
  });
  expect(written.status, JSON.stringify(written.body)).toBe(200);
  const read = await until(async () => {
    const answer = await call(third!, "GET", "/app/log/private?id=42", undefined, user);
    return answer.status === 200 ? answer : undefined;
  });
  expect(read.body).toEqual({ msg: "sealed" });
  const status = await call(first, "GET", `/app/tx?transaction_id=${written.headers["x-ms-ccf-transaction-id"]}`);
  expect(status.body.status).toBe("Committed");
});

test.each([
  ["another measurement", testPlatform("ef".repeat(32)), "FailedMeasurementNotFound"],
  ["a debug build", testPlatform(undefined, true), "FailedDebugEnclave"],
])("a joiner with %s is refused", async (_, platform, reason) => {
  const first = await found();
  await openService(first);
  const command = { ...joinCommand(first), accepted_measurements: ["ab".repeat(32)] };
  const joiner = await startNode(command, platform);
  const { why, fatal } = await joiner.stopped;
  await joiner.kill();
  expect(fatal).toBe(true);
  expect(why).toContain(reason);
});

test("a joiner that was given another service's certificate refuses the service", async () => {
  const first = await found();
  const other = await found();
  const joiner = await startNode({
    ...joinCommand(first),
    service_certificate: joinCommand(other).service_certificate,
  });
  const { why } = await joiner.stopped;
  await joiner.kill();
  expect(why).toContain("does not belong to the service");
});
