import { constants, generateKeyPairSync, privateDecrypt } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { VOTE_FOR } from "../../../../governance/member/ballots.ts";
import { type Action, ballotCall, proposalCall } from "../../../../governance/member/request.ts";
import { getOne, open, setOne } from "../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../node/enclave/kv/tables.ts";
import { fromBase64 } from "../../../../protocol/bytes.ts";
import { present } from "../../../../protocol/check.ts";
import { createEncryptionKeyPair, createParticipant } from "../../../../protocol/crypto/participant.ts";
import { deserialiseShare, joinShares, unwrapLedgerSecret, wrappingKey } from "../../../../protocol/crypto/sharing.ts";
import {
  type Answer,
  addNode,
  CONSTITUTION,
  Consortium,
  errorOf,
  LEDGER_SECRET,
  PASSES_AT_ONCE,
  SERVICE_CERTIFICATE,
  type TestMember,
} from "../consortium.ts";

const NODE = "22".repeat(32);
const PEM = {
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
} as const;
const EC_KEY = generateKeyPairSync("ec", { namedCurve: "P-256", ...PEM }).publicKey;
const SHORT_RSA_KEY = generateKeyPairSync("rsa", { modulusLength: 1024, ...PEM }).publicKey;
const newcomer = createParticipant({ name: "newcomer", validFrom: new Date() });

let service: Consortium;
afterEach(() => service.close());

async function found(parts: Parameters<typeof Consortium.found>[0] = {}): Promise<void> {
  service = await Consortium.found({ constitution: PASSES_AT_ONCE, ...parts });
}
const first = () => present(service.members[0], "there is a member");
const send = (...actions: Action[]): Promise<Answer> => service.send(proposalCall(actions), first());

/** Proposes, and expects that it is applied. */
async function act(...actions: Action[]): Promise<void> {
  const answer = await send(...actions);
  expect(answer.body, answer.text).toMatchObject({ proposalState: "Accepted" });
}

/** Proposes, and expects a refusal whose words match; nothing is written. */
async function refused(action: Action, words: RegExp, code = "InternalError"): Promise<void> {
  const version = service.store.version;
  const answer = await send(action);
  expect(errorOf(answer)).toMatchObject({ code });
  expect(errorOf(answer).message).toMatch(words);
  expect(service.store.version).toBe(version);
}

