/** Governance over the wire: what is not properly signed is refused by name, and the rules of proposals hold in races. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientFault, ServiceClient } from "../../governance/member/client.ts";
import { ballotCall, governancePath, proposalCall, withdrawalCall } from "../../governance/member/request.ts";
import {
  createProposal,
  getProposal,
  listMembers,
  type Proposal,
  vote,
  withdraw,
} from "../../governance/member/voting.ts";
import { utf8 } from "../../protocol/bytes.ts";
import type { Fault } from "../../protocol/check.ts";
import { createParticipant } from "../../protocol/crypto/participant.ts";
import { type Consortium, endAll, type Person, startConsortium } from "./consortium.ts";
import { client, decide, idOf, postBytes, signed, signer, YES } from "./members.ts";

let consortium: Consortium;
let primary: number;
let service: ServiceClient;
beforeAll(async () => {
  consortium = await startConsortium({ members: 4, users: 1 });
  primary = await consortium.primary();
  service = client(consortium, primary);
});
afterAll(async () => {
  service?.close();
  await endAll();
});

const CREATE = governancePath("/members/proposals:create");
/** Changes nothing that another test looks at, and is another proposal each time. */
const harmless = (note: string) => [
  { name: "set_member_data", args: { member_id: idOf(consortium, "member0"), member_data: { note } } },
];
const proposalBytes = (person: Person, createdAt?: number) =>
  signed(consortium, person, proposalCall(harmless(randomBytes(4).toString("hex"))), createdAt);
const now = () => Math.floor(Date.now() / 1000);
const post = (body: Uint8Array, path = CREATE, type?: string) => postBytes(consortium, primary, path, body, type);

async function proposalCount(): Promise<number> {
  return (await service.get<{ value: unknown[] }>(governancePath("/members/proposals"))).value.length;
}

describe("a request that is not properly signed", () => {
  const unauthenticated = (reason: string) => ({
    error: {
      code: "InvalidAuthenticationInfo",
      message: "Invalid authentication credentials.",
      details: [{ auth_policy: "active_member_cose_sign1", code: "InvalidAuthenticationInfo", message: reason }],
    },
  });

  test("with one bit of the signature changed is refused", async () => {
    const bytes = await proposalBytes("member0");
    bytes[bytes.length - 1]! ^= 1;
    const answer = await post(bytes);
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toBe('COSE-SIGN1 realm="Signed request access"');
    expect(answer.json()).toEqual(unauthenticated("Failed to validate COSE Sign1"));
  });

  test("with one bit of the payload changed is refused", async () => {
    const bytes = await proposalBytes("member0");
    const at = bytes.indexOf("set_member_data");
    bytes[at]! ^= 0x20;
    expect((await post(bytes)).json()).toEqual(unauthenticated("Failed to validate COSE Sign1"));
  });

  test("with another member's kid is refused", async () => {
    const bytes = await proposalBytes("member0");
    bytes.write(idOf(consortium, "member1"), bytes.indexOf(idOf(consortium, "member0")), "latin1");
    const answer = await post(bytes);
    expect(answer.status).toBe(401);
    expect(answer.json()).toEqual(unauthenticated("Failed to validate COSE Sign1"));
  });

  test("with the kid of nobody is refused", async () => {
    const bytes = await proposalBytes("member0");
    bytes.write("0".repeat(64), bytes.indexOf(idOf(consortium, "member0")), "latin1");
    expect((await post(bytes)).json()).toEqual(unauthenticated("Signer is not a known member"));
  });

  test("by a user, whose signature is good, is refused", async () => {
    expect((await post(await proposalBytes("user0"))).json()).toEqual(unauthenticated("Signer is not a known member"));
  });

  test("of another type is refused", async () => {
    const bytes = await signed(consortium, "member0", withdrawalCall("0".repeat(64)));
    expect((await post(bytes)).json()).toEqual(
      unauthenticated("Found ccf.gov.msg.type set to withdrawal, expected ccf.gov.msg.type to be proposal"),
    );
  });

  test("under another content type is refused", async () => {
    expect((await post(await proposalBytes("member0"), CREATE, "application/json")).json()).toEqual(
      unauthenticated("Content type is not set to application/cose"),
    );
  });

  test("that is cut off, wherever, is refused with 400", async () => {
    const bytes = await proposalBytes("member0");
    for (const length of [0, 1, 2, 20, bytes.length >> 1, bytes.length - 1]) {
      const answer = await post(bytes.subarray(0, length));
      expect(answer.status).toBe(400);
      expect(answer.error()).toBe("InvalidInput");
    }
  });

  test("that is followed by something is refused with 400", async () => {
    const answer = await post(Buffer.concat([await proposalBytes("member0"), Buffer.from([0])]));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("InvalidInput");
  });

  test("leaves nothing behind", async () => {
    const before = await proposalCount();
    const bytes = await proposalBytes("member0");
    bytes[bytes.length - 1]! ^= 1;
    await post(bytes);
    expect(await proposalCount()).toBe(before);
  });
});

