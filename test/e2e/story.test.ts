/** The story of issue 2 as a user lives it: members, a vote, confidential records, redirects, commit. */
import { statSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Consortium, endAll, startConsortium } from "./consortium.ts";

let consortium: Consortium;
let primary: number;
let backups: number[];
beforeAll(async () => {
  consortium = await startConsortium({ users: 1 });
  primary = await consortium.primary();
  backups = [0, 1, 2].filter((node) => node !== primary);
});
afterAll(endAll);

const jsonType = ["--header", "content-type: application/json"];
const waiting = ["--header", "x-camerata-wait: committed"];

test("ready.json names an open service with three trusted nodes, three members and the users", async () => {
  const ready = await consortium.ready();
  expect(ready.nodes.map((node) => node.rpc_address)).toEqual([0, 1, 2].map((node) => consortium.address(node)));
  expect(ready.primary_id).toBe(ready.nodes[primary]?.node_id);
  const network = await consortium.curl("nobody", consortium.url(backups[0]!, "/node/network"));
  expect(network.json()).toMatchObject({ service_status: "Open", primary_id: ready.primary_id });
  const nodes = await consortium.camerataJson<{ node: string; status: string }[]>("node", "ls");
  expect(nodes.map(({ node }) => node).sort()).toEqual(ready.nodes.map((node) => node.node_id).sort());
  expect(nodes.every(({ status }) => status === "Trusted")).toBe(true);
  const members = await consortium.camerataJson<{ member: string; status: string }[]>("member", "ls");
  expect(members.map(({ member }) => member).sort()).toEqual([...ready.members].sort());
  expect(members.every(({ status }) => status === "Active")).toBe(true);
  const users = await consortium.camerataJson<{ user: string }[]>("user", "ls");
  expect(users.map(({ user }) => user)).toEqual(ready.users);
});

test("private keys are readable by their owner alone", () => {
  for (const person of ["member0", "member1", "member2", "user0"] as const)
    expect(statSync(consortium.keys(person).privateKey).mode & 0o077).toBe(0);
});

test("`camerata dev` says that the platform is not confidential, and so does every node", async () => {
  expect(consortium.log).toContain("NOT confidential");
  for (const node of [0, 1, 2]) {
    const version = await consortium.curl("nobody", consortium.url(node, "/node/version"));
    expect(version.json()).toMatchObject({ unsafe: true, camerata: { platform: "virtual", confidential: false } });
  }
});

test("a user whom members vote in writes a private record, and every node gives it back", async () => {
  const cli = (...args: string[]) => consortium.camerataJson<{ proposal: string; state: string }>(...args);
  const made = await consortium.camerata("user", "keygen", "user7", "--dir", consortium.directory);
  expect(made.code, made.stderr).toBe(0);
  const body = JSON.stringify({ id: 7, msg: "a record of user7" });
  const post = ["--data", body, ...jsonType, ...waiting, consortium.url(primary, "/app/log/private")];
  expect((await consortium.curl("user7", ...post)).status).toBe(401);

  const { proposal, state } = await cli("--as", "member1", "proposal", "new", "set_user", "cert=@user7_cert.pem");
  expect(state).toBe("Open");
  expect(await cli("--as", "member1", "proposal", "vote", proposal, "--for")).toMatchObject({ state: "Open" });
  expect(await cli("--as", "member2", "proposal", "vote", proposal, "--for")).toMatchObject({ state: "Accepted" });

  const written = await consortium.curl("user7", ...post);
  expect(written).toMatchObject({ status: 200, body: "true" });
  const txId = written.txId!;
  expect(txId).toMatch(/^\d+\.\d+$/);
  for (const node of [0, 1, 2]) {
    const waited = await consortium.camerata("tx", "wait", txId, "--node", `${node}`);
    expect(waited.code, waited.stderr).toBe(0);
    const read = await consortium.curl("user7", consortium.url(node, "/app/log/private?id=7"));
    expect(read).toMatchObject({ status: 200 });
    expect(read.json()).toEqual({ msg: "a record of user7" });
  }
  expect(await consortium.camerataJson("tx", "status", txId)).toMatchObject({ status: "Committed" });
});

test("an answer that waited for commit belongs to a committed transaction", async () => {
  for (let id = 100; id < 110; id++) {
    const body = JSON.stringify({ id, msg: "waited for" });
    const post = ["--data", body, ...jsonType, ...waiting, consortium.url(primary, "/app/log/private")];
    const { txId } = await consortium.curl("user0", ...post);
    const status = await consortium.curl("nobody", consortium.url(primary, `/app/tx?transaction_id=${txId}`));
    expect(status.json()).toEqual({ transaction_id: txId, status: "Committed" });
  }
});

test("a backup redirects writes to the primary, and curl -L arrives there", async () => {
  const post = ["--data", '{"id":8,"msg":"redirected"}', ...jsonType, ...waiting];
  for (const backup of backups) {
    const url = consortium.url(backup, "/app/log/private");
    const answer = await consortium.curl("user0", ...post, url);
    expect(answer).toMatchObject({ status: 307, headers: { location: consortium.url(primary, "/app/log/private") } });
    expect(await consortium.curl("user0", "--location", ...post, url)).toMatchObject({
      status: 200,
      redirects: 1,
      body: "true",
    });
  }
});

test("the command line writes, waits and reads as user0", async () => {
  const wrote = await consortium.camerata("call", "POST", "/app/log/private", "id=9", "msg=hello", "--wait", "commit");
  expect(wrote).toMatchObject({ code: 0, stdout: "true\n" });
  const txId = /transaction (\S+)/.exec(wrote.stderr)?.[1];
  const node = `${backups[1]}`;
  expect(await consortium.camerata("tx", "wait", txId!, "--node", node)).toMatchObject({ code: 0 });
  const read = await consortium.camerata("call", "GET", "/app/log/private", "id=9", "--node", node);
  expect(read).toMatchObject({ code: 0, stdout: '{"msg":"hello"}\n' });
  expect(await consortium.camerata("call", "GET", "/app/log/private", "id=404")).toMatchObject({ code: 3 });
});

test("a transaction that nobody has made is Unknown or Invalid, never Committed", async () => {
  const ahead = await consortium.camerataJson<{ status: string }>("tx", "status", "2.999999");
  expect(ahead.status).toBe("Unknown");
  const malformed = await consortium.camerata("tx", "status", "soon");
  expect(malformed.code).toBe(2);
});

test("a member who lost trust is removed by vote, and its next proposal is refused", async () => {
  const { members } = await consortium.ready();
  const cli = (...args: string[]) => consortium.camerataJson<{ proposal: string; state: string }>(...args);
  const { proposal } = await cli("--as", "member0", "member", "rm", members[2]!, "--vote");
  expect(await cli("--as", "member1", "proposal", "vote", proposal, "--for")).toMatchObject({ state: "Accepted" });
  const next = await consortium.camerata("--as", "member2", "proposal", "new", "set_user", "cert=@user0_cert.pem");
  expect(next.code).toBe(4);
  expect(next.stderr).toContain("401 InvalidAuthenticationInfo");
  const left = await consortium.camerataJson<{ member: string }[]>("member", "ls");
  expect(left.map(({ member }) => member).sort()).toEqual(members.slice(0, 2).sort());
});