/** Each member's share, decrypted; and the secret that `threshold` of them give. */
function sharesOf(members: readonly TestMember[]) {
  const issued = present(getOne(service.read(), TABLES.recoveryShares), "shares were issued");
  const shares = members.flatMap(({ id, encryption }) => {
    const encrypted = issued.encrypted_shares[id];
    if (encrypted === undefined || encryption === undefined) return [];
    const key = { key: encryption.privateKeyPem, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" };
    return [deserialiseShare(privateDecrypt(key, fromBase64(encrypted)))];
  });
  const unwrap = (threshold: number) => {
    const secret = shares[0]?.x === 0 ? present(shares[0], "there is a share") : joinShares(shares, threshold);
    return unwrapLedgerSecret(fromBase64(issued.wrapped_latest_ledger_secret), wrappingKey(secret));
  };
  return { shares, holders: Object.keys(issued.encrypted_shares).sort(), unwrap };
}

describe("members", () => {
  test("set_member admits a member that has yet to acknowledge the signed state", async () => {
    await found();
    const root = present(getOne(service.read(), TABLES.signatures), "signed").root;
    const { publicKeyPem } = await createEncryptionKeyPair();
    await act({
      name: "set_member",
      args: {
        cert: newcomer.certificatePem,
        encryption_pub_key: publicKeyPem,
        member_data: { org: "x" },
        recovery_role: "Owner",
      },
    });
    const tx = service.read();
    expect(open(tx, TABLES.memberCerts).get(newcomer.id)).toBe(newcomer.certificatePem);
    expect(open(tx, TABLES.memberEncryptionKeys).get(newcomer.id)).toBe(publicKeyPem);
    expect(open(tx, TABLES.memberInfo).get(newcomer.id)).toEqual({
      status: "Accepted",
      member_data: { org: "x" },
      recovery_role: "Owner",
    });
    expect(open(tx, TABLES.memberAcks).get(newcomer.id)).toEqual({ state_digest: root });
  });

  test("set_member works before anything was signed, and takes an encryption key away", async () => {
    await found({ recovery: 1 });
    service.write((tx) => tx.map(TABLES.signatures.name).clear());
    await act({ name: "set_member", args: { cert: first().certificatePem } });
    expect(open(service.read(), TABLES.memberEncryptionKeys).has(first().id)).toBe(false);
    expect(open(service.read(), TABLES.memberAcks).get(first().id)).toEqual({ state_digest: "" });
  });

  test.each<[string, unknown, RegExp]>([
    ["no certificate", {}, /cert must be a string/],
    [
      "two certificates with text between",
      { cert: `${newcomer.certificatePem}x${newcomer.certificatePem}` },
      /cert must be a valid/,
    ],
    [
      "a role without a key",
      { cert: newcomer.certificatePem, recovery_role: "Owner" },
      /recovery_role needs an encryption_pub_key/,
    ],
    ["an unknown role", { cert: newcomer.certificatePem, recovery_role: "King" }, /recovery_role must be one of/],
    [
      "an elliptic key for shares",
      { cert: newcomer.certificatePem, encryption_pub_key: EC_KEY },
      /not an RSA public key/,
    ],
    [
      "a short RSA key for shares",
      { cert: newcomer.certificatePem, encryption_pub_key: SHORT_RSA_KEY },
      /at least 2048 bits/,
    ],
    ["data that is no object", { cert: newcomer.certificatePem, member_data: [] }, /member_data must be an object/],
    ["no arguments at all", null, /args must be an object/],
  ])("set_member refuses %s", async (_, args, words) => {
    await found();
    await refused({ name: "set_member", args }, words, "ProposalFailedToValidate");
  });

  test("remove_member forgets a member, and is no error for an unknown one", async () => {
    await found();
    const gone = present(service.members[1], "there is a second member");
    await act({ name: "remove_member", args: { member_id: gone.id } });
    const tx = service.read();
    for (const table of [TABLES.memberCerts, TABLES.memberInfo, TABLES.memberAcks, TABLES.memberEncryptionKeys])
      expect(open<string, unknown>(tx, table as never).has(gone.id)).toBe(false);
    await act({ name: "remove_member", args: { member_id: gone.id } });
  });

  test("remove_member keeps the last active member", async () => {
    await found({ members: 1 });
    await refused({ name: "remove_member", args: { member_id: first().id } }, /last active member/);
  });

  test("remove_member refuses to leave fewer shares than the threshold", async () => {
    await found({ recovery: 2, threshold: 2 });
    await refused(
      { name: "remove_member", args: { member_id: first().id } },
      /1 with a share, 0 owners\) could not meet the recovery threshold of 2/,
    );
  });

  test("remove_member of a share holder of an open service issues new shares, without one for it", async () => {
    await found({ recovery: 3, threshold: 2 });
    await act({ name: "transition_service_to_open", args: { next_service_identity: SERVICE_CERTIFICATE } });
    const before = sharesOf(service.members);
    expect(before.holders).toHaveLength(3);
    const gone = present(service.members[2], "there is a third member");
    await act({ name: "remove_member", args: { member_id: gone.id } });
    const after = sharesOf(service.members);
    expect(after.holders).not.toContain(gone.id);
    expect(after.unwrap(2)).toEqual(LEDGER_SECRET);
    expect(after.shares[0]).not.toEqual(before.shares[0]);
  });

  test("set_member_data changes the data and nothing else", async () => {
    await found();
    await act({ name: "set_member_data", args: { member_id: first().id, member_data: { weight: 2 } } });
    expect(open(service.read(), TABLES.memberInfo).get(first().id)).toEqual({
      status: "Active",
      member_data: { weight: 2 },
    });
    await refused({ name: "set_member_data", args: { member_id: "ab".repeat(32), member_data: {} } }, /does not exist/);
  });
});

