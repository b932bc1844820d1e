import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { VOTE_AGAINST, VOTE_FOR } from "../../../../governance/member/ballots.ts";
import {
  type Action,
  ballotCall,
  proposalCall,
  proposalTextCall,
  signCall,
  withdrawalCall,
} from "../../../../governance/member/request.ts";
import { open } from "../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../node/enclave/kv/tables.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";
import { type Answer, addMember, Consortium, errorOf, type TestMember } from "../consortium.ts";

type Shown = {
  proposalId: string;
  proposalState: string;
  ballotCount: number;
  ballotSubmitters: string[];
  finalVotes?: Record<string, boolean>;
  voteFailures?: Record<string, { reason: string }>;
};

const user = createParticipant({ name: "user0", validFrom: new Date() });
const SET_USER: Action = { name: "set_user", args: { cert: user.certificatePem, user_data: { desk: 4 } } };

let service: Consortium;
let alice: TestMember;
let bob: TestMember;
let carol: TestMember;

beforeEach(async () => {
  service = await Consortium.found();
  [alice, bob, carol] = service.members as [TestMember, TestMember, TestMember];
});
afterEach(() => service.close());

const shown = (answer: Answer) => answer.body as Shown;

async function propose(actions: readonly Action[] = [SET_USER], member = alice): Promise<string> {
  const answer = await service.send(proposalCall(actions), member);
  expect(answer, answer.text).toMatchObject({ status: 200 });
  return shown(answer).proposalId;
}
const vote = (id: string, member: TestMember, ballot = VOTE_FOR) =>
  service.send(ballotCall(member.id, id, ballot), member);
const hasUser = () => open(service.read(), TABLES.userCerts).has(user.id);

describe("a proposal", () => {
  test("is open until more than half of the active members are in favour, and is then applied", async () => {
    const id = await propose();
    expect(shown(await vote(id, alice))).toEqual({
      proposalId: id,
      proposerId: alice.id,
      proposalState: "Open",
      ballotCount: 1,
      ballotSubmitters: [alice.id],
    });
    expect(hasUser()).toBe(false);
    const decided = shown(await vote(id, bob));
    expect(decided).toMatchObject({ proposalState: "Accepted", ballotCount: 2, voteFailures: {} });
    expect(decided.finalVotes).toEqual({ [alice.id]: true, [bob.id]: true });
    expect(hasUser()).toBe(true);
    expect(open(service.read(), TABLES.userInfo).get(user.id)).toEqual({ user_data: { desk: 4 } });
  });

  test("is rejected when so many are against that it cannot pass any more", async () => {
    const id = await propose();
    expect(shown(await vote(id, bob, VOTE_AGAINST)).proposalState).toBe("Open");
    const decided = shown(await vote(id, carol, VOTE_AGAINST));
    expect(decided.proposalState).toBe("Rejected");
    expect(decided.finalVotes).toEqual({ [bob.id]: false, [carol.id]: false });
    expect(hasUser()).toBe(false);
    expect(errorOf(await vote(id, alice))).toMatchObject({ code: "ProposalNotOpen" });
  });

  test("leaves its signed request, its text and each ballot in the tables that auditors read", async () => {
    const id = await propose();
    await vote(id, bob);
    const tx = service.read();
    expect(open(tx, TABLES.coseHistory).has(alice.id)).toBe(true);
    expect(open(tx, TABLES.coseHistory).has(bob.id)).toBe(true);
    expect((await service.get(`/gov/members/proposals/${id}/actions`)).text).toBe(
      JSON.stringify({ actions: [SET_USER] }),
    );
    const ballot = await service.get(`/gov/members/proposals/${id}/ballots/${bob.id}`);
    expect(ballot).toMatchObject({ status: 200, text: VOTE_FOR, headers: { "content-type": "text/javascript" } });
  });

  test("is forgotten when a later one is decided; open ones stay", async () => {
    const first = await propose();
    await vote(first, alice);
    await vote(first, bob);
    const stays = await propose();
    const second = await propose();
    await vote(second, alice);
    await vote(second, bob);
    const { value } = (await service.get("/gov/members/proposals")).body as { value: Shown[] };
    expect(value.map((each) => each.proposalId).sort()).toEqual([stays, second].sort());
    expect(await service.get(`/gov/members/proposals/${first}`)).toMatchObject({ status: 404 });
    expect(open(service.read(), TABLES.proposals).has(first)).toBe(false);
  });

  test("has another id each time it is made", async () => {
    expect(await propose()).not.toBe(await propose());
  });

  test("runs again when what it read has changed, and is made once", async () => {
    let times = 0;
    service.meanwhile = () => {
      if (times++ === 0)
        service.write((tx) => addMember(tx, createParticipant({ name: "x", validFrom: new Date() }), "Accepted"));
    };
    await propose();
    expect(times).toBe(2);
    expect(open(service.read(), TABLES.proposalInfo).entries()).toHaveLength(1);
  });
});