describe("the version of the API", () => {
  test.each([
    ["missing", "", "MissingApiVersionParameter"],
    ["unknown", "?api-version=2019-01-01", "UnsupportedApiVersionValue"],
    ["empty", "?api-version=", "UnsupportedApiVersionValue"],
  ])("%s: refused, for reading and for writing", async (_, query, code) => {
    const written = await post(await proposalBytes("member0"), `/gov/members/proposals:create${query}`);
    const read = await consortium.curl("nobody", consortium.url(primary, `/gov/service/info${query}`));
    for (const answer of [written, read]) {
      expect(answer.status).toBe(400);
      expect(answer.error()).toBe(code);
    }
  });
});

describe("the time of a proposal", () => {
  test("older than the ones of late: refused", async () => {
    await decide(service, consortium, harmless("of late"), ["member0"]);
    const answer = await post(await proposalBytes("member0", now() - 86_400));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("ProposalCreatedTooLongAgo");
  });

  test("in the future: refused", async () => {
    const answer = await post(await proposalBytes("member0", now() + 86_400));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("InvalidCreatedAt");
  });

  test("the same signed bytes make one proposal, however often and however fast they are sent", async () => {
    const bytes = await proposalBytes("member1");
    const answers = await Promise.all(Array.from({ length: 4 }, () => post(bytes)));
    const made = answers.filter(({ status }) => status === 200);
    expect(made).toHaveLength(1);
    const { proposalId } = made[0]!.json() as Proposal;
    for (const answer of answers.filter((one) => one !== made[0])) {
      expect(answer.status).toBe(400);
      expect(answer.error()).toBe("ProposalReplay");
      expect(answer.body).toContain(proposalId);
    }
  });
});

describe("a proposal", () => {
  test("is redirected to the primary by a backup, and curl -L arrives there", async () => {
    const backup = (primary + 1) % 3;
    const body = await proposalBytes("member0");
    const answer = await postBytes(consortium, backup, CREATE, body);
    expect(answer).toMatchObject({ status: 307, headers: { location: consortium.url(primary, CREATE) } });
    const followed = await postBytes(consortium, backup, CREATE, body, "application/cose", ["--location"]);
    expect(followed).toMatchObject({ status: 200, redirects: 1 });
  });

  test.each([
    ["that is not JSON", "{actions", "ProposalFailedToValidate"],
    ["without actions", "{}", "ProposalFailedToValidate"],
    [
      "with an action that the constitution does not name",
      '{"actions":[{"name":"print_money"}]}',
      "ProposalFailedToValidate",
    ],
    [
      "with an argument that the action does not know",
      '{"actions":[{"name":"set_user","args":{"certificate":"x"}}]}',
      "ProposalFailedToValidate",
    ],
  ])("%s is refused with 400", async (_, text, code) => {
    const bytes = await signed(consortium, "member0", { type: "proposal", path: CREATE, payload: utf8(text) });
    const answer = await post(bytes);
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe(code);
  });

  test("is withdrawn by its proposer alone, and is then closed to votes", async () => {
    const { value: made } = await createProposal(service, signer(consortium, "member0"), harmless("withdrawn"));
    const by = (person: Person) => withdraw(service, signer(consortium, person), made.proposalId);
    await expect(by("member1")).rejects.toMatchObject({ detail: { status: 403, error: "AuthorizationFailed" } });
    expect((await by("member0")).value).toMatchObject({ proposalState: "Withdrawn" });
    const late = vote(service, signer(consortium, "member1"), made.proposalId, YES);
    await expect(late).rejects.toMatchObject({ detail: { status: 400, error: "ProposalNotOpen" } });
  });

  test("two that race are both decided, and their effects are one after the other", async () => {
    const race = await Promise.all([
      decide(service, consortium, harmless("first"), ["member0", "member1", "member2"]),
      decide(service, consortium, harmless("second"), ["member2", "member1", "member0"]),
    ]);
    expect(race.map((proposal) => proposal.proposalState)).toEqual(["Accepted", "Accepted"]);
    expect(new Set(race.map((proposal) => proposal.proposalId)).size).toBe(2);
    const member0 = (await listMembers(service)).find(({ memberId }) => memberId === idOf(consortium, "member0"));
    expect([{ note: "first" }, { note: "second" }]).toContainEqual(member0?.memberData);
  });

  test("is decided once, by whichever of four racing ballots is the third", async () => {
    const { value: made } = await createProposal(service, signer(consortium, "member0"), harmless("raced for"));
    const votes = await Promise.all(
      (["member0", "member1", "member2", "member3"] as const).map((person) =>
        vote(service, signer(consortium, person), made.proposalId, YES).then(
          ({ value }) => value.proposalState,
          (error: Fault<ClientFault>) => (error.detail as { error?: string }).error,
        ),
      ),
    );
    expect(votes.sort()).toEqual(["Accepted", "Open", "Open", "ProposalNotOpen"]);
    const decided = await getProposal(service, made.proposalId);
    expect(decided.ballotCount).toBe(3);
    expect(Object.values(decided.finalVotes ?? {})).toEqual([true, true, true]);
  });

  test("a ballot signed for one proposal does not count for another", async () => {
    const { value: one } = await createProposal(service, signer(consortium, "member0"), harmless("one"));
    const { value: other } = await createProposal(service, signer(consortium, "member0"), harmless("other"));
    const call = ballotCall(idOf(consortium, "member1"), one.proposalId, YES);
    const bytes = await signed(consortium, "member1", call);
    const answer = await post(bytes, call.path.replace(one.proposalId, other.proposalId));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("InvalidResourceName");
    expect((await getProposal(service, other.proposalId)).ballotCount).toBe(0);
  });
});

