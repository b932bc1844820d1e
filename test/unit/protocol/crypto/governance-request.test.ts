import { createHash, type KeyObject, sign, X509Certificate } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../../../../protocol/bytes.ts";
import { type Cbor, type CborKey, encodeCbor } from "../../../../protocol/crypto/cbor.ts";
import { decodeSign1, encodeSign1, signSign1 } from "../../../../protocol/crypto/cose.ts";
import {
  decodeGovernanceRequest,
  encodeGovernanceRequest,
  finishGovernanceRequest,
  GOVERNANCE_MESSAGE_TYPES,
  prepareGovernanceRequest,
  verifyGovernanceRequest,
} from "../../../../protocol/crypto/governance-request.ts";
import { generateEcKey } from "../../../../protocol/crypto/keys.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";
import { codeOf, codeOfAsync } from "../codes.ts";

const validFrom = new Date("2026-01-01T00:00:00Z");
const member = createParticipant({ name: "member0", validFrom });
const publicKey = generateEcKey("P-384").publicKey;
const parts = {
  type: "ballot",
  createdAt: 1767225600,
  proposalId: "ab".repeat(32),
  payload: utf8('{"ballot":"export function vote () { return true }"}'),
  memberCertificatePem: member.certificatePem,
} as const;

describe.each(["P-384", "P-256"] as const)("a request signed on %s", (curve) => {
  const signer = createParticipant({ name: "member1", validFrom, curve });
  const own = { ...parts, memberCertificatePem: signer.certificatePem };

  test("is read as it was meant and verifies with the member's key", async () => {
    const request = decodeGovernanceRequest(await encodeGovernanceRequest({ ...own, sign: signer.privateKey }));
    expect(request).toMatchObject({
      alg: curve === "P-384" ? -35 : -7,
      kid: signer.id,
      type: "ballot",
      createdAt: parts.createdAt,
      proposalId: parts.proposalId,
    });
    expect(Buffer.from(request.payload)).toEqual(parts.payload);
    expect(await verifyGovernanceRequest(request, signerPublic(signer.certificatePem))).toBe(true);
    expect(await verifyGovernanceRequest(request, publicKey)).toBe(false);
  });

  test("can be signed elsewhere, in two steps", async () => {
    const prepared = prepareGovernanceRequest(own);
    const hash = curve === "P-384" ? "sha384" : "sha256";
    const signature = sign(hash, prepared.toBeSigned, { key: signer.privateKey, dsaEncoding: "ieee-p1363" });
    const request = decodeGovernanceRequest(finishGovernanceRequest(prepared, signature));
    expect(await verifyGovernanceRequest(request, signerPublic(signer.certificatePem))).toBe(true);
    expect(request.toBeSigned).toEqual(prepared.toBeSigned);

    const inVault = await encodeGovernanceRequest({ ...own, sign: async () => signature });
    expect(inVault).toEqual(finishGovernanceRequest(prepared, signature));
    const der = sign(hash, prepared.toBeSigned, signer.privateKey);
    expect(codeOf(() => finishGovernanceRequest(prepared, der))).toBe("GovernanceSignerMismatch");
  });
});

function signerPublic(pem: string): KeyObject {
  return new X509Certificate(pem).publicKey;
}

test("the protected header is CCF's: kid as text bytes, text labels, in CCF's order", () => {
  const { protectedBytes } = prepareGovernanceRequest(parts);
  const kid = createHash("sha256").update(
    Buffer.from(member.certificatePem.split("\n").slice(1, -2).join(""), "base64"),
  );
  const expected =
    `a5013822045840${Buffer.from(kid.digest("hex")).toString("hex")}` +
    `70${Buffer.from("ccf.gov.msg.type").toString("hex")}66${Buffer.from("ballot").toString("hex")}` +
    `76${Buffer.from("ccf.gov.msg.created_at").toString("hex")}1a6955b900` +
    `77${Buffer.from("ccf.gov.msg.proposal_id").toString("hex")}7840${Buffer.from(parts.proposalId).toString("hex")}`;
  expect(protectedBytes.toString("hex")).toBe(expected);
});