describe("users", () => {
  test("are set, changed and removed", async () => {
    await found();
    await act({ name: "set_user", args: { cert: newcomer.certificatePem } });
    expect(open(service.read(), TABLES.userCerts).get(newcomer.id)).toBe(newcomer.certificatePem);
    expect(open(service.read(), TABLES.userInfo).has(newcomer.id)).toBe(false);
    await act({ name: "set_user_data", args: { user_id: newcomer.id, user_data: { admin: true } } });
    expect(open(service.read(), TABLES.userInfo).get(newcomer.id)).toEqual({ user_data: { admin: true } });
    await act({ name: "set_user_data", args: { user_id: newcomer.id } });
    expect(open(service.read(), TABLES.userInfo).has(newcomer.id)).toBe(false);
    await act({ name: "remove_user", args: { user_id: newcomer.id } });
    expect(open(service.read(), TABLES.userCerts).has(newcomer.id)).toBe(false);
    await act({ name: "remove_user", args: { user_id: newcomer.id } });
  });
});

describe("nodes", () => {
  const statusOf = (id = NODE) => open(service.read(), TABLES.nodeInfo).get(id)?.status;

  test("transition_node_to_trusted trusts a pending node and endorses its certificate", async () => {
    await found();
    service.write((tx) => addNode(tx, NODE, "Pending"));
    await act({
      name: "transition_node_to_trusted",
      args: { node_id: NODE, valid_from: "20260101000000Z", validity_period_days: 9 },
    });
    expect(open(service.read(), TABLES.nodeInfo).get(NODE)).toMatchObject({
      status: "Trusted",
      ledger_secret_seqno: 1,
    });
    expect(open(service.read(), TABLES.nodeCertificates).get(NODE)).toBe("endorsed csr of 2222");
    expect(service.endorsed).toEqual(["csr of 2222 from 20260101000000Z for 9"]);
    // A trusted node stays as it is.
    await act({ name: "transition_node_to_trusted", args: { node_id: NODE, valid_from: "20270101000000Z" } });
    expect(service.endorsed).toHaveLength(1);
  });

  test("transition_node_to_trusted refuses an unknown node and too long a validity", async () => {
    await found();
    service.write((tx) => addNode(tx, NODE, "Pending"));
    const args = { valid_from: "20260101000000Z" };
    await refused({ name: "transition_node_to_trusted", args: { ...args, node_id: "33".repeat(32) } }, /no such node/);
    await refused(
      { name: "transition_node_to_trusted", args: { ...args, node_id: NODE, validity_period_days: 366 } },
      /366 is more than this service allows: 365/,
    );
    await refused(
      { name: "transition_node_to_trusted", args: { ...args, node_id: NODE, validity_period_days: 0 } },
      /whole number/,
      "ProposalFailedToValidate",
    );
    expect(statusOf()).toBe("Pending");
  });

  test("remove_node forgets a pending node, retires a trusted one, keeps the last", async () => {
    await found();
    service.write((tx) => addNode(tx, NODE, "Pending"));
    await act({ name: "remove_node", args: { node_id: NODE } });
    expect(statusOf()).toBeUndefined();
    service.write((tx) => addNode(tx, NODE, "Trusted"));
    await act({ name: "remove_node", args: { node_id: NODE } });
    expect(statusOf()).toBe("Retired");
    await refused({ name: "remove_node", args: { node_id: "11".repeat(32) } }, /last trusted node/);
    await act({ name: "remove_node", args: { node_id: "33".repeat(32) } });
  });

  test("certificates are renewed for one trusted node, or for all", async () => {
    await found();
    service.write((tx) => addNode(tx, NODE, "Trusted"));
    await act({
      name: "set_node_certificate_validity",
      args: { node_id: NODE, valid_from: "2026", validity_period_days: 5 },
    });
    await act({ name: "set_all_nodes_certificate_validity", args: { valid_from: "2027" } });
    expect(service.endorsed.sort()).toEqual([
      "csr of 1111 from 2027 for 365",
      "csr of 2222 from 2026 for 5",
      "csr of 2222 from 2027 for 365",
    ]);
    await refused(
      { name: "set_node_certificate_validity", args: { node_id: "33".repeat(32), valid_from: "2026" } },
      /no such node/,
    );
  });

  test("set_node_data keeps whatever members want to note", async () => {
    await found();
    await act({ name: "set_node_data", args: { node_id: "11".repeat(32), node_data: ["rack", 4] } });
    expect(open(service.read(), TABLES.nodeInfo).get("11".repeat(32))?.node_data).toEqual(["rack", 4]);
  });

  test("code may be admitted and forbidden", async () => {
    await found();
    const hostData = "cd".repeat(32);
    await act(
      { name: "add_virtual_measurement", args: { measurement: "m2" } },
      { name: "add_virtual_host_data", args: { host_data: hostData } },
    );
    expect(open(service.read(), TABLES.virtualMeasurements).get("m2")).toBe("AllowedToJoin");
    expect(service.read().map(TABLES.virtualHostData.name).get(Buffer.from(hostData))).toEqual(new Uint8Array(8));
    const policy = await service.get("/gov/service/join-policy");
    expect(policy.body).toMatchObject({ virtual: { measurements: ["m2"], hostData: [hostData] } });
    await act(
      { name: "remove_virtual_measurement", args: { measurement: "m2" } },
      { name: "remove_virtual_host_data", args: { host_data: hostData } },
    );
    expect(open(service.read(), TABLES.virtualMeasurements).has("m2")).toBe(false);
    expect(open(service.read(), TABLES.virtualHostData).has(hostData)).toBe(false);
  });
});