describe("what is refused", () => {
  test.each<[string, string | Action[], number, string, RegExp]>([
    [
      "an unknown action",
      [{ name: "no_such_action" }],
      400,
      "ProposalFailedToValidate",
      /no_such_action: no such action/,
    ],
    [
      "wrong arguments",
      [{ name: "set_user", args: { cert: "x" } }],
      400,
      "ProposalFailedToValidate",
      /set_user at position 0 failed validation: Error: cert must be a valid X.509 certificate/,
    ],
    [
      "an argument that the action does not know",
      [{ name: "set_user", args: { cert: user.certificatePem, userdata: {} } }],
      400,
      "ProposalFailedToValidate",
      /userdata is not an argument/,
    ],
    ["a text that is not JSON", "not json", 400, "ProposalFailedToValidate", /not JSON/],
    ["nothing", "", 400, "ProposalFailedToValidate", /not JSON/],
    ["no list of actions", "{}", 400, "ProposalFailedToValidate", /list of "actions"/],
    ["a number", "1", 400, "ProposalFailedToValidate", /list of "actions"/],
    ["actions that are none", '{"actions":[null,1]}', 400, "ProposalFailedToValidate", /no such action/],
    [
      "an action named like a property of every object",
      '{"actions":[{"name":"__proto__"}]}',
      400,
      "ProposalFailedToValidate",
      /no such action/,
    ],
    [
      "a document so deep that the engine's stack ends",
      `{"actions":${"[".repeat(200_000)}${"]".repeat(200_000)}}`,
      400,
      "ProposalFailedToValidate",
      /stack overflow/,
    ],
  ])("%s", async (_, proposal, status, code, message) => {
    const call = typeof proposal === "string" ? proposalTextCall(proposal) : proposalCall(proposal);
    const answer = await service.send(call, alice);
    expect(answer.status, answer.text).toBe(status);
    expect(errorOf(answer).code).toBe(code);
    expect(errorOf(answer).message).toMatch(message);
    expect(open(service.read(), TABLES.proposalInfo).entries()).toEqual([]);
    expect(open(service.read(), TABLES.coseRecentProposals).entries()).toEqual([]);
  });

  test("bytes that are not UTF-8", async () => {
    const call = { ...proposalCall([]), payload: new Uint8Array([0xff, 0xfe]) };
    expect(errorOf(await service.send(call, alice)).code).toBe("ProposalFailedToValidate");
  });

  test("the same signed request a second time, which names the proposal that it made", async () => {
    const signed = await signCall(
      proposalCall([]),
      { certificatePem: alice.certificatePem, sign: alice.privateKey },
      ++service.seconds,
    );
    const made = shown(await service.sendSigned(signed));
    expect(errorOf(await service.sendSigned(signed))).toEqual({
      code: "ProposalReplay",
      message: `Proposal submission replay, already exists as proposal ${made.proposalId}`,
    });
  });

  test("a request that was signed before the ones of late", async () => {
    const first = ++service.seconds;
    await propose([]);
    const answer = await service.send(proposalCall([]), alice, first - 1000);
    expect(answer.status).toBe(400);
    expect(errorOf(answer)).toEqual({
      code: "ProposalCreatedTooLongAgo",
      message: `Proposal created too long ago, created_at must be greater than ${first + 1}`,
    });
  });

  test("a request from the future, which would shut out all others", async () => {
    expect(errorOf(await service.send(proposalCall([]), alice, service.seconds + 700)).code).toBe("InvalidCreatedAt");
    expect(errorOf(await service.send(proposalCall([]), alice, 10_000_000_000)).code).toBe("InvalidCreatedAt");
  });

  test("a stranger, and a member that is not active", async () => {
    const stranger = createParticipant({ name: "stranger", validFrom: new Date() });
    const refused = await service.send(proposalCall([]), stranger);
    expect(refused.status).toBe(401);
    expect(errorOf(refused).details?.[0]?.message).toBe("Signer is not a known member");
    service.write((tx) => addMember(tx, stranger, "Accepted"));
    const waiting = await service.send(proposalCall([]), stranger);
    expect(errorOf(waiting).details?.[0]?.message).toBe("Signer is not an ACTIVE member");
  });

  test("a missing or unknown api-version", async () => {
    const signed = await signCall(
      proposalCall([]),
      { certificatePem: alice.certificatePem, sign: alice.privateKey },
      ++service.seconds,
    );
    const path = "/gov/members/proposals:create";
    expect(errorOf(await service.sendSigned({ ...signed, path }))).toEqual({
      code: "MissingApiVersionParameter",
      message:
        "The api-version query parameter (?api-version=) is required for all requests. The supported api-versions are: 2023-06-01-preview, 2024-07-01",
    });
    expect(errorOf(await service.sendSigned({ ...signed, path: `${path}?api-version=1999-01-01` }))).toEqual({
      code: "UnsupportedApiVersionValue",
      message: "Unsupported api-version '1999-01-01'. The supported api-versions are: 2023-06-01-preview, 2024-07-01",
    });
  });
});

