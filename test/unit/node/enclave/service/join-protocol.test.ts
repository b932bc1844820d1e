import { describe, expect, test } from "vitest";
import { checkJoinPolicy, checkOwnPolicy } from "../../../../../node/enclave/service/join-policy.ts";
import type { JoinRequest, JoinSession } from "../../../../../node/enclave/service/join-protocol.ts";
import {
  checkJoinRequest,
  checkJoinResponse,
  JOIN_REQUEST_BYTES_MAX,
  makeJoinRequest,
  makeJoinResponse,
  parseJoinRequest,
} from "../../../../../node/enclave/service/join-protocol.ts";
import type { Platform } from "../../../../../protocol/attestation/evidence.ts";
import { encodeEvidence } from "../../../../../protocol/attestation/quote-info.ts";
import { CHANNEL_PURPOSE, sessionReportData } from "../../../../../protocol/attestation/report-data.ts";
import { Fault } from "../../../../../protocol/check.ts";
import { makeNode, makeService } from "../../../network/enclave/identities.ts";
import {
  claims,
  content,
  debugBuild,
  decided,
  genuine,
  joiner,
  otherBuild,
  otherHost,
  pending,
  platforms,
  responder,
  service,
  trustedAnswer,
} from "./joiners.ts";

const exporter = Buffer.alloc(32, 7);
const asJoiner: JoinSession = { exporter, publicKey: joiner.publicKey };
const asResponder: JoinSession = { exporter, publicKey: responder.publicKey };
const members = (): ((claims: Parameters<typeof checkJoinPolicy>[1]) => void) => {
  const tx = decided();
  return (judged) => checkJoinPolicy(tx, judged);
};
const own = (judged: typeof claims) => checkOwnPolicy([], claims, judged);
const pinned = { serviceCertificate: service.certificate, ownPublicKey: joiner.publicKey };
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));

async function outcome(act: Promise<unknown>): Promise<string> {
  try {
    await act;
    return "accepted";
  } catch (error) {
    return error instanceof Fault ? error.detail.code : String(error);
  }
}

describe("a join request", () => {
  const request = (platform: Platform, session = asJoiner) => makeJoinRequest(content, platform, session);
  const judge = (made: JoinRequest, session = asJoiner) =>
    outcome((async () => checkJoinRequest(parseJoinRequest(bytes(made)), session, members()))());

  test("of a genuine joiner is accepted and names it", async () => {
    const parsed = parseJoinRequest(bytes(await request(genuine)));
    const checked = await checkJoinRequest(parsed, asJoiner, members());
    expect(checked.nodeId).toBe(joiner.id);
    expect(checked.claims.measurement).toBe(claims.measurement);
    expect(parsed.node_data).toEqual({ owner: "somebody" });
  });

  test.each([
    ["with another measurement", otherBuild, "FailedMeasurementNotFound"],
    ["with other host data", otherHost, "FailedHostDataDigestNotFound"],
    ["of a debug build", debugBuild, "FailedDebugEnclave"],
    [
      "with a debug build's quote, but a genuine one in this session",
      platforms(debugBuild, genuine),
      "FailedDebugEnclave",
    ],
    [
      "with a genuine quote, but another enclave in this session",
      platforms(genuine, otherBuild),
      "FailedMeasurementNotFound",
    ],
  ])("%s is refused", async (_name, platform, code) => {
    expect(await judge(await request(platform))).toBe(code);
  });

  test("whose quote and session evidence are of different accepted enclaves is refused", async () => {
    const made = await request(platforms(genuine, otherBuild));
    expect(await outcome(checkJoinRequest(made, asJoiner, () => undefined))).toBe("FailedSessionBinding");
  });

  test("for another key than the connection's is refused", async () => {
    const other = { exporter, publicKey: makeNode().publicKey };
    expect(await judge(await request(genuine), other)).toBe("FailedInvalidQuotedPublicKey");
  });

  test("replayed on another connection is refused", async () => {
    const later = { ...asJoiner, exporter: Buffer.alloc(32, 8) };
    expect(await judge(await request(genuine), later)).toBe("FailedSessionBinding");
  });

  test("with the responder's session evidence, or a channel's, is refused", async () => {
    const made = await request(genuine);
    const back = await makeJoinResponse(pending, genuine, asJoiner);
    expect(await judge({ ...made, camerata: back.camerata })).toBe("FailedSessionBinding");
    const quote = await genuine.evidence(sessionReportData(CHANNEL_PURPOSE, { role: "initiator", ...asJoiner }));
    const channel = Buffer.from(encodeEvidence(quote)).toString("base64");
    expect(await judge({ ...made, camerata: { session_evidence: channel } })).toBe("FailedSessionBinding");
    expect(await judge({ ...made, camerata: { session_evidence: "%%" } })).toBe("Failed");
  });

  test("of CCF's joiner, without session evidence, is malformed and says where", async () => {
    const { camerata: _, ...ccf } = await request(genuine);
    expect(() => parseJoinRequest(bytes(ccf))).toThrow(/join request is wrong at its top: .*required/);
  });

  test.each([
    ["an unknown member", { extra: 1 }],
    ["no certificate request", { certificate_signing_request: undefined }],
    ["a negative startup seqno", { startup_seqno: -1 }],
    ["an interface without an address", { node_info_network: { node_to_node_interface: {}, rpc_interfaces: {} } }],
    ["an unknown ledger sign mode", { ledger_sign_mode: "None" }],
  ])("with %s is malformed", async (_name, more) => {
    const made = { ...(await request(genuine)), ...more };
    expect(await judge(made as JoinRequest)).toBe("JoinRequestMalformed");
  });

  test.each([
    ["no JSON", Buffer.from("{")],
    ["no UTF-8", Buffer.from([0xff])],
    ["nothing", Buffer.alloc(0)],
    ["too much", Buffer.alloc(JOIN_REQUEST_BYTES_MAX + 1, 32)],
  ])("that is %s is malformed", (_name, body) => {
    expect(() => parseJoinRequest(body)).toThrow(Fault);
  });
});

