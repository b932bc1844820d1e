/**
 * Ballots and proposals are code and data of people who may mean harm. Whatever they send, the node goes on: the author
 * gets a clear answer, nothing is half-written, others are served meanwhile.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VOTE_AGAINST, VOTE_FOR } from "../../../../governance/member/ballots.ts";
import { ballotCall, proposalCall, proposalTextCall } from "../../../../governance/member/request.ts";
import { open } from "../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../node/enclave/kv/tables.ts";
import { present } from "../../../../protocol/check.ts";
import { CONSTITUTION, Consortium, errorOf, type TestMember } from "../consortium.ts";

type Shown = {
  proposalId: string;
  proposalState: string;
  voteFailures?: Record<string, { reason: string; trace?: string }>;
};

let service: Consortium;
let members: TestMember[];
const limits = { heapBytes: 24 * 1024 * 1024, executionMs: 1500, graceMs: 500 };

beforeAll(async () => {
  service = await Consortium.found({ members: 3, limits });
  members = service.members;
});
afterAll(() => service.close());

const member = (i: number) => present(members[i], "a member");

async function propose(): Promise<string> {
  const answer = await service.send(proposalCall([]), member(0));
  expect(answer.status, answer.text).toBe(200);
  return (answer.body as Shown).proposalId;
}

async function vote(id: string, i: number, ballot: string): Promise<Shown> {
  const answer = await service.send(ballotCall(member(i).id, id, ballot), member(i));
  expect(answer.status, answer.text).toBe(200);
  return answer.body as Shown;
}

const hostile: [string, string, RegExp][] = [
  ["does not parse", "export function vote( {", /^SyntaxError/],
  ["is empty", "", /exports no function named vote/],
  ["exports something else", "export const vote = true;", /exports no function named vote/],
  ["throws", "export function vote() { throw new Error('never'); }", /^Error: never/],
  ["loops", "export function vote() { for (;;); }", /^Operation took too long to complete\.$/],
  [
    "allocates",
    "export function vote() { const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length); }",
    /memory|took too long/,
  ],
  ["recurses", "export function vote() { return vote(); }", /stack overflow/],
  ["reads a JSON bomb", "export function vote() { return JSON.parse('['.repeat(100000)); }", /stack overflow/],
  [
    "writes",
    `export function vote(p, id) { ccf.kv["public:ccf.gov.members.info"].delete(ccf.strToBuf(id)); return true; }`,
    /^TypeError: Cannot call delete on table/,
  ],
  [
    "reads what users wrote",
    `export function vote() { return ccf.kv["records"].size; }`,
    /^TypeError: Cannot call size on table named records/,
  ],
  ["imports", "import 'fs'; export function vote() { return true; }", /^ReferenceError/],
  [
    "asks for what only apply may do",
    "export function vote() { ccf.node.triggerRecoverySharesRefresh(); return true; }",
    /^TypeError/,
  ],
];

describe("a ballot that fails", () => {
  test.each(hostile)("because it %s has not voted, and its author is told", async (_, ballot, words) => {
    const id = await propose();
    const shown = await vote(id, 1, ballot);
    expect(shown.proposalState).toBe("Open");
    expect(shown.voteFailures?.[member(1).id]?.reason).toMatch(words);
    // The others decide without it, and the failure is on record.
    await vote(id, 2, VOTE_FOR);
    const decided = await vote(id, 0, VOTE_FOR);
    expect(decided.proposalState).toBe("Accepted");
    expect(decided.voteFailures?.[member(1).id]?.reason).toMatch(words);
    expect(open(service.read(), TABLES.proposalInfo).get(id)?.final_votes).not.toHaveProperty(member(1).id);
  });

  test("does not hold up others, who are served while it runs", async () => {
    const id = await propose();
    let ended = false;
    const slow = vote(id, 1, "export function vote() { for (;;); }").finally(() => {
      ended = true;
    });
    const answers = [await service.get("/gov/service/info"), await service.get(`/gov/members/proposals/${id}`)];
    expect(ended).toBe(false);
    const other = await service.send(proposalCall([]), member(2));
    expect([...answers, other].map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await slow).voteFailures).toHaveProperty(member(1).id);
  });

  test("changes nothing for the ballots that run beside it", async () => {
    const id = await propose();
    await vote(id, 1, "Object.prototype.vote = true; export function vote() { for (;;); }");
    await vote(id, 2, VOTE_AGAINST);
    const shown = await vote(id, 0, VOTE_FOR);
    expect(shown.proposalState).toBe("Open");
    expect(Object.keys(shown.voteFailures ?? {})).toEqual([member(1).id]);
  });
});

describe("a hostile proposal", () => {
  test.each([
    ["a deep document", `{"actions":${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}}`],
    ["a wide document", `{"actions":[${Array(100_000).fill("1").join(",")}]}`],
    ["many unknown actions", JSON.stringify({ actions: Array(10_000).fill({ name: "x" }) })],
    [
      "a pattern's worst case for a certificate",
      JSON.stringify({ actions: [{ name: "set_user", args: { cert: "-----BEGIN CERTIFICATE-----".repeat(5000) } }] }),
    ],
  ])("%s is refused as such, and the next one is taken", async (_, text) => {
    const version = service.store.version;
    const answer = await service.send(proposalTextCall(text), member(0));
    expect(answer.status).toBe(400);
    expect(errorOf(answer).code).toBe("ProposalFailedToValidate");
    expect(service.store.version).toBe(version);
    await propose();
  });
});

describe("a constitution that fails", () => {
  const failing = (part: string, body: string) =>
    CONSTITUTION.replace(new RegExp(`export function ${part}[\\s\\S]*?\\n}\\n`), `export function ${part}${body}\n`);

  test.each<[string, string, number, RegExp]>([
    [
      "validate throws",
      failing("validate", "(input) { throw new Error('broken'); }"),
      500,
      /^Failed to execute validation: Error: broken/,
    ],
    ["validate says nothing", failing("validate", "(input) {}"), 500, /Validation failed to return an object/],
    ["validate loops", failing("validate", "(input) { for (;;); }"), 400, /Operation took too long to complete/],
    [
      "resolve throws",
      failing("resolve", "(a, b, c) { throw new Error('broken'); }"),
      500,
      /^Failed to resolve\(\): Error: broken/,
    ],
    [
      "resolve says something else",
      failing("resolve", "(a, b, c) { return 'Perhaps'; }"),
      500,
      /invalid status value: "Perhaps"/,
    ],
    ["resolve says nothing", failing("resolve", "(a, b, c) {}"), 500, /invalid status value/],
    [
      "resolve loops",
      failing("resolve", "(a, b, c) { for (;;); }"),
      500,
      /^Failed to resolve\(\): Operation took too long/,
    ],
    ["it does not parse", "export function validate(", 500, /SyntaxError/],
  ])("because %s leaves nothing behind", async (_, constitution, status, words) => {
    const other = await Consortium.found({ members: 1, constitution, limits });
    const version = other.store.version;
    const answer = await other.send(proposalCall([]), present(other.members[0], "a member"));
    expect(answer.status, answer.text).toBe(status);
    expect(errorOf(answer).message).toMatch(words);
    expect(other.store.version).toBe(version);
    await other.close();
  });

  test("in apply, by writing half and then looping, leaves nothing behind", async () => {
    const apply = `(p, id) { ccf.kv["public:ccf.gov.users.certs"].set(ccf.strToBuf("x"), ccf.strToBuf("y")); for (;;); }`;
    const other = await Consortium.found({ members: 1, constitution: failing("apply", apply), limits });
    const only = present(other.members[0], "a member");
    const made = (await other.send(proposalCall([]), only)).body as Shown;
    const version = other.store.version;
    const answer = await other.send(ballotCall(only.id, made.proposalId, VOTE_FOR), only);
    expect(answer.status).toBe(500);
    expect(errorOf(answer).message).toMatch(/^Failed to apply\(\): Operation took too long/);
    expect(other.store.version).toBe(version);
    expect(open(other.read(), TABLES.userCerts).has("x")).toBe(false);
    await other.close();
  });
});