describe("the service", () => {
  test("is opened with shares for its active recovery members, any `threshold` of which give the ledger secret", async () => {
    await found({ recovery: 3, threshold: 2 });
    await act({ name: "transition_service_to_open", args: { next_service_identity: SERVICE_CERTIFICATE } });
    expect(getOne(service.read(), TABLES.serviceInfo)?.status).toBe("Open");
    const ids = service.members.map(({ id }) => id).sort();
    const byId = (id: string) =>
      present(
        service.members.find((member) => member.id === id),
        "a member",
      );
    expect(sharesOf(service.members).holders).toEqual(ids);
    // Indices are given in the order of ids.
    expect(sharesOf(ids.map(byId)).shares.map(({ x }) => x)).toEqual([1, 2, 3]);
    for (const pair of [
      [0, 1],
      [1, 2],
      [2, 0],
    ])
      expect(sharesOf(pair.map((i) => byId(ids[i] as string))).unwrap(2)).toEqual(LEDGER_SECRET);
  });

  test("gives owners the whole secret", async () => {
    await found({ recovery: 2, threshold: 1 });
    const owner = first();
    service.write((tx) => open(tx, TABLES.memberInfo).set(owner.id, { status: "Active", recovery_role: "Owner" }));
    await act({ name: "transition_service_to_open", args: { next_service_identity: SERVICE_CERTIFICATE } });
    expect(sharesOf([owner]).shares.map(({ x }) => x)).toEqual([0]);
    expect(sharesOf([owner]).unwrap(1)).toEqual(LEDGER_SECRET);
  });

  test("does not open for nobody, for too few, or under another identity", async () => {
    await found();
    const open = { name: "transition_service_to_open", args: { next_service_identity: SERVICE_CERTIFICATE } };
    await refused(open, /no active member has a recovery key/);
    await refused(
      { name: "transition_service_to_open", args: { next_service_identity: newcomer.certificatePem } },
      /next_service_identity is another/,
    );
    await service.close();
    await found({ recovery: 1, threshold: 2 });
    await refused(open, /recovery threshold is 2, but with 1 active members/);
  });

  test("set_recovery_threshold issues shares anew, within what members can meet", async () => {
    await found({ recovery: 2, threshold: 1 });
    await act({ name: "transition_service_to_open", args: { next_service_identity: SERVICE_CERTIFICATE } });
    const before = sharesOf(service.members).shares;
    await act({ name: "set_recovery_threshold", args: { recovery_threshold: 2 } });
    expect(getOne(service.read(), TABLES.serviceConfig)?.recovery_threshold).toBe(2);
    expect(sharesOf(service.members).shares).not.toEqual(before);
    expect(sharesOf(service.members).unwrap(2)).toEqual(LEDGER_SECRET);
    await refused({ name: "set_recovery_threshold", args: { recovery_threshold: 3 } }, /threshold of 2 at most/);
    await refused(
      { name: "set_recovery_threshold", args: { recovery_threshold: 255 } },
      /1 to 254/,
      "ProposalFailedToValidate",
    );
  });

  test("assert_service_identity binds a proposal to this service", async () => {
    await found();
    await act({ name: "assert_service_identity", args: { service_identity: SERVICE_CERTIFICATE } });
    await refused(
      { name: "assert_service_identity", args: { service_identity: newcomer.certificatePem } },
      /not the certificate of this service/,
      "ProposalFailedToValidate",
    );
  });
});