describe("the answer", () => {
  const answer = (value = trustedAnswer() as Parameters<typeof makeJoinResponse>[0], platform = genuine) =>
    makeJoinResponse(value, platform, asResponder);
  const judge = async (made: unknown, session = asResponder) =>
    outcome(checkJoinResponse(bytes(made), session, own, pinned));

  test("to a trusted node and to a pending one is accepted", async () => {
    const made = await checkJoinResponse(bytes(await answer()), asResponder, own, pinned);
    expect(made.network_info?.ledger_secrets).toHaveLength(1);
    expect(await judge(await answer(pending))).toBe("accepted");
  });

  test.each([
    ["of a node with another measurement", otherBuild, "FailedMeasurementNotFound"],
    ["of a debug build", debugBuild, "FailedDebugEnclave"],
    ["of a node on another host", otherHost, "accepted"],
  ])("%s is judged by the joiner's own policy", async (_name, platform, code) => {
    expect(await judge(await answer(trustedAnswer(), platform))).toBe(code);
  });

  test("replayed from another connection, or of another key, is refused", async () => {
    const made = await answer();
    expect(await judge(made, { ...asResponder, exporter: Buffer.alloc(32, 8) })).toBe("FailedSessionBinding");
    expect(await judge(made, { exporter, publicKey: makeNode().publicKey })).toBe("FailedSessionBinding");
  });

  test("that sends the joiner's own evidence back is refused", async () => {
    const request = await makeJoinRequest(content, genuine, asResponder);
    expect(await judge({ ...trustedAnswer(), camerata: request.camerata })).toBe("FailedSessionBinding");
  });

  test("without evidence, as CCF gives it, is malformed: the service certificate alone is not enough", async () => {
    expect(await judge(trustedAnswer())).toBe("JoinResponseMalformed");
  });

  test("is not looked into before its evidence is accepted", async () => {
    const other = makeService();
    expect(await judge(await answer(trustedAnswer({ service: other }), otherBuild))).toBe("FailedMeasurementNotFound");
  });

  test("with the identity of another service, or another key for this one, is refused", async () => {
    const other = makeService();
    expect(await judge(await answer(trustedAnswer({ service: other })))).toBe("ServiceIdentityMismatch");
    expect(await judge(await answer(trustedAnswer({ privateKey: other.privateKey })))).toBe("ServiceIdentityMismatch");
    const mixed = trustedAnswer({ service: other, privateKey: service.privateKey });
    expect(await judge(await answer(mixed))).toBe("ServiceIdentityMismatch");
  });

  test("with a certificate for another node, or about another node, is malformed", async () => {
    expect(await judge(await answer(trustedAnswer({ endorsed: makeNode().certificate })))).toBe(
      "JoinResponseMalformed",
    );
    expect(await judge(await answer({ ...trustedAnswer(), node_id: makeNode().id }))).toBe("JoinResponseMalformed");
  });

  test("with secrets for a pending node, or none for a trusted one, is malformed", async () => {
    const { network_info: _, ...none } = trustedAnswer();
    expect(await judge(await answer({ ...trustedAnswer(), node_status: "Pending" }))).toBe("JoinResponseMalformed");
    expect(await judge(await answer(none))).toBe("JoinResponseMalformed");
  });

  test("with a key that cannot be read is malformed, and nothing of it is in the message", async () => {
    const made = await answer(
      trustedAnswer({ privateKey: "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----" }),
    );
    const error = await checkJoinResponse(bytes(made), asResponder, own, pinned).catch((caught: Error) => caught);
    expect(String(error)).toMatch(/cannot be read/);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toMatch(/c2VjcmV0/);
  });
});
