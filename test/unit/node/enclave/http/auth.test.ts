import { type KeyObject, sign } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import {
  activeMemberCose,
  anyCert,
  memberCert,
  memberCose,
  noAuth,
  nodeCert,
  userCert,
} from "../../../../../node/enclave/http/auth.ts";
import {
  type AuthPolicy,
  type AuthResult,
  HttpError,
  type Request,
} from "../../../../../node/enclave/http/endpoint.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { encodeGovernanceRequest } from "../../../../../protocol/crypto/governance-request.ts";
import { spkiDigest } from "../../../../../protocol/crypto/keys.ts";
import { pemToDer } from "../../../../../protocol/crypto/pem.ts";
import { type Person, person } from "./client.ts";
import { FakeService } from "./fake-service.ts";
import { bodyOf, RECORDED_MEMBER, recorded } from "./recorded.ts";

const DAY_MS = 86_400_000;
const user = person("user0");
const member = person("member0");
const stranger = person("stranger");
const service = new FakeService();
service.put(TABLES.userCerts, user.id, user.certificate);
service.put(TABLES.memberCerts, member.id, member.certificate);
service.put(TABLES.memberInfo, member.id, { status: "Active" });
service.put(TABLES.memberCerts, RECORDED_MEMBER.memberId, RECORDED_MEMBER.certificate);
service.put(TABLES.memberInfo, RECORDED_MEMBER.memberId, { status: "Active" });

function ask(policy: AuthPolicy, who: Person | undefined, more: Partial<Request> = {}): AuthResult {
  const clientCertificate = who && pemToDer(who.certificate);
  const session = { id: 1, interface: "x", clientCertificate, exportKey: () => new Uint8Array() };
  const request = { headers: {}, body: new Uint8Array(), session, ...more } as unknown as Request;
  return policy.authenticate(request, service.begin());
}

