import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ackCall, proposalCall, stateDigestCall } from "../../../../governance/member/request.ts";
import { getOne, open, setOne } from "../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../node/enclave/kv/tables.ts";
import { fromBase64 } from "../../../../protocol/bytes.ts";
import { present } from "../../../../protocol/check.ts";
import { decodeGovernanceRequest } from "../../../../protocol/crypto/governance-request.ts";
import { createEncryptionKeyPair, createParticipant } from "../../../../protocol/crypto/participant.ts";
import { addMember, Consortium, errorOf, type TestMember } from "../consortium.ts";

let service: Consortium;
let alice: TestMember;
let dave: TestMember;

beforeEach(async () => {
  service = await Consortium.found({ recovery: 1, threshold: 1 });
  alice = present(service.members[0], "a member");
  dave = { ...createParticipant({ name: "dave", validFrom: new Date() }), encryption: await createEncryptionKeyPair() };
  service.write((tx) => addMember(tx, dave, "Accepted"));
});
afterEach(() => service.close());

const statusOf = ({ id }: TestMember) => open(service.read(), TABLES.memberInfo).get(id)?.status;
const openService = () =>
  service.write((tx) => {
    const info = present(getOne(tx, TABLES.serviceInfo), "a service");
    setOne(tx, TABLES.serviceInfo, { ...info, status: "Open" });
  });

async function digestFor(member: TestMember): Promise<string> {
  const answer = await service.send(stateDigestCall(member.id), member);
  expect(answer.status, answer.text).toBe(200);
  return (answer.body as { stateDigest: string }).stateDigest;
}

describe("a new member", () => {
  test("becomes active by acknowledging the latest signed state, and may then propose", async () => {
    expect((await service.send(proposalCall([]), dave)).status).toBe(401);
    const root = service.sign();
    expect(await digestFor(dave)).toBe(root);
    const shown = await service.get(`/gov/members/state-digests/${dave.id}`);
    expect(shown.body).toEqual({ memberId: dave.id, stateDigest: root });
    expect(statusOf(dave)).toBe("Accepted");

    const acknowledged = await service.send(ackCall(dave.id, root), dave);
    expect(acknowledged).toMatchObject({ status: 204, text: "" });
    expect(statusOf(dave)).toBe("Active");
    const ack = present(open(service.read(), TABLES.memberAcks).get(dave.id), "an acknowledgement");
    expect(ack.state_digest).toBe(root);
    expect(decodeGovernanceRequest(fromBase64(ack.cose_sign1_req ?? "")).kid).toBe(dave.id);
    expect((await service.send(proposalCall([]), dave)).status).toBe(200);
  });

  test("of an open service gets a recovery share with its activation", async () => {
    openService();
    await service.send(ackCall(dave.id, await digestFor(dave)), dave);
    const shares = present(getOne(service.read(), TABLES.recoveryShares), "shares");
    expect(Object.keys(shares.encrypted_shares).sort()).toEqual([alice.id, dave.id].sort());
  });

  test("gets no share before the service is open, nor for acknowledging again", async () => {
    await service.send(ackCall(dave.id, await digestFor(dave)), dave);
    expect(getOne(service.read(), TABLES.recoveryShares)).toBeUndefined();
    openService();
    await service.send(ackCall(dave.id, await digestFor(dave)), dave);
    expect(getOne(service.read(), TABLES.recoveryShares)).toBeUndefined();
  });

  test("stays as it was where shares cannot be issued", async () => {
    openService();
    service.write((tx) => {
      const config = present(getOne(tx, TABLES.serviceConfig), "a configuration");
      setOne(tx, TABLES.serviceConfig, { ...config, recovery_threshold: 9 });
    });
    const answer = await service.send(ackCall(dave.id, await digestFor(dave)), dave);
    expect(answer.status).toBe(500);
    expect(errorOf(answer).message).toMatch(/Error issuing new recovery shares: the recovery threshold is 9/);
    expect(statusOf(dave)).toBe("Accepted");
  });
});

describe("an acknowledgement is refused", () => {
  test("of another state, in CCF's words", async () => {
    const root = await digestFor(dave);
    const other = "00".repeat(32);
    const answer = await service.send(ackCall(dave.id, other), dave);
    expect(answer.status).toBe(400);
    expect(errorOf(answer)).toEqual({
      code: "StateDigestMismatch",
      message: `Submitted state digest is not valid.\nExpected\n ${root}\nReceived\n ${other}`,
    });
    expect(statusOf(dave)).toBe("Accepted");
  });

  test("of no state at all", async () => {
    expect(errorOf(await service.send(ackCall(dave.id, ""), dave)).code).toBe("StateDigestMismatch");
    expect(statusOf(dave)).toBe("Accepted");
  });

  test("in another member's name", async () => {
    const root = await digestFor(dave);
    for (const call of [ackCall(dave.id, root), stateDigestCall(dave.id)]) {
      const answer = await service.send(call, alice);
      expect(answer.status).toBe(400);
      expect(errorOf(answer).code).toBe("InvalidAuthenticationInfo");
    }
  });

  test("by a stranger", async () => {
    const stranger = createParticipant({ name: "stranger", validFrom: new Date() });
    expect((await service.send(stateDigestCall(stranger.id), stranger)).status).toBe(401);
  });

  test.each(["", "no json", "null", "[]", '{"stateDigest":1}', '{"state_digest":"x"}'])(
    "with the payload %j",
    async (payload) => {
      const answer = await service.send({ ...ackCall(dave.id, ""), payload: Buffer.from(payload) }, dave);
      expect(answer.status).toBe(400);
      expect(errorOf(answer).code).toBe("InvalidInput");
    },
  );
});

test("there is no digest for a stranger, and none before anything was signed", async () => {
  const unknown = await service.get(`/gov/members/state-digests/${"ab".repeat(32)}`);
  expect(unknown.status).toBe(404);
  expect(errorOf(unknown).code).toBe("ResourceNotFound");
  service.write((tx) => tx.map(TABLES.signatures.name).clear());
  const answer = await service.send(stateDigestCall(dave.id), dave);
  expect(answer.status).toBe(500);
});