describe("the constitution", () => {
  test("is replaced by vote, and every other open proposal is dropped", async () => {
    await found({ constitution: CONSTITUTION });
    const [alice, bob] = service.members as [TestMember, TestMember];
    const pending = (await send({ name: "set_user", args: { cert: newcomer.certificatePem } })).body as {
      proposalId: string;
    };
    const change = (await send({ name: "set_constitution", args: { constitution: PASSES_AT_ONCE } })).body as {
      proposalId: string;
    };
    await service.send(ballotCall(alice.id, change.proposalId, VOTE_FOR), alice);
    const decided = await service.send(ballotCall(bob.id, change.proposalId, VOTE_FOR), bob);
    expect(decided.body).toMatchObject({ proposalState: "Accepted" });
    expect(getOne(service.read(), TABLES.constitution)).toBe(PASSES_AT_ONCE);
    const dropped = await service.get(`/gov/members/proposals/${pending.proposalId}`);
    expect(dropped.body).toMatchObject({ proposalState: "Dropped" });
    const text = await service.get("/gov/service/constitution");
    expect(text).toMatchObject({ status: 200, text: PASSES_AT_ONCE, headers: { "content-type": "text/javascript" } });
    await act({ name: "set_user", args: { cert: newcomer.certificatePem } });
  });

  test("must have its three functions, with their parameters", async () => {
    await found();
    const whole = {
      validate: "export function validate(input) {}",
      resolve: "export function resolve(a, b, c) {}",
      apply: "export function apply(a, b) {}",
    };
    const attempt = (constitution: unknown, words: RegExp) =>
      refused({ name: "set_constitution", args: { constitution } }, words, "ProposalFailedToValidate");
    await attempt(1, /constitution must be a string/);
    await attempt("export function validate(", /SyntaxError/);
    await attempt(whole.validate + whole.resolve, /must export a function apply/);
    await attempt(whole.validate + whole.apply + "export const resolve = 1;", /must export a function resolve/);
    await attempt(
      whole.validate + whole.apply + "export function resolve(a, b) {}",
      /resolve must have 3 or 4 parameters, not 2/,
    );
    await attempt("throw new Error('no');", /no/);
    await act({ name: "set_constitution", args: { constitution: Object.values(whole).join("\n") } });
  });

  test("a service that is being recovered keeps its share holders", async () => {
    await found({ recovery: 2, threshold: 1 });
    service.write((tx) => {
      const info = present(getOne(tx, TABLES.serviceInfo), "a service");
      setOne(tx, TABLES.serviceInfo, { ...info, status: "WaitingForRecoveryShares" });
    });
    for (const action of [
      { name: "remove_member", args: { member_id: first().id } },
      { name: "set_member", args: { cert: first().certificatePem } },
      { name: "set_recovery_threshold", args: { recovery_threshold: 2 } },
      { name: "trigger_recovery_shares_refresh" },
    ])
      await refused(action, /while the service is WaitingForRecoveryShares/);
  });
});
