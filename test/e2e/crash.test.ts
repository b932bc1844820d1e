/**
 * kill -9 while users write: of a host, of an enclave, of both; on a backup and on the primary.
 *
 * Each time: whatever was acknowledged as committed is still there, writing goes on, both processes of the dead node are
 * gone, and a new node takes its place and has everything.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Ready } from "../../cli/dev/layout.ts";
import { type Consortium, endAll, startConsortium } from "./consortium.ts";
import { expectKept, Load } from "./load.ts";
import { isAlive, signal, until } from "./processes.ts";

let consortium: Consortium;
beforeAll(async () => {
  consortium = await startConsortium({ users: 1 });
});
afterAll(endAll);

const GONE_MS = 20_000;
const REPLACED_MS = 60_000;
/** What the project promises with default timeouts: a new primary serves within five seconds. */
const FAILOVER_MS = 5_000;
/** Two cores shared with other tests are not what the promise is about; a broken election takes for ever. */
const PATIENCE = 4;
const ids = { next: 1000 };

const victims = (["backup", "primary"] as const).flatMap((role) =>
  (["enclave", "host", "both"] as const).map((what) => [role, what] as const),
);

describe("kill -9 during load", () => {
  test.each(victims)("of a %s: %s", { timeout: 150_000 }, async (role, what) => {
    const before = await consortium.ready();
    const primary = await consortium.primary();
    const victim = role === "primary" ? primary : (primary + 1) % 3;
    const survivors = [0, 1, 2].filter((node) => node !== victim);
    const { host_pid: host, enclave_pid: enclave, node_id: oldId } = before.nodes[victim]!;
    const load = new Load(consortium, ids.next);
    ids.next += 1_000_000;
    await load.more(50);

    const killedMs = performance.now();
    if (what !== "enclave") signal(host, "SIGKILL");
    if (what !== "host") signal(enclave, "SIGKILL");
    const again = await until("a survivor commits a write", PATIENCE * FAILOVER_MS, () =>
      load.writes.find(
        ({ fate, answeredMs, node }) => fate === "committed" && answeredMs > killedMs && node !== victim,
      ),
    );
    expect(again.node).not.toBe(victim);
    await until("both processes are gone", GONE_MS, () => !isAlive(host) && !isAlive(enclave));
    await load.more(50);

    const after = await until("a new node has taken its place", REPLACED_MS, () => replaced(oldId));
    await load.more(20);
    await load.stop();
    expect(after.nodes[victim]).toMatchObject({ rpc_address: consortium.address(victim) });
    expect(new Set(after.nodes.map((node) => node.node_id)).size).toBe(3);
    await expectKept(consortium, load, [...survivors, victim]);

    const trusted = await consortium.camerataJson<{ node: string; status: string }[]>("node", "ls");
    const statuses = new Map(trusted.map(({ node, status }) => [node, status]));
    for (const node of after.nodes) expect(statuses.get(node.node_id)).toBe("Trusted");
    expect(statuses.get(oldId)).not.toBe("Trusted");
    console.info(
      `${role}, ${what}: the next commit came ${Math.round(again.answeredMs - killedMs)} ms after the kill; ` +
        `${load.committed.length} of ${load.writes.length} writes committed`,
    );
  });
});

function replaced(oldId: string): Ready | undefined {
  const ready = consortium.readyNow();
  return ready?.nodes.some((node) => node.node_id === oldId) === false ? ready : undefined;
}