describe("the constitution", () => {
  const text = ["actions.js", "validate.js", "resolve.js", "apply.js"]
    .map((name) => readFileSync(join(import.meta.dirname, "../../governance/constitution", name), "utf8"))
    .join("\n");
  const propose = (constitution: string) => [{ name: "set_constitution", args: { constitution } }];

  test.each([
    ["with a syntax error", `${text}\nfunction {`],
    ["that lacks a function", text.replace("export function resolve(", "function resolve(")],
  ])("one %s is refused", async (_, broken) => {
    const refused = createProposal(service, signer(consortium, "member0"), propose(broken));
    await expect(refused).rejects.toMatchObject({ detail: { status: 400, error: "ProposalFailedToValidate" } });
  });

  test("a new one is in force for the next proposal, and on every node", async () => {
    const member0 = idOf(consortium, "member0");
    const rule = `if (proposerId === "${member0}") return "Accepted";\n  const counted =`;
    const trusting = text.replace("const counted =", rule);
    const accepted = await decide(service, consortium, propose(trusting), ["member0", "member1", "member2"]);
    expect(accepted.proposalState).toBe("Accepted");

    const { value: made } = await createProposal(service, signer(consortium, "member0"), harmless("at once"));
    expect(made).toMatchObject({ proposalState: "Accepted", ballotCount: 0 });
    const { value: open } = await createProposal(service, signer(consortium, "member1"), harmless("by vote"));
    expect(open.proposalState).toBe("Open");

    await createProposal(service, signer(consortium, "member0"), propose(text));
    const { value: again } = await createProposal(service, signer(consortium, "member0"), harmless("by vote again"));
    expect(again.proposalState).toBe("Open");
  });
});

describe("members come and go", () => {
  test("a new member governs only once it has acknowledged", async () => {
    const files = ["--dir", consortium.directory];
    expect((await consortium.camerata("member", "keygen", "member9", ...files)).code).toBe(0);
    const cert = signer(consortium, "member9").certificatePem;
    await decide(service, consortium, [{ name: "set_member", args: { cert } }], ["member0", "member1", "member2"]);
    const early = await post(await proposalBytes("member9"));
    expect(early.status).toBe(401);
    expect(early.body).toContain("Signer is not an ACTIVE member");
    expect((await consortium.camerata("--as", "member9", "member", "ack")).code).toBe(0);
    expect((await post(await proposalBytes("member9"))).status).toBe(200);
  });

  test("a removed member can neither propose nor vote", async () => {
    const { value: open } = await createProposal(service, signer(consortium, "member0"), harmless("without it"));
    const removal = [{ name: "remove_member", args: { member_id: idOf(consortium, "member9") } }];
    const removed = await decide(service, consortium, removal, ["member0", "member1", "member2"]);
    expect(removed.proposalState).toBe("Accepted");
    const proposal = await post(await proposalBytes("member9"));
    const ballot = ballotCall(idOf(consortium, "member9"), open.proposalId, YES);
    const voted = await post(await signed(consortium, "member9", ballot), ballot.path);
    for (const answer of [proposal, voted]) {
      expect(answer.status).toBe(401);
      expect(answer.error()).toBe("InvalidAuthenticationInfo");
      expect(answer.body).toContain("Signer is not a known member");
    }
  });

  test("a certificate that is no certificate does not become a member's or a user's", async () => {
    const { certificatePem } = createParticipant({ name: "x", validFrom: new Date() });
    for (const cert of ["", "x", certificatePem.replace(/[A-Z]/, "?")])
      for (const name of ["set_member", "set_user"]) {
        const refused = createProposal(service, signer(consortium, "member0"), [{ name, args: { cert } }]);
        await expect(refused).rejects.toMatchObject({ detail: { status: 400, error: "ProposalFailedToValidate" } });
      }
  });
});
