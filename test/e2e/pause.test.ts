/**
 * A primary that stands still and comes back: its host stopped scheduling it, and it does not know.
 *
 * While it sleeps the others elect another one and go on. When it wakes it still believes to be the primary and executes
 * what clients had sent it: none of that may ever count, and nobody may be told that it does.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Consortium, endAll, startConsortium } from "./consortium.ts";
import { expectKept, Load, settled, User } from "./load.ts";
import { signal, until } from "./processes.ts";

let consortium: Consortium;
beforeAll(async () => {
  consortium = await startConsortium({ users: 1 });
});
afterAll(endAll);

const ELECTION_MS = 30_000;
const PATH = "/app/log/private";

test("a primary that slept: no fork, and what it accepted is committed or invalid, never both", {
  timeout: 120_000,
}, async () => {
  const primary = await consortium.primary();
  const others = [0, 1, 2].filter((node) => node !== primary);
  const { enclave_pid: enclave } = (await consortium.ready()).nodes[primary]!;
  const load = new Load(consortium, 1000);
  await load.more(50);

  // Connections that are open before it falls asleep, so that their requests are the first thing it finds.
  const users = Array.from({ length: 6 }, () => new User(consortium));
  for (const user of users) expect((await user.read(primary, 0)).status).toBe(404);
  signal(enclave, "SIGSTOP");
  const asleep = users.map((user, at) =>
    user.send(primary, "POST", PATH, { id: 10 + at, msg: "sent to a sleeping primary" }, at % 2 === 0).then(
      (answer) => ({ id: 10 + at, waited: at % 2 === 0, answer }),
      () => ({ id: 10 + at, waited: at % 2 === 0, answer: undefined }),
    ),
  );
  const next = await until("another node is the primary", ELECTION_MS, async () => {
    const found = await consortium.primary(others[0]);
    return found === primary ? undefined : { node: found };
  });
  const already = load.committed.length;
  await until("writes are committed without it", ELECTION_MS, () =>
    load.committed.slice(already).some(({ node }) => node === next.node),
  );

  signal(enclave, "SIGCONT");
  const answers = await Promise.all(asleep);
  for (const user of users) user.close();
  await load.more(50);
  await load.stop();
  await expectKept(consortium, load, [0, 1, 2]);

  const told = answers.map(({ answer }) => (answer === undefined ? "no answer" : `${answer.status}`));
  console.info(`what a sleeping primary was asked came back as ${told.join(", ")}`);
  for (const { id, waited, answer } of answers) {
    // Its view was over before it could write: nobody may have been told that it is committed.
    if (waited) expect(answer?.status).not.toBe(200);
    for (const node of [0, 1, 2]) {
      const read = await consortium.curl("user0", consortium.url(node, `${PATH}?id=${id}`));
      expect(read.status).toBe(404);
      if (answer?.txId === undefined) continue;
      const status = await consortium.curl("nobody", consortium.url(node, `/app/tx?transaction_id=${answer.txId}`));
      expect(status.json()).toEqual({ transaction_id: answer.txId, status: "Invalid" });
    }
  }
  await expectOneHistory(load);
});

test("a backup that slept catches up, and the service does not wait for it", { timeout: 90_000 }, async () => {
  const primary = await consortium.primary();
  const backup = (primary + 1) % 3;
  const { enclave_pid: enclave } = (await consortium.ready()).nodes[backup]!;
  signal(enclave, "SIGSTOP");
  const load = new Load(consortium, 2_000_000);
  await load.more(300);
  signal(enclave, "SIGCONT");
  await load.more(50);
  await load.stop();
  await expectKept(consortium, load, [0, 1, 2]);
  await expectOneHistory(load);
});

/** All nodes give the same answer about every transaction that anybody was told of. */
async function expectOneHistory(load: Load): Promise<void> {
  await settled(consortium, [0, 1, 2]);
  const user = new User(consortium);
  try {
    const told = load.writes.filter(({ txId }) => txId !== undefined);
    // The first ones and the ones around the change of view say it all.
    const looked = told.filter((_, at) => at < 20 || at % Math.ceil(told.length / 200) === 0);
    for (const { txId, fate } of looked) {
      const statuses = [];
      for (const node of [0, 1, 2]) {
        const { body } = await user.send(node, "GET", `/app/tx?transaction_id=${txId}`);
        statuses.push((JSON.parse(body) as { status: string }).status);
      }
      expect(new Set(statuses).size).toBe(1);
      if (fate === "committed") expect(statuses[0]).toBe("Committed");
      else expect(["Committed", "Invalid"]).toContain(statuses[0]);
    }
  } finally {
    user.close();
  }
}
