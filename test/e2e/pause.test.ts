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
/** Longer than the primary sleeps. */
const ASLEEP_MS = 90_000;
const PATH = "/app/log/private";
const LARGE_BYTES = 900 * 1024;
const POST = ["--header", "content-type: application/json", "--data"];

test("a primary that slept: no fork, and what it accepted is committed or invalid, never both", {
  timeout: 120_000,
}, async () => {
  const primary = await consortium.primary();
  const others = [0, 1, 2].filter((node) => node !== primary);
  const { enclave_pid: enclave } = (await consortium.ready()).nodes[primary]!;
  const load = new Load(consortium, 1000);
  await load.more(50);

  // Connections that are open before it falls asleep, so that their requests are the first thing it finds.
  const users = Array.from({ length: 6 }, () => new User(consortium, ASLEEP_MS));
  for (const user of users) expect([200, 404]).toContain((await user.read(primary, 0)).status);
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

test("what a primary could tell nobody before it fell asleep is committed or invalid, on all nodes alike", {
  timeout: 120_000,
}, async () => {
  const primary = await consortium.primary();
  const { nodes } = await consortium.ready();
  const others = [0, 1, 2].filter((node) => node !== primary);
  const users = Array.from({ length: 4 }, () => new User(consortium));
  for (const user of users) expect([200, 404]).toContain((await user.read(primary, 0)).status);

  // More than fits between the two processes and into the network: the last of it never leaves the primary.
  for (const node of others) signal(nodes[node]!.enclave_pid, "SIGSTOP");
  const text = "x".repeat(LARGE_BYTES);
  const answers = await Promise.all(
    users.flatMap((user, at) =>
      [0, 1, 2, 3].map(async (turn) => {
        const id = 100 + 4 * turn + at;
        return { id, answer: await user.send(primary, "POST", PATH, { id, msg: `${id} ${text}` }) };
      }),
    ),
  );
  signal(nodes[primary]!.enclave_pid, "SIGSTOP");
  for (const node of others) signal(nodes[node]!.enclave_pid, "SIGCONT");
  await settled(consortium, others);
  signal(nodes[primary]!.enclave_pid, "SIGCONT");
  await settled(consortium, [0, 1, 2]);
  for (const user of users) user.close();

  // A session does not outlive its view, so the reader is a new one.
  const reader = new User(consortium);
  const accepted = answers.filter(({ answer }) => answer.status === 200);
  expect(accepted.length).toBeGreaterThan(0);
  const fates: string[] = [];
  for (const { id, answer } of accepted) {
    const seen = [];
    for (const node of [0, 1, 2]) {
      const status = await reader.send(node, "GET", `/app/tx?transaction_id=${answer.txId}`);
      const read = await reader.read(node, id);
      seen.push(`${(JSON.parse(status.body) as { status: string }).status}, read ${read.status}`);
    }
    expect(["Committed, read 200", "Invalid, read 404"]).toContain(seen[0]);
    expect(seen, `${id} (${answer.txId})`).toEqual([seen[0], seen[0], seen[0]]);
    fates.push(seen[0]!);
  }
  reader.close();
  const invalid = fates.filter((fate) => fate.startsWith("Invalid")).length;
  console.info(
    `of ${answers.length} writes that nobody else knew of, ${accepted.length} were accepted, ${invalid} became invalid`,
  );
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

test("without a majority nothing is committed and clients are told; with one again all goes on", {
  timeout: 120_000,
}, async () => {
  const primary = await consortium.primary();
  const { nodes } = await consortium.ready();
  const others = nodes.filter((_, node) => node !== primary).map((node) => node.enclave_pid);
  const user = new User(consortium);
  expect((await user.write(primary, 50, "before")).status).toBe(200);
  for (const enclave of others) signal(enclave, "SIGSTOP");
  // Written while the primary still believes in its majority: how it ends is open until the others are back.
  const pending = user.write(primary, 51, "alone");
  const alone = await until("the primary has given up", ELECTION_MS, async () => {
    const answer = await consortium.curl("user0", ...POST, '{"id":52,"msg":"alone"}', consortium.url(primary, PATH));
    return answer.status === 200 || answer.status === 307 ? undefined : answer;
  });
  expect(alone.status).toBe(503);
  expect(alone.error()).toBe("PrimaryNotFound");
  const read = await consortium.curl("user0", consortium.url(primary, `${PATH}?id=50`));
  expect(read.json()).toEqual({ msg: "before" });

  for (const enclave of others) signal(enclave, "SIGCONT");
  await settled(consortium, [0, 1, 2]);
  const answer = await pending;
  user.close();
  const kept = await Promise.all(
    [0, 1, 2].map(async (node) => (await consortium.curl("user0", consortium.url(node, `${PATH}?id=51`))).status),
  );
  // It is there on all nodes or on none; and whoever was told that it is committed finds it.
  expect(new Set(kept).size).toBe(1);
  if (answer.status === 200) expect(kept[0]).toBe(200);
  else
    expect(JSON.parse(answer.body)).toMatchObject({
      error: { code: kept[0] === 404 ? "TransactionInvalid" : expect.any(String) },
    });
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
