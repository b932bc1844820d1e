import { createPrivateKey, sign, verify, X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { VOTE_FOR } from "../../../../governance/member/ballots.ts";
import {
  ackCall,
  ballotCall,
  checkedProposalId,
  finishCall,
  type MemberCall,
  memberIdOf,
  type PreparedCall,
  prepareCall,
  proposalCall,
  proposalTextCall,
  signCall,
  stateDigestCall,
  withdrawalCall,
} from "../../../../governance/member/request.ts";
import { decodeGovernanceRequest, verifyGovernanceRequest } from "../../../../protocol/crypto/governance-request.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";
import { codeOf } from "../../protocol/codes.ts";

const member = createParticipant({ name: "member0", validFrom: new Date() });
const signer = { certificatePem: member.certificatePem, sign: member.privateKey };
const PROPOSAL = "ab".repeat(32);
const AT = 1_790_000_000;

const calls: [string, MemberCall, string, string][] = [
  [
    "proposal",
    proposalCall([{ name: "x", args: { a: 1 } }]),
    "/gov/members/proposals:create",
    '{"actions":[{"name":"x","args":{"a":1}}]}',
  ],
  ["proposal", proposalTextCall('{ "actions" : [] }'), "/gov/members/proposals:create", '{ "actions" : [] }'],
  [
    "ballot",
    ballotCall(member.id, PROPOSAL, VOTE_FOR),
    `/gov/members/proposals/${PROPOSAL}/ballots/${member.id}:submit`,
    JSON.stringify({ ballot: VOTE_FOR }),
  ],
  ["withdrawal", withdrawalCall(PROPOSAL), `/gov/members/proposals/${PROPOSAL}:withdraw`, ""],
  ["state_digest", stateDigestCall(member.id), `/gov/members/state-digests/${member.id}:update`, ""],
  ["ack", ackCall(member.id, "cd"), `/gov/members/state-digests/${member.id}:ack`, '{"stateDigest":"cd"}'],
];

test.each(calls)("%s is signed for its path, with its payload", async (type, call, path, payload) => {
  const signed = await signCall(call, signer, AT);
  expect(signed.path).toBe(`${path}?api-version=2024-07-01`);
  const request = decodeGovernanceRequest(signed.body);
  expect(request).toMatchObject({ type, kid: memberIdOf(signer), createdAt: AT, alg: -35 });
  expect(Buffer.from(request.payload).toString()).toBe(payload);
  expect(request.proposalId).toBe(path.includes(PROPOSAL) ? PROPOSAL : undefined);
  expect(await verifyGovernanceRequest(request, new X509Certificate(member.certificatePem).publicKey)).toBe(true);
});

describe("a key that lies elsewhere", () => {
  test("signs bytes in a file, and the request is the same", async () => {
    const prepared = JSON.parse(
      JSON.stringify(prepareCall(proposalCall([]), member.certificatePem, AT)),
    ) as PreparedCall;
    const bytes = Buffer.from(prepared.to_be_signed, "base64");
    // What a vault does: it signs bytes with the key of its own.
    const signature = sign("sha384", bytes, { key: createPrivateKey(member.privateKeyPem), dsaEncoding: "ieee-p1363" });
    expect(signature).toHaveLength(prepared.signature_bytes);
    const { path, body } = finishCall(prepared, signature);
    const request = decodeGovernanceRequest(body);
    expect(path).toBe(proposalCall([]).path);
    expect(request.toBeSigned.equals(bytes)).toBe(true);
    const key = { key: new X509Certificate(member.certificatePem).publicKey, dsaEncoding: "ieee-p1363" } as const;
    expect(verify("sha384", request.toBeSigned, key, request.signature)).toBe(true);
  });

  test("must give r and s, not DER", () => {
    const prepared = prepareCall(proposalCall([]), member.certificatePem, AT);
    expect(codeOf(() => finishCall(prepared, Buffer.alloc(70)))).toBe("GovernanceSignerMismatch");
  });

  test.each([
    {},
    { path: 1 },
    { path: "x", to_be_signed: "", protected: "", payload: "", algorithm: -8, signature_bytes: 96 },
  ])("a file that is no prepared request is refused: %j", (file) => {
    expect(codeOf(() => finishCall(file as PreparedCall, Buffer.alloc(96)))).toBe("PreparedCallMalformed");
  });
});

test("a proposal id is 64 hex digits", () => {
  expect(checkedProposalId(PROPOSAL.toUpperCase())).toBe(PROPOSAL);
  for (const wrong of ["", "ab", `${PROPOSAL}0`, `${PROPOSAL.slice(1)}g`, `${PROPOSAL}/../x`])
    expect(codeOf(() => withdrawalCall(wrong))).toBe("ProposalIdMalformed");
});