describe("a ballot", () => {
  test("is counted once: the same text again changes nothing, another is refused", async () => {
    const id = await propose();
    await vote(id, alice);
    const version = service.store.version;
    expect(shown(await vote(id, alice))).toMatchObject({ ballotCount: 1, proposalState: "Open" });
    expect(service.store.version).toBe(version);
    expect(errorOf(await vote(id, alice, VOTE_AGAINST)).code).toBe("VoteAlreadyExists");
  });

  test("must be signed for the proposal and by the member of its path", async () => {
    const id = await propose();
    const other = await propose();
    const forOther = { ...ballotCall(alice.id, id, VOTE_FOR), proposalId: other };
    expect(errorOf(await service.send(forOther, alice))).toEqual({
      code: "InvalidResourceName",
      message: "Authenticated proposal id does not match URL",
    });
    expect(errorOf(await service.send(ballotCall(bob.id, id, VOTE_FOR), alice))).toEqual({
      code: "InvalidResourceName",
      message: "Authenticated member id does not match URL",
    });
  });

  test.each(["not json", "{}", '{"ballot":1}', "null", ""])("with the payload %j is refused", async (payload) => {
    const call = { ...ballotCall(alice.id, await propose(), VOTE_FOR), payload: Buffer.from(payload) };
    const answer = await service.send(call, alice);
    expect(answer.status).toBe(400);
    expect(errorOf(answer).code).toBe("InvalidInput");
  });

  test("for an unknown proposal is refused", async () => {
    expect(errorOf(await vote("ab".repeat(32), alice))).toEqual({
      code: "ProposalNotFound",
      message: `Could not find proposal ${"ab".repeat(32)}.`,
    });
  });

  test("sees the proposal's text, its proposer and governance tables", async () => {
    const id = await propose();
    const ballot = `export function vote(proposal, proposerId) {
      const own = ccf.kv["public:ccf.gov.members.info"].has(ccf.strToBuf(proposerId));
      return own && JSON.parse(proposal).actions[0].name === "set_user";
    }`;
    await vote(id, alice, ballot);
    expect(shown(await vote(id, bob, ballot))).toMatchObject({ proposalState: "Accepted" });
  });

  test("that returns anything but true is against", async () => {
    const id = await propose();
    await vote(id, alice, "export function vote() { return 'true'; }");
    expect(shown(await vote(id, bob, "export function vote() { return 1; }")).proposalState).toBe("Rejected");
  });

  test("of a member who has left does not count", async () => {
    const id = await propose();
    await vote(id, alice);
    service.write((tx) => {
      open(tx, TABLES.memberInfo).delete(alice.id);
      open(tx, TABLES.memberCerts).delete(alice.id);
    });
    expect(shown(await vote(id, bob)).proposalState).toBe("Open");
    expect(shown(await vote(id, carol)).proposalState).toBe("Accepted");
  });

  test("runs again on the state of each later ballot", async () => {
    const id = await propose();
    await vote(id, alice, `export function vote() { return ccf.kv["public:ccf.gov.users.certs"].size === 0; }`);
    service.write((tx) => open(tx, TABLES.userCerts).set("x", "y"));
    const answer = shown(await vote(id, bob));
    expect(answer.proposalState).toBe("Open");
  });
});

