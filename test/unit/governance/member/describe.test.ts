import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { VOTE_AGAINST, VOTE_FOR } from "../../../../governance/member/ballots.ts";
import { describeActions, describeBallot, describeCall } from "../../../../governance/member/describe.ts";
import {
  ackCall,
  ballotCall,
  proposalCall,
  proposalTextCall,
  stateDigestCall,
  withdrawalCall,
} from "../../../../governance/member/request.ts";
import { createEncryptionKeyPair, createParticipant } from "../../../../protocol/crypto/participant.ts";

const someone = createParticipant({ name: "someone", validFrom: new Date() });
const ID = "ab".repeat(32);

describe("a request in words", () => {
  test("names each action, what it means, and every argument", () => {
    const actions = [
      { name: "set_user", args: { cert: someone.certificatePem, user_data: { desk: 4 } } },
      { name: "remove_member", args: { member_id: ID } },
      { name: "of_our_own", args: [1, "x"] },
      { name: "trigger_recovery_shares_refresh" },
    ];
    expect(describeCall(proposalCall(actions))).toEqual([
      "propose to",
      "1. set_user: admit a user, or change one",
      `   cert: certificate ${someone.id}`,
      '   user_data: {"desk":4}',
      "2. remove_member: expel a member",
      `   member_id: ${ID}`,
      "3. of_our_own",
      '   [1,"x"]',
      "4. trigger_recovery_shares_refresh: issue new recovery shares; the present ones become useless",
    ]);
  });

  test("shows longer texts line by line, and keys by their digest", async () => {
    const { publicKeyPem } = await createEncryptionKeyPair();
    const lines = describeActions([
      { name: "set_member", args: { encryption_pub_key: publicKeyPem } },
      { name: "set_constitution", args: { constitution: "line 1\nline 2\n" } },
    ]);
    expect(lines[1]).toMatch(/^ {3}encryption_pub_key: public key [0-9a-f]{64}$/);
    expect(lines.slice(3)).toEqual(["   constitution: line 1", "      line 2"]);
  });

  test("says what else a member signs", () => {
    expect(describeCall(ballotCall(ID, ID, VOTE_FOR))).toEqual([`vote on proposal ${ID}:`, "in favour"]);
    expect(describeCall(ballotCall(ID, ID, VOTE_AGAINST))).toEqual([`vote on proposal ${ID}:`, "against"]);
    expect(describeCall(withdrawalCall(ID))).toEqual([`withdraw proposal ${ID}`]);
    expect(describeCall(ackCall(ID, "cd"))).toEqual(["acknowledge the state of the service: cd"]);
    expect(describeCall(stateDigestCall(ID))[0]).toMatch(/^ask for the present state/);
    expect(describeCall(proposalCall([]))).toEqual(["propose to", "do nothing"]);
  });

  test("shows a ballot that is a program as that program", () => {
    expect(describeBallot(`${VOTE_FOR} `)).toEqual([
      "as this program decides:",
      ...VOTE_FOR.trimEnd()
        .split("\n")
        .map((line) => `   ${line}`),
    ]);
  });

  test("leaves nothing out that is signed", () => {
    expect(
      describeCall(proposalTextCall('{"actions":[{"name":"remove_user","args":{},"until":"noon"}]}')).join("\n"),
    ).toContain("until: noon");
    expect(describeCall(proposalTextCall('{"actions":[],"also":1}')).join("\n")).toContain('"also":1');
    expect(describeCall(proposalTextCall('{"actions":[1]}'))).toEqual(["propose to", "unknown", "   1"]);
    expect(describeCall(proposalTextCall("no json"))).toEqual(["propose to", "text", "   no json"]);
  });

  test("lets no text repaint the screen", () => {
    const lines = describeActions([
      { name: "x\u001b[2J", args: { "\u202ea": "\u001b]0;title\u0007", cert: "-----BEGIN CERTIFICATE-----\u0008" } },
    ]);
    expect(lines.join("\n")).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
    expect(lines[0]).toBe("x\\u001b[2J");
  });

  test("knows every action of the default constitution", () => {
    const text = readFileSync(new URL("../../../../governance/constitution/actions.js", import.meta.url), "utf8");
    const names = [...text.matchAll(/actions\.set\(\s*"(\w+)"/g)]
      .map(([, name]) => name ?? "")
      .filter((name) => name !== "name");
    expect(names.length).toBeGreaterThanOrEqual(20);
    for (const name of names) expect(describeActions([{ name }])[0], name).toContain(": ");
  });
});
