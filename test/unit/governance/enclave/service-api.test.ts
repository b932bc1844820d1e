/** Reading the service, field by field as a running CCF 7.0.2 answered. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { open } from "../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../node/enclave/kv/tables.ts";
import { present } from "../../../../protocol/check.ts";
import { generateEcKey, spkiDer } from "../../../../protocol/crypto/keys.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";
import { CONSTITUTION, Consortium, errorOf, SERVICE_CERTIFICATE, type TestMember } from "../consortium.ts";

let service: Consortium;
let alice: TestMember;
const user = createParticipant({ name: "user", validFrom: new Date() });
const NODE = "11".repeat(32);

beforeAll(async () => {
  service = await Consortium.found({ members: 2, recovery: 1 });
  alice = present(service.members[0], "a member");
  service.write((tx) => {
    open(tx, TABLES.userCerts).set(user.id, user.certificatePem);
    open(tx, TABLES.nodeCertificates).set(NODE, "node certificate");
  });
});
afterAll(() => service.close());

const body = async (path: string) => (await service.get(path)).body;
const keysOf = (value: unknown) => Object.keys(value as object).sort();

test("the constitution, as text", async () => {
  const answer = await service.get("/gov/service/constitution");
  expect(answer).toMatchObject({ status: 200, text: CONSTITUTION, headers: { "content-type": "text/javascript" } });
});

test("the service and its configuration", async () => {
  expect(await body("/gov/service/info")).toEqual({
    certificate: SERVICE_CERTIFICATE,
    configuration: {
      maximumNodeCertificateValidityDays: 365,
      maximumServiceCertificateValidityDays: 365,
      recentCoseProposalsWindowSize: 100,
      recoveryThreshold: 1,
    },
    creationTransactionId: "2.1",
    recoveryCount: 0,
    serviceData: null,
    status: "Opening",
  });
  expect(await service.get("/gov/service/info?api-version=2023-06-01-preview")).toMatchObject({ status: 200 });
});

test("members, with and without a recovery key", async () => {
  const { value } = (await body("/gov/service/members")) as { value: { memberId: string }[] };
  expect(value.map(({ memberId }) => memberId)).toEqual(service.members.map(({ id }) => id).sort());
  expect(await body(`/gov/service/members/${alice.id}`)).toEqual({
    certificate: alice.certificatePem,
    memberData: null,
    memberId: alice.id,
    publicEncryptionKey: alice.encryption?.publicKeyPem,
    recoveryRole: "Participant",
    status: "Active",
  });
  const other = present(service.members[1], "a member");
  expect(keysOf(await body(`/gov/service/members/${other.id}`))).toEqual([
    "certificate",
    "memberData",
    "memberId",
    "status",
  ]);
  expect(await service.get(`/gov/service/members/${alice.id.toUpperCase()}`)).toMatchObject({ status: 200 });
});

test("users: the data is the stored record", async () => {
  expect(await body(`/gov/service/users/${user.id}`)).toEqual({
    certificate: user.certificatePem,
    userData: null,
    userId: user.id,
  });
  service.write((tx) => open(tx, TABLES.userInfo).set(user.id, { user_data: { isAdmin: true } }));
  expect(await body("/gov/service/users")).toEqual({
    value: [{ certificate: user.certificatePem, userData: { user_data: { isAdmin: true } }, userId: user.id }],
  });
});

test("nodes, with what their evidence says", async () => {
  const node = {
    certificate: "node certificate",
    nodeData: null,
    nodeId: NODE,
    quoteInfo: {
      details: { hostData: "00".repeat(32), measurement: "m", reportData: Buffer.alloc(32).toString("base64") },
      format: "Insecure_Virtual",
      rawQuote: expect.any(String) as string,
    },
    retiredCommitted: false,
    rpcInterfaces: { primary_rpc_interface: { publishedAddress: "127.0.0.1:8000" } },
    status: "Trusted",
  };
  expect(await body("/gov/service/nodes")).toEqual({ value: [node] });
  expect(await body(`/gov/service/nodes/${NODE}`)).toEqual(node);
});

test("the join policy", async () => {
  service.write((tx) => open(tx, TABLES.virtualMeasurements).set("m", "AllowedToJoin"));
  expect(await body("/gov/service/join-policy")).toEqual({
    sgx: { measurements: [] },
    snp: { hostData: {}, measurements: [], tcbVersions: {}, uvmEndorsements: {} },
    virtual: { hostData: [], measurements: ["m"] },
  });
});

test("token issuers and keys, empty and as a constitution may have set them", async () => {
  expect(await body("/gov/service/jwk")).toEqual({ caCertBundles: {}, issuers: {}, keys: {} });
  const publicKey = generateEcKey("P-256").publicKey;
  const url = "https://issuer.example";
  service.write((tx) => {
    open(tx, TABLES.caCertBundles).set("bundle", "pem");
    open(tx, TABLES.jwtIssuers).set(url, { auto_refresh: true, ca_cert_bundle_name: "bundle" });
    open(tx, TABLES.jwtKeys).set("kid", [{ public_key: spkiDer(publicKey).toString("base64"), issuer: url }]);
  });
  expect(await body("/gov/service/jwk")).toEqual({
    caCertBundles: { bundle: "pem" },
    issuers: { [url]: { autoRefresh: true, caCertBundleName: "bundle" } },
    keys: { kid: [{ publicKey: publicKey.export({ type: "spki", format: "pem" }), issuer: url, constraint: null }] },
  });
});

test("transactions", async () => {
  expect(await body("/gov/service/transactions/commit")).toEqual({
    status: "Committed",
    transactionId: `2.${service.store.committed}`,
  });
  expect(await body("/gov/service/transactions/2.1")).toEqual({ status: "Committed", transactionId: "2.1" });
  expect(await body("/gov/service/transactions/2.999")).toEqual({ status: "Unknown", transactionId: "2.999" });
  const wrong = await service.get("/gov/service/transactions/two");
  expect(wrong.status).toBe(400);
  expect(errorOf(wrong).code).toBe("InvalidQueryParameterValue");
});

test.each([
  ["members/nobody", 400, "InvalidResourceName", "'nobody' is not a valid hex-encoded member ID"],
  [`members/${"ab".repeat(32)}`, 404, "ResourceNotFound", `No member found with ID ${"ab".repeat(32)}.`],
  [`users/${"ab".repeat(32)}`, 404, "ResourceNotFound", `No user found with ID ${"ab".repeat(32)}.`],
  [`nodes/${"ab".repeat(32)}`, 404, "ResourceNotFound", `No node found with ID ${"ab".repeat(32)}.`],
  ["nodes/x", 400, "InvalidResourceName", "'x' is not a valid hex-encoded node ID"],
  ["javascript-app", 404, "ResourceNotFound", "Unknown path: /gov/service/javascript-app"],
])("/gov/service/%s is answered %i %s", async (path, status, code, message) => {
  const answer = await service.get(`/gov/service/${path}`);
  expect(answer.status).toBe(status);
  expect(errorOf(answer)).toEqual({ code, message });
});

test("every endpoint asks for its api-version", async () => {
  for (const { method, path } of service.endpoints.filter(({ method }) => method === "GET")) {
    const answer = await service.request(method, `${path.replaceAll(/\{\w+\}/g, "ab".repeat(32))}?x=1`);
    expect(errorOf(answer).code, path).toBe("MissingApiVersionParameter");
  }
});