test("every type of message goes there and back, with an empty body too", async () => {
  for (const type of GOVERNANCE_MESSAGE_TYPES) {
    const { proposalId: _, ...rest } = parts;
    const bytes = await encodeGovernanceRequest({ ...rest, type, payload: Buffer.alloc(0), sign: member.privateKey });
    const request = decodeGovernanceRequest(bytes);
    expect(request.type).toBe(type);
    expect(request.payload.length).toBe(0);
    expect(request.proposalId).toBeUndefined();
  }
});

test("a key that is not that of the certificate is noticed before anything is sent", async () => {
  const other = generateEcKey("P-384").privateKey;
  expect(await codeOfAsync(() => encodeGovernanceRequest({ ...parts, sign: other }))).toBe("GovernanceSignerMismatch");
  expect(codeOf(() => prepareGovernanceRequest({ ...parts, memberCertificatePem: "no certificate" }))).toBe(
    "GovernanceSignerMismatch",
  );
});

describe("refused with a reason:", () => {
  const good = new Map<CborKey, Cbor>([
    [4, utf8(member.id)],
    ["ccf.gov.msg.type", "proposal"],
    ["ccf.gov.msg.created_at", 1],
  ]);
  const request = async (change: readonly [CborKey, Cbor | undefined]) => {
    const headers = new Map(good);
    const [label, value] = change;
    if (value === undefined) headers.delete(label);
    else headers.set(label, value);
    return signSign1({ key: member.privateKey, headers, payload: Buffer.alloc(0) });
  };

  test("(the unchanged one is accepted, whatever else it says)", async () => {
    const bytes = await request(["extra", 1]);
    expect(codeOf(() => decodeGovernanceRequest(bytes))).toBe("accepted");
  });

  test.each<[string, readonly [CborKey, Cbor | undefined], RegExp]>([
    ["no kid", [4, undefined], /kid/],
    ["a kid as text", [4, member.id], /kid/],
    ["a kid of raw bytes", [4, Buffer.alloc(32)], /64 lower-case hex/],
    ["a kid in upper case", [4, utf8(member.id.toUpperCase())], /64 lower-case hex/],
    ["no type", ["ccf.gov.msg.type", undefined], /ccf.gov.msg.type/],
    ["a type that is a number", ["ccf.gov.msg.type", 3], /ccf.gov.msg.type/],
    ["no time", ["ccf.gov.msg.created_at", undefined], /created_at/],
    ["a negative time", ["ccf.gov.msg.created_at", -1], /created_at/],
    ["a time as text", ["ccf.gov.msg.created_at", "2026-01-01"], /created_at/],
    ["a proposal id that is bytes", ["ccf.gov.msg.proposal_id", utf8("ab")], /proposal_id/],
    ["a proposal id without end", ["ccf.gov.msg.proposal_id", "a".repeat(300)], /proposal_id/],
    ["an unknown algorithm", [1, -8], /-8 is not allowed/],
    ["an algorithm as text", [1, "ES384"], /algorithm/],
  ])("%s", async (_, change, reason) => {
    const bytes = await request(change);
    expect(() => decodeGovernanceRequest(bytes)).toThrow(reason);
    expect(codeOf(() => decodeGovernanceRequest(bytes))).toMatch(/^Governance/);
  });

  test("a detached payload, no tag, no CBOR, nothing", async () => {
    const message = decodeSign1(await request(["extra", 1]));
    expect(() => decodeGovernanceRequest(encodeSign1({ ...message, payload: null }))).toThrow(/detached/);
    const untagged = encodeCbor([message.protectedBytes, new Map(), message.payload, message.signature]);
    expect(() => decodeGovernanceRequest(untagged)).toThrow(/tag 18/);
    expect(() => decodeGovernanceRequest(utf8('{"actions":[]}'))).toThrow(/CBOR/);
    expect(() => decodeGovernanceRequest(Buffer.alloc(0))).toThrow(/CBOR/);
  });

  test("noise, always as a fault", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
        expect(codeOf(() => decodeGovernanceRequest(noise))).toMatch(/^Governance/);
      }),
    );
  });
});

test("a changed byte anywhere leaves nothing that verifies", async () => {
  const bytes = await encodeGovernanceRequest({ ...parts, sign: member.privateKey });
  const key = signerPublic(member.certificatePem);
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 0x01;
    let verified = false;
    try {
      verified = await verifyGovernanceRequest(decodeGovernanceRequest(changed), key);
    } catch (error) {
      expect(String(error)).toContain("Fault");
    }
    expect(verified, `byte ${at}`).toBe(false);
  }
});
