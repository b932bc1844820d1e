/** A small consortium of enclaves in this process, and a client that speaks to it. */
import type { KeyObject } from "node:crypto";
import { request as httpsRequest } from "node:https";
import { expect } from "vitest";
import { certificateId } from "../../protocol/crypto/keys.ts";
import { testStartCommand } from "../unit/node/enclave/service/cluster.ts";
import { participantKeys } from "../unit/node/enclave/service/participants.ts";
import { type InProcessNode, startNode } from "./enclaves.ts";

const running: InProcessNode[] = [];

/** Ends every node that was started here. */
export async function endAll(): Promise<void> {
  for (const node of running.splice(0)) await node.kill();
}

// biome-ignore lint/suspicious/noExplicitAny: the tests say what they expect of a body
export type Reply = { status: number; headers: Record<string, unknown>; body: any };
export type Who = { privateKey: KeyObject; certificate: string };

export function call(
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

export async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
  for (let round = 0; round < 500; round++) {
    const got = await what().catch(() => undefined);
    if (got !== undefined) return got;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const logs = running.map((node, i) => node.logs.map((line) => `${i} ${line}`).join("\n"));
  throw new Error(`that did not happen\n${logs.join("\n")}`);
}

export async function found(): Promise<InProcessNode> {
  const node = await startNode(await testStartCommand());
  running.push(node);
  await until(async () => ((await call(node, "GET", "/node/ready/gov")).status === 204 ? true : undefined));
  return node;
}

export async function openService(node: InProcessNode): Promise<void> {
  const certificate = node.published.get("service_cert.pem");
  expect((await call(node, "POST", "/gov/test/decide", { open: certificate })).status).toBe(200);
  await until(async () => ((await call(node, "GET", "/node/ready/app")).status === 204 ? true : undefined));
}

export function joinCommand(through: InProcessNode) {
  return {
    type: "Join" as const,
    target_rpc_address: through.rpc,
    service_certificate: through.published.get("service_cert.pem") ?? "",
    retry_timeout: 50,
    follow_redirect: true,
    accepted_measurements: [],
  };
}

/** Lets `count` nodes join an open service, one after the other, and waits until each serves. */
export async function joinAll(first: InProcessNode, count: number): Promise<InProcessNode[]> {
  const joiners = await Promise.all(Array.from({ length: count }, () => startNode(joinCommand(first))));
  running.push(...joiners);
  for (const joiner of joiners) {
    await until(async () => {
      const { body } = await call(first, "GET", "/node/network/nodes?status=Pending");
      return body.nodes.find((node: { node_id: string }) => node.node_id === joiner.node());
    });
    expect((await call(first, "POST", "/gov/test/decide", { trust: joiner.node() })).status).toBe(200);
    await until(async () => ((await call(joiner, "GET", "/node/ready/app")).status === 204 ? true : undefined));
  }
  return joiners;
}

export async function addUser(first: InProcessNode): Promise<Who> {
  const user = await participantKeys("user0");
  const row = { id: certificateId(user.certificate), cert: user.certificate };
  expect((await call(first, "POST", "/gov/test/decide", { user: row })).status).toBe(200);
  return user;
}
