/** The client against servers on loopback that are, or only seem to be, nodes of the service. */

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { VOTE_FOR } from "../../../../governance/member/ballots.ts";
import { type ClientFault, openClient, type ServiceClient } from "../../../../governance/member/client.ts";
import { proposalCall, signCall } from "../../../../governance/member/request.ts";
import {
  acknowledge,
  createProposal,
  getActions,
  listMembers,
  listProposals,
  vote,
  withdraw,
} from "../../../../governance/member/voting.ts";
import { Fault } from "../../../../protocol/check.ts";
import { generateEcKey } from "../../../../protocol/crypto/keys.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";
import { createCsr, endorse, selfSigned } from "../../../../protocol/crypto/x509.ts";
import { Consortium } from "../consortium.ts";

const now = new Date(Date.now() - 1000);
const service = generateEcKey("P-256").privateKey;
const serviceCertificate = selfSigned({ subjectName: "CN=Service", key: service, validFrom: now, days: 2 });
const nodeKey = generateEcKey("P-256").privateKey;
const nodePem = nodeKey.export({ type: "pkcs8", format: "pem" }).toString();
/** Endorsed for a name that nobody here dials: the pin decides, not the name. */
const nodeCertificate = endorse({
  csr: createCsr({ subjectName: "CN=Node", key: nodeKey, sans: ["dNSName:elsewhere.example"] }),
  issuerCertificatePem: serviceCertificate,
  issuerKey: service,
  validFrom: now,
  days: 1,
});
const member = createParticipant({ name: "member0", validFrom: now });
const signer = { certificatePem: member.certificatePem, sign: member.privateKey };

const servers: Server[] = [];
const clients: ServiceClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

async function serve(listener: RequestListener, certificate = nodeCertificate): Promise<string> {
  const server = createServer(
    { key: nodePem, cert: certificate, requestCert: true, rejectUnauthorized: false },
    listener,
  );
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function clientOf(url: string, more: { timeoutMs?: number; attempts?: number } = {}): ServiceClient {
  const client = openClient({ url, serviceCertificate, ...more });
  clients.push(client);
  return client;
}

async function faultOf(promise: Promise<unknown>): Promise<Fault<ClientFault>> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault) return error as Fault<ClientFault>;
  throw new Error(`expected a fault, got ${String(error)}`);
}

const reply = (response: ServerResponse, status: number, body: unknown, headers = {}) => {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
};

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe("answers", () => {
  test("come with their transaction id", async () => {
    const url = await serve((_, response) => reply(response, 200, { a: 1 }, { "x-ms-ccf-transaction-id": "2.17" }));
    expect(await clientOf(url).get("/gov/service/info")).toEqual({ a: 1 });
    expect((await clientOf(url).send({ method: "GET", path: "/x" })).txId).toBe("2.17");
  });

  test("a redirection to the primary is followed with the body, under the same pin", async () => {
    const seen: string[] = [];
    const primary = await serve(async (request, response) => {
      seen.push(
        `${request.method} ${request.url} ${request.headers["content-type"]} ${(await bodyOf(request)).length}`,
      );
      reply(response, 200, {});
    });
    const backup = await serve((request, response) => {
      response.writeHead(307, { location: `${primary}${request.url}` });
      response.end();
    });
    const call = await signCall(proposalCall([]), signer, 1);
    await clientOf(backup).post(call);
    expect(seen).toEqual([`POST ${call.path} application/cose ${call.body.length}`]);
  });

  test("an error body becomes a refusal with CCF's code and words", async () => {
    const error = {
      code: "InvalidAuthenticationInfo",
      message: "Invalid authentication credentials.",
      details: [{ message: "why" }],
    };
    const fault = await faultOf(clientOf(await serve((_, response) => reply(response, 401, { error }))).get("/x"));
    expect(fault.message).toBe("Invalid authentication credentials.");
    expect(fault.detail).toEqual({
      code: "Refused",
      status: 401,
      error: "InvalidAuthenticationInfo",
      details: [{ message: "why" }],
    });
  });

  test.each(["", "plain words", '{"error":1}', "[]", '{"error":{"code":1}}'])(
    "an error body that is %j is a refusal all the same",
    async (body) => {
      const url = await serve((_, response) => {
        response.writeHead(400);
        response.end(body);
      });
      expect((await faultOf(clientOf(url).get("/x"))).detail).toMatchObject({
        code: "Refused",
        status: 400,
        error: "Unknown",
      });
    },
  );

  test("an answer that is not JSON is malformed", async () => {
    const url = await serve((_, response) => void response.end("{"));
    expect((await faultOf(clientOf(url).get("/x"))).detail.code).toBe("AnswerMalformed");
  });
});

