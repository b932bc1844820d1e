import { describe, expect, test } from "vitest";
import { open } from "../../../../../node/enclave/kv/table.ts";
import { type NodeInfo, TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { Cluster, type TestNode } from "./cluster.ts";

/** Writes a node's row as governance would, and gives whether that node is then a peer. */
async function peerWith(row: Partial<NodeInfo>): Promise<boolean> {
  const cluster = new Cluster();
  const first = await cluster.start();
  const node = "ab".repeat(32);
  const tx = first.membership.replica.read();
  const info = open(tx, TABLES.nodeInfo);
  info.set(node, { ...info.get(first.id)!, ...row });
  first.membership.replica.submit(tx);
  return first.membership.isPeer(node);
}

describe("a node that has shown a certificate of the service is a peer", () => {
  test("when it is trusted", async () => expect(await peerWith({ status: "Trusted" })).toBe(true));

  // The primary was Pending once, and a joiner reads that part of the ledger too.
  test("when this node knows it as Pending, because this node is behind", async () =>
    expect(await peerWith({ status: "Pending" })).toBe(true));

  test("when this node has never heard of it", async () => {
    const first: TestNode = await new Cluster().start();
    expect(first.membership.isPeer("cd".repeat(32))).toBe(true);
  });

  test("when it retires and that is not committed yet", async () =>
    expect(await peerWith({ status: "Retired" })).toBe(true));

  test("but not when it is retired for good", async () =>
    expect(await peerWith({ status: "Retired", retired_committed: true })).toBe(false));
});
