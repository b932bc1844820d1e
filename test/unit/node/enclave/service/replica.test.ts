import { afterEach, expect, test } from "vitest";
import { open } from "../../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { utf8 } from "../../../../../protocol/bytes.ts";
import { LedgerVerifier } from "../../../../../protocol/ledger/verify.ts";
import { Cluster, type TestNode } from "./cluster.ts";

let cluster = new Cluster();
afterEach(() => {
  const { halts } = cluster;
  cluster = new Cluster();
  expect(halts).toEqual([]);
});

function write(node: TestNode, key: string, value: string) {
  const tx = node.membership.replica.read();
  tx.map("records").set(utf8(key), utf8(value));
  return node.membership.replica.submit(tx);
}

function read(node: TestNode, key: string): string | undefined {
  const value = node.membership.replica.readCommitted().map("records").get(utf8(key));
  return value === undefined ? undefined : Buffer.from(value).toString();
}

async function three(): Promise<[TestNode, TestNode, TestNode]> {
  const first = await cluster.start();
  const second = await cluster.join(first);
  const third = await cluster.join(first);
  const { replica } = first.membership;
  await cluster.until(() => replica.committed >= 4 && replica.committed === replica.lastSeqno);
  return [first, second, third];
}

test("a new service commits its genesis with a signature", async () => {
  const node = await cluster.start();
  await cluster.until(() => node.membership.replica.committed === 2);
  expect(node.host.entries.length).toBe(2);
  expect(node.membership.replica.commitTxId()).toEqual({ view: 2, seqno: 2 });
});

test("a transaction that commits is on every replica, and the ledgers verify", async () => {
  const nodes = await three();
  const ids = Array.from({ length: 200 }, (_, i) => write(nodes[0], `k${i % 50}`, `v${i}`));
  const outcomes = await Promise.race([
    Promise.all(ids.map((id) => nodes[0].membership.replica.outcome(id))),
    cluster.until(() => false, 2000).then(() => []),
  ]);
  expect(new Set(outcomes)).toEqual(new Set(["Committed"]));
  const last = nodes[0].membership.replica.committed;
  await cluster.until(() => nodes.every((node) => node.membership.replica.committed >= last));
  for (const node of nodes) {
    expect(read(node, "k7")).toBe("v157");
    const verifier = new LedgerVerifier();
    for (const entry of node.host.entries) await verifier.add(entry);
    expect((await verifier.finish()).verifiedUntil?.seqno).toBeGreaterThanOrEqual(last);
  }
});

test("when the primary is cut off, another takes over and what it alone had is invalid", async () => {
  const [first, second, third] = await three();
  const kept = write(first, "kept", "yes");
  expect(
    await Promise.race([first.membership.replica.outcome(kept), cluster.until(() => false).catch(() => "late")]),
  ).toBe("Committed");
  for (const other of [second, third]) {
    cluster.cut.add(`${first.id}>${other.id}`);
    cluster.cut.add(`${other.id}>${first.id}`);
  }
  const lost = write(first, "lost", "yes");
  const fate = first.membership.replica.outcome(lost);
  await cluster.until(() => second.membership.replica.isPrimary() || third.membership.replica.isPrimary());
  const next = second.membership.replica.isPrimary() ? second : third;
  const more = write(next, "more", "yes");
  await cluster.until(() => next.membership.replica.txStatus(more) === "Committed");
  cluster.cut.clear();
  await cluster.until(() => read(first, "more") === "yes");
  expect(await fate).toBe("Invalid");
  expect(first.membership.replica.txStatus(lost)).toBe("Invalid");
  expect(read(first, "lost")).toBeUndefined();
  expect(read(first, "kept")).toBe("yes");
});

test("a node that is removed gets its retirement recorded and no longer counts", async () => {
  const [first, second, third] = await three();
  const tx = first.membership.replica.read();
  const info = open(tx, TABLES.nodeInfo);
  info.set(third.id, { ...info.get(third.id)!, status: "Retired" });
  first.membership.replica.submit(tx);
  const retired = (node: TestNode) =>
    open(node.membership.replica.readCommitted(), TABLES.nodeInfo).get(third.id)?.retired_committed === true;
  await cluster.until(() => retired(first) && retired(second));
  cluster.nodes.delete(third.id);
  const id = write(first, "after", "yes");
  await cluster.until(() => first.membership.replica.txStatus(id) === "Committed");
});
