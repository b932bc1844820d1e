/** Ballots are code by other people: whatever one does, its author has not voted, and the node serves everybody else. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ServiceClient } from "../../governance/member/client.ts";
import { createProposal, type Proposal, vote } from "../../governance/member/voting.ts";
import { type Consortium, endAll, startConsortium } from "./consortium.ts";
import { User } from "./load.ts";
import { client, idOf, signer, YES } from "./members.ts";

let consortium: Consortium;
let primary: number;
let service: ServiceClient;
beforeAll(async () => {
  consortium = await startConsortium({ users: 1 });
  primary = await consortium.primary();
  service = client(consortium, primary);
});
afterAll(async () => {
  service?.close();
  await endAll();
});

const actions = (note: string) => [
  { name: "set_member_data", args: { member_id: idOf(consortium, "member0"), member_data: { note } } },
];

async function propose(note: string): Promise<string> {
  return (await createProposal(service, signer(consortium, "member0"), actions(note))).value.proposalId;
}

function ballot(person: "member0" | "member1" | "member2", proposalId: string, text: string): Promise<Proposal> {
  // A client of its own: what waits for this ballot must not wait in line behind another request.
  const own = client(consortium, primary);
  return vote(own, signer(consortium, person), proposalId, text)
    .then(({ value }) => value)
    .finally(() => own.close());
}

const HOSTILE: readonly (readonly [string, string, RegExp])[] = [
  ["with a syntax error", "export function vote( { return true; }", /Syntax|expecting|invalid/i],
  ["that exports no vote", "export function choose() { return true; }", /vote/],
  ["that throws", 'export function vote() { throw new Error("I abstain"); }', /I abstain/],
  [
    "that allocates without end",
    "export function vote() { const all = []; for (;;) all.push(new Array(1e5).fill(7)); }",
    /memory/i,
  ],
  [
    "that doubles a string without end",
    'export function vote() { let s = "x"; for (;;) s += s; }',
    /memory|too long|length/i,
  ],
  ["that recurses without end", "const f = () => f() + 1; export function vote() { return f(); }", /stack/i],
  ["that parses a million nested lists", 'export function vote() { return JSON.parse("[".repeat(1e6)); }', /./],
  [
    "that writes to the tables",
    'export function vote() { ccf.kv["public:ccf.gov.members.info"].clear(); return true; }',
    /read|permission|writ|access/i,
  ],
  [
    "that reads the application's tables",
    'export function vote() { return ccf.kv["records"].size >= 0; }',
    /access|permission|read/i,
  ],
];

describe("a ballot", () => {
  test.each(HOSTILE)("%s is named as failed, and the others decide", async (_, text, reason) => {
    const id = await propose("decided by others");
    const member2 = idOf(consortium, "member2");
    const answered = await ballot("member2", id, text);
    expect(answered).toMatchObject({ proposalState: "Open", ballotCount: 1 });
    expect(answered.voteFailures?.[member2]?.reason).toMatch(reason);
    expect(await ballot("member0", id, YES)).toMatchObject({ proposalState: "Open" });
    const decided = await ballot("member1", id, YES);
    expect(decided.proposalState).toBe("Accepted");
    expect(Object.keys(decided.finalVotes ?? {})).not.toContain(member2);
    expect(decided.voteFailures?.[member2]?.reason).toMatch(reason);
  });

  test.each([
    ["loops without end", "export function vote() { for (;;); }"],
    ["loops without end while it is loaded", "for (;;); export function vote() { return true; }"],
    [
      "searches by an expression that explodes",
      'export function vote() { return /^(a+)+$/.test("a".repeat(64) + "!"); }',
    ],
  ])("that %s is ended, and others are served while it runs", async (_, text) => {
    const id = await propose("decided in spite of it");
    expect(await ballot("member0", id, YES)).toMatchObject({ proposalState: "Open" });
    const running = { ended: false };
    const answer = ballot("member2", id, text).finally(() => {
      running.ended = true;
    });
    const user = new User(consortium);
    let served = 0;
    for (let at = 0; !running.ended; at++) {
      const answers = [
        await user.write(primary, at, "meanwhile"),
        await user.read(primary, at),
        await user.send(primary, "GET", "/gov/service/info?api-version=2024-07-01"),
      ];
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
      if (!running.ended) served += 1;
    }
    user.close();
    // It runs for five seconds: at least one round of three requests in each of them.
    expect(served).toBeGreaterThanOrEqual(5);
    const member2 = idOf(consortium, "member2");
    expect((await answer).voteFailures?.[member2]?.reason).toMatch(/too long|interrupted|limit/i);
    expect(await ballot("member1", id, YES)).toMatchObject({ proposalState: "Accepted" });
  });
});