describe("by client certificate", () => {
  test("a user is known by the digest of the certificate", () => {
    expect(ask(userCert, user)).toMatchObject({ caller: { policy: "user_cert", userId: user.id } });
    expect(ask(userCert, undefined)).toEqual({ refused: "No caller user certificate" });
    expect(ask(userCert, stranger)).toEqual({ refused: "Could not find matching user certificate" });
    expect(ask(userCert, member)).toEqual({ refused: "Could not find matching user certificate" });
  });

  test("a removed user is nobody at once, on the same session too", () => {
    const removed = person("removed");
    service.put(TABLES.userCerts, removed.id, removed.certificate);
    const der = pemToDer(removed.certificate);
    const session = { id: 1, interface: "x", clientCertificate: der, exportKey: () => new Uint8Array() };
    const again = () => userCert.authenticate({ headers: {}, session } as unknown as Request, service.begin());
    expect(again()).toHaveProperty("caller");
    const tx = service.begin();
    tx.map(TABLES.userCerts.name).delete(Buffer.from(removed.id));
    service.commit(tx);
    expect(again()).toEqual({ refused: "Could not find matching user certificate" });
  });

  test("a user's certificate counts only within its dates", () => {
    const old = person("old", new Date(Date.now() - 2 * DAY_MS), 1);
    const early = person("early", new Date(Date.now() + DAY_MS), 1);
    for (const { id, certificate } of [old, early]) service.put(TABLES.userCerts, id, certificate);
    expect(ask(userCert, old)).toEqual({
      refused: expect.stringMatching(/is after certificate's Not After validity period \d+$/),
    });
    expect(ask(userCert, early)).toEqual({
      refused: expect.stringMatching(/is before certificate's Not Before validity period \d+$/),
    });

    const short = person("short");
    service.put(TABLES.userCerts, short.id, short.certificate);
    expect(ask(userCert, short)).toHaveProperty("caller");
    vi.useFakeTimers({ now: Date.now() + 31 * DAY_MS });
    expect(ask(userCert, short)).toHaveProperty("refused");
    vi.useRealTimers();
  });

  test("a member is, whatever the dates", () => {
    const old = person("old", new Date(Date.now() - 2 * DAY_MS), 1);
    service.put(TABLES.memberCerts, old.id, old.certificate);
    expect(ask(memberCert, old)).toMatchObject({ caller: { policy: "member_cert", memberId: old.id } });
    expect(ask(memberCert, user)).toEqual({ refused: "Could not find matching member certificate" });
    expect(ask(memberCert, undefined)).toEqual({ refused: "No caller member certificate" });
  });

  test("a node is known by its key, so by any certificate of it", () => {
    const node = person("node");
    const nodeId = spkiDigest(node.key);
    expect(ask(nodeCert, node)).toEqual({ refused: "Could not find matching node certificate" });
    service.put(TABLES.nodeInfo, nodeId, {} as never);
    expect(ask(nodeCert, node)).toEqual({ caller: { policy: "node_cert", nodeId } });
    expect(ask(nodeCert, undefined)).toEqual({ refused: "No caller node certificate" });
  });

  test("anyone with a certificate is someone, and everyone is anyone", () => {
    expect(ask(anyCert, stranger)).toMatchObject({ caller: { policy: "any_cert" } });
    expect(ask(anyCert, undefined)).toEqual({ refused: "No caller certificate" });
    expect(ask(noAuth, undefined)).toEqual({ caller: { policy: "no_auth" } });
  });
});

describe("by signed request", () => {
  const COSE = { "content-type": "application/cose" };
  const parts = { type: "ballot", createdAt: 1_700_000_000, payload: Buffer.from('{"ballot":""}') } as const;

  async function signed(
    who: Person,
    more: Partial<Parameters<typeof encodeGovernanceRequest>[0]> = {},
  ): Promise<Buffer> {
    return encodeGovernanceRequest({ ...parts, memberCertificatePem: who.certificate, sign: who.key, ...more });
  }

  test("the caller and what was signed come from the envelope", async () => {
    const body = await signed(member, { proposalId: "ab".repeat(32) });
    const result = ask(activeMemberCose("ballot"), undefined, { headers: COSE, body });
    expect(result).toMatchObject({
      caller: {
        policy: "active_member_cose_sign1",
        memberId: member.id,
        envelope: body,
        payload: parts.payload,
        createdAt: parts.createdAt,
        proposalId: "ab".repeat(32),
      },
    });
    expect(ask(memberCose("ballot"), undefined, { headers: COSE, body })).toMatchObject({
      caller: { policy: "member_cose_sign1" },
    });
  });

  test("CCF's own signer is understood", () => {
    const { memberId } = RECORDED_MEMBER;
    const proposal = bodyOf(recorded("gov: proposal accepted as Open"));
    const result = ask(activeMemberCose("proposal"), undefined, { headers: COSE, body: proposal! });
    expect(result).toMatchObject({ caller: { memberId, payload: expect.anything(), proposalId: undefined } });
  });

  test.each([
    ["gov: bad COSE, signature altered"],
    ["gov: bad COSE, message type missing"],
    ["gov: bad COSE, wrong message type"],
    ["gov: COSE signed by a stranger"],
    ["gov: JSON instead of COSE"],
    ["gov: JSON content type, COSE body"],
  ])("%s: refused in CCF's words", (what) => {
    const answer = recorded(what);
    const { details } = (answer.body as { error: { details: { message: string }[] } }).error;
    const headers = { "content-type": answer.request.content_type };
    expect(ask(activeMemberCose("proposal"), undefined, { headers, body: bodyOf(answer)! })).toEqual({
      refused: details[0]?.message,
    });
    expect(activeMemberCose("proposal").wwwAuthenticate).toBe(answer.headers["www-authenticate"]);
  });

  test.each(["gov: bad COSE, garbage bytes", "gov: bad COSE, no body", "gov: bad COSE, created_at missing"])(
    "%s: the client's mistake, where CCF fails internally",
    (what) => {
      const answer = recorded(what);
      expect(answer.status).toBe(500);
      const refused = attempt(() =>
        ask(activeMemberCose("proposal"), undefined, { headers: COSE, body: bodyOf(answer)! }),
      );
      expect(refused).toBeInstanceOf(HttpError);
      expect(refused).toMatchObject({ status: 400, code: "InvalidInput" });
    },
  );

  test("a member who is not active may only do what any member may", async () => {
    const accepted = person("accepted");
    service.put(TABLES.memberCerts, accepted.id, accepted.certificate);
    const request = { headers: COSE, body: await signed(accepted) };
    const refused = { refused: "Signer is not an ACTIVE member" };
    expect(ask(activeMemberCose("ballot"), undefined, request)).toEqual(refused);
    service.put(TABLES.memberInfo, accepted.id, { status: "Accepted" });
    expect(ask(activeMemberCose("ballot"), undefined, request)).toEqual(refused);
    expect(ask(memberCose("ballot"), undefined, request)).toHaveProperty("caller");
  });

  test("somebody else's signature under a member's name is refused", async () => {
    const body = await signed(member, { sign: (bytes) => signWith(stranger.key, bytes) });
    expect(ask(memberCose("ballot"), undefined, { headers: COSE, body })).toEqual({
      refused: "Failed to validate COSE Sign1",
    });
  });

  test("a member whose key signs no COSE is refused, not an error", async () => {
    const other = new FakeService();
    other.put(TABLES.memberCerts, member.id, ED25519_CERTIFICATE);
    const request = { headers: COSE, body: await signed(member), session: {} } as unknown as Request;
    expect(memberCose("ballot").authenticate(request, other.begin())).toEqual({
      refused: "Failed to validate COSE Sign1",
    });
  });

  test("the content type is taken to the letter", async () => {
    const body = await signed(member);
    for (const type of ["application/cose; charset=utf-8", "Application/COSE", "application/json"])
      expect(ask(memberCose("ballot"), undefined, { headers: { "content-type": type }, body })).toEqual({
        refused: "Content type is not set to application/cose",
      });
    expect(ask(memberCose("ballot"), undefined, { body })).toEqual({ refused: "Missing content-type header" });
  });

  test("no single changed byte of a signed request passes", async () => {
    const body = await signed(member);
    for (let at = 0; at < body.length; at++) {
      const changed = Buffer.from(body);
      changed[at]! ^= 0x01;
      const result = attempt(() => ask(memberCose("ballot"), undefined, { headers: COSE, body: changed }));
      expect(result, `byte ${at}`).not.toHaveProperty("caller");
    }
  });
});

const ED25519_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBODCB66ADAgECAhRvyI4hvdYR/PpdVZi296pXPS+OHjAFBgMrZXAwETEPMA0G
A1UEAwwGbWVtYmVyMCAXDTI2MTEyNTAyMzY1OFoYDzIxMjYxMTAxMDIzNjU4WjAR
MQ8wDQYDVQQDDAZtZW1iZXIwKjAFBgMrZXADIQA7yJmkfro/U4UV6EEADUqk6wMg
yGuYvXLXQjIWqCOoW6NTMFEwHQYDVR0OBBYEFLjuQioELzitxQ0ccnYcscQmpEDt
MB8GA1UdIwQYMBaAFLjuQioELzitxQ0ccnYcscQmpEDtMA8GA1UdEwEB/wQFMAMB
Af8wBQYDK2VwA0EABXv1If3tItzpSkVOTT7xWxW354uAQsgHqY6AiIAoOUkgb9Ec
L4RFdlnXe+9gm1iocA+sxrd5p2430tbzM03yAA==
-----END CERTIFICATE-----
`;

function attempt(act: () => AuthResult): unknown {
  try {
    return act();
  } catch (error) {
    if (error instanceof HttpError) return error;
    throw error;
  }
}

async function signWith(key: KeyObject, bytes: Buffer): Promise<Uint8Array> {
  return sign("sha256", bytes, { key, dsaEncoding: "ieee-p1363" });
}