describe("a withdrawal", () => {
  test("is the proposer's alone, once for all", async () => {
    const id = await propose();
    expect(errorOf(await service.send(withdrawalCall(id), bob)).code).toBe("AuthorizationFailed");
    expect(shown(await service.send(withdrawalCall(id), alice)).proposalState).toBe("Withdrawn");
    expect(shown(await service.send(withdrawalCall(id), alice)).proposalState).toBe("Withdrawn");
    expect(errorOf(await vote(id, bob)).code).toBe("ProposalNotOpen");
  });

  test("of an unknown proposal is 204, of a decided one refused", async () => {
    expect((await service.send(withdrawalCall("ab".repeat(32)), alice)).status).toBe(204);
    const id = await propose();
    await vote(id, alice);
    await vote(id, bob);
    expect(errorOf(await service.send(withdrawalCall(id), alice)).code).toBe("ProposalNotOpen");
  });
});

describe("a proposal that fails to apply", () => {
  test("undoes the ballot that decided it and everything it did, and stays open", async () => {
    const id = await propose([
      SET_USER,
      { name: "set_member_data", args: { member_id: "ab".repeat(32), member_data: {} } },
    ]);
    await vote(id, alice);
    const version = service.store.version;
    const answer = await vote(id, bob);
    expect(answer.status).toBe(500);
    expect(errorOf(answer).code).toBe("InternalError");
    expect(errorOf(answer).message).toMatch(/^Failed to apply\(\): Error: member abab.* does not exist/);
    expect(service.store.version).toBe(version);
    expect(hasUser()).toBe(false);
    const after = shown(await service.get(`/gov/members/proposals/${id}`));
    expect(after).toMatchObject({ proposalState: "Open", ballotCount: 1 });
  });
});

test("an expelled member is refused, and what it proposed can still be voted on", async () => {
  const pending = await propose([SET_USER], carol);
  const id = await propose([{ name: "remove_member", args: { member_id: carol.id } }]);
  await vote(id, alice);
  expect(shown(await vote(id, bob)).proposalState).toBe("Accepted");
  for (const call of [proposalCall([]), ballotCall(carol.id, pending, VOTE_FOR), withdrawalCall(pending)]) {
    const answer = await service.send(call, carol);
    expect(answer.status).toBe(401);
    expect(errorOf(answer).details?.[0]?.message).toBe("Signer is not a known member");
  }
  await vote(pending, alice);
  expect(shown(await vote(pending, bob)).proposalState).toBe("Accepted");
});

test("paths with ids of the wrong form are refused in CCF's words", async () => {
  const answer = await service.get("/gov/members/proposals/nothing");
  expect(answer.status).toBe(400);
  expect(errorOf(answer)).toEqual({
    code: "InvalidResourceName",
    message: "'nothing' is not a valid hex-encoded proposal ID",
  });
  const id = await propose();
  const ballot = await service.get(`/gov/members/proposals/${id}/ballots/${alice.id}`);
  expect(errorOf(ballot)).toEqual({
    code: "VoteNotFound",
    message: `Member m[${alice.id}] has not voted for proposal ${id}.`,
  });
});