describe("a node that does not answer", () => {
  test("at first is tried again", async () => {
    let attempts = 0;
    const url = await serve((request, response) => {
      attempts++;
      if (attempts === 1) request.socket.destroy();
      else if (attempts === 2) reply(response, 503, { error: { code: "PrimaryNotFound", message: "no primary" } });
      else reply(response, 200, { attempts });
    });
    expect(await clientOf(url).get("/x")).toEqual({ attempts: 3 });
  });

  test("is given up after the last attempt", async () => {
    let attempts = 0;
    const url = await serve((request) => {
      attempts++;
      request.socket.destroy();
    });
    expect((await faultOf(clientOf(url, { attempts: 2 }).get("/x"))).detail.code).toBe("Unreachable");
    expect(attempts).toBe(2);
    const unavailable = await serve((_, response) =>
      reply(response, 503, { error: { code: "PrimaryNotFound", message: "no" } }),
    );
    expect((await faultOf(clientOf(unavailable, { attempts: 2 }).get("/x"))).detail).toMatchObject({
      status: 503,
      error: "PrimaryNotFound",
    });
  });

  test("in time leaves the fate of the request unknown, and it is not sent again", async () => {
    let attempts = 0;
    const url = await serve(() => void attempts++);
    expect((await faultOf(clientOf(url, { timeoutMs: 100 }).get("/x"))).detail.code).toBe("TimedOut");
    expect(attempts).toBe(1);
  });

  test("but redirects in circles is given up", async () => {
    const url = await serve((request, response) => {
      response.writeHead(307, { location: request.url });
      response.end();
    });
    expect((await faultOf(clientOf(url, { attempts: 1 }).get("/x"))).detail.code).toBe("Unreachable");
  });

  test("or redirects away from https is not followed", async () => {
    const url = await serve((_, response) => {
      response.writeHead(307, { location: "http://127.0.0.1:1/x" });
      response.end();
    });
    expect((await faultOf(clientOf(url).get("/x"))).detail.code).toBe("AnswerMalformed");
  });
});

test("who is not endorsed by the pinned service certificate gets no request", async () => {
  let requests = 0;
  const stranger = selfSigned({ subjectName: "CN=Service", key: nodeKey, validFrom: now, days: 2 });
  const url = await serve(() => void requests++, stranger);
  const fault = await faultOf(clientOf(url).get("/x"));
  expect(fault.detail.code).toBe("NotThisService");
  expect(fault.message).toContain("not endorsed by the service certificate");
  expect(requests).toBe(0);
});

describe("against governance itself", () => {
  /** A node of one page: TLS here, the real endpoints behind it. */
  async function start(): Promise<{ consortium: Consortium; client: ServiceClient; close(): Promise<void> }> {
    const consortium = await Consortium.found();
    consortium.seconds = Math.floor(Date.now() / 1000);
    const url = await serve(async (request, response) => {
      const headers = { "content-type": request.headers["content-type"] ?? "" };
      const answer = await consortium.request(
        request.method as "GET",
        request.url ?? "",
        await bodyOf(request),
        headers,
      );
      response.writeHead(answer.status, answer.headers);
      response.end(answer.text);
    });
    return { consortium, client: clientOf(url), close: () => consortium.close() };
  }

  test("members propose, vote, withdraw, acknowledge and look", async () => {
    const { consortium, client, close } = await start();
    const [alice, bob] = consortium.members.map((each) => ({
      certificatePem: each.certificatePem,
      sign: each.privateKey,
    }));
    if (alice === undefined || bob === undefined) throw new Error("there are members");
    const actions = [{ name: "set_user", args: { cert: member.certificatePem } }];
    const { value: made } = await createProposal(client, alice, actions);
    expect(made.proposalState).toBe("Open");
    expect(await getActions(client, made.proposalId)).toEqual(actions);
    await vote(client, alice, made.proposalId, VOTE_FOR);
    expect((await vote(client, bob, made.proposalId, VOTE_FOR)).value.proposalState).toBe("Accepted");
    const { value: other } = await createProposal(client, bob, '{"actions": []}');
    expect((await withdraw(client, bob, other.proposalId)).value?.proposalState).toBe("Withdrawn");
    expect((await withdraw(client, bob, "ab".repeat(32))).value).toBeUndefined();
    expect((await listProposals(client)).map(({ proposalId }) => proposalId)).toEqual([other.proposalId]);
    const root = consortium.sign();
    expect((await acknowledge(client, alice)).value).toBe(root);
    expect(await listMembers(client)).toHaveLength(3);
    const refused = await faultOf(createProposal(client, alice, [{ name: "nothing" }]));
    expect(refused.detail).toMatchObject({ code: "Refused", error: "ProposalFailedToValidate" });
    await close();
  });

  test("a proposal whose answer was lost is found, not made twice", async () => {
    const consortium = await Consortium.found();
    consortium.seconds = Math.floor(Date.now() / 1000);
    let posts = 0;
    const url = await serve(async (request, response) => {
      const headers = { "content-type": request.headers["content-type"] ?? "" };
      const answer = await consortium.request(
        request.method as "GET",
        request.url ?? "",
        await bodyOf(request),
        headers,
      );
      if (request.method === "POST" && ++posts === 1) return void request.socket.destroy();
      response.writeHead(answer.status, answer.headers);
      response.end(answer.text);
    });
    const alice = consortium.members[0];
    if (alice === undefined) throw new Error("there is a member");
    const client = clientOf(url);
    const { value } = await createProposal(
      client,
      { certificatePem: alice.certificatePem, sign: alice.privateKey },
      [],
    );
    expect(value.proposalState).toBe("Open");
    expect(await listProposals(client)).toHaveLength(1);
    await consortium.close();
  });
});
