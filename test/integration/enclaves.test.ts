import { request as httpsRequest } from "node:https";
import { afterEach, expect, test } from "vitest";
import { certificateId } from "../../protocol/crypto/keys.ts";
import { testStartCommand } from "../unit/node/enclave/service/cluster.ts";
import { participantKeys } from "../unit/node/enclave/service/participants.ts";
import { type InProcessNode, startNode, testPlatform } from "./enclaves.ts";

const running: InProcessNode[] = [];
afterEach(async () => {
  for (const node of running.splice(0)) await node.kill();
});

type Reply = { status: number; headers: Record<string, unknown>; body: any };
type Who = { privateKey: import("node:crypto").KeyObject; certificate: string };

function call(
  node: InProcessNode,
  method: string,
  path: string,
  body?: unknown,
  who?: Who,
  headers = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? "" : JSON.stringify(body);
    const request = httpsRequest(
      `https://${node.rpc}${path}`,
      {
        method,
        rejectUnauthorized: false,
        agent: false,
        headers: { "content-type": "application/json", "content-length": text.length, ...headers },
        ...(who !== undefined && {
          cert: who.certificate,
          key: who.privateKey.export({ type: "pkcs8", format: "pem" }),
        }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const answer = Buffer.concat(chunks).toString();
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: answer === "" ? undefined : JSON.parse(answer),
          });
        });
      },
    );
    request.on("error", reject);
    request.end(text);
  });
}

async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
  for (let round = 0; round < 500; round++) {
    const got = await what().catch(() => undefined);
    if (got !== undefined) return got;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const logs = running.map((node, i) => node.logs.map((line) => `${i} ${line}`).join("\n"));
  throw new Error(`that did not happen\n${logs.join("\n")}`);
}

async function found(): Promise<InProcessNode> {
  const node = await startNode(await testStartCommand());
  running.push(node);
  await until(async () => ((await call(node, "GET", "/node/ready/gov")).status === 204 ? true : undefined));
  return node;
}

async function openService(node: InProcessNode): Promise<void> {
  const certificate = node.published.get("service_cert.pem");
  expect((await call(node, "POST", "/gov/test/decide", { open: certificate })).status).toBe(200);
  await until(async () => ((await call(node, "GET", "/node/ready/app")).status === 204 ? true : undefined));
}

function joinCommand(through: InProcessNode) {
  return {
    type: "Join" as const,
    target_rpc_address: through.rpc,
    service_certificate: through.published.get("service_cert.pem") ?? "",
    retry_timeout: 50,
    follow_redirect: true,
    accepted_measurements: [],
  };
}

test("three enclaves attest each other and commit a user's private record", async () => {
  const first = await found();
  await openService(first);
  const joiners = [await startNode(joinCommand(first)), await startNode(joinCommand(first))];
  running.push(...joiners);
  for (const joiner of joiners) {
    await until(async () => {
      const { body } = await call(first, "GET", "/node/network/nodes?status=Pending");
      return body.nodes.find((node: { node_id: string }) => node.node_id === joiner.node());
    });
    expect((await call(first, "POST", "/gov/test/decide", { trust: joiner.node() })).status).toBe(200);
    await until(async () => ((await call(joiner, "GET", "/node/ready/app")).status === 204 ? true : undefined));
  }

  const user = await participantKeys("user0");
  await call(first, "POST", "/gov/test/decide", {
    user: { id: certificateId(user.certificate), cert: user.certificate },
  });
  const written = await call(first, "POST", "/app/log/private", { id: 42, msg: "sealed" }, user, {
    "x-camerata-wait": "committed",
  });
  expect(written.status, JSON.stringify(written.body)).toBe(200);
  const read = await until(async () => {
    const answer = await call(joiners[1]!, "GET", "/app/log/private?id=42", undefined, user);
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
