import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import { TLSSocket } from "node:tls";
import { describe, expect, test, vi } from "vitest";
import { type JoinClientParts, joinService } from "../../../../../node/enclave/service/join-client.ts";
import { checkJoinPolicy, checkOwnPolicy } from "../../../../../node/enclave/service/join-policy.ts";
import {
  checkJoinRequest,
  JOIN_EXPORTER_LABEL,
  JOIN_RESPONSE_BYTES_MAX,
  type JoinResponse,
  makeJoinResponse,
  parseJoinRequest,
} from "../../../../../node/enclave/service/join-protocol.ts";
import type { Platform } from "../../../../../protocol/attestation/evidence.ts";
import { Fault } from "../../../../../protocol/check.ts";
import { type Identity, makeNode, makeService } from "../../../network/enclave/identities.ts";
import {
  claims,
  content,
  decided,
  genuine,
  joiner,
  otherBuild,
  pending,
  responder,
  service,
  trustedAnswer,
} from "./joiners.ts";

type Answer = Omit<JoinResponse, "camerata"> | ((response: ServerResponse) => void);

/** Nodes that answer at addresses, each with a script: what to say to the first, the second, ... request. */
class Consortium {
  readonly asked: string[] = [];
  readonly refused: string[] = [];
  readonly #nodes = new Map<string, (stream: Duplex) => void>();
  readonly streams: Duplex[] = [];

  node(address: string, script: Answer[], identity: Identity = responder, platform: Platform = genuine): this {
    let turn = 0;
    this.#nodes.set(address, (stream) => {
      const socket = new TLSSocket(stream, {
        isServer: true,
        key: identity.privateKey,
        cert: identity.certificate,
        requestCert: true,
        rejectUnauthorized: false,
      });
      socket.on("error", () => undefined);
      socket.once("secure", () => {
        const server = createServer((request, response) => {
          this.asked.push(`${address} ${request.method} ${request.url}`);
          const answer = script[Math.min(turn++, script.length - 1)]!;
          if (typeof answer === "function") answer(response);
          else void this.#answer(socket, request, response, answer, identity, platform);
        });
        server.emit("connection", socket);
      });
    });
    return this;
  }

  dial(address: string): Duplex {
    const [near, far] = duplexPair();
    this.streams.push(near);
    const node = this.#nodes.get(address);
    if (node === undefined) setImmediate(() => near.destroy(new Error("connection refused")));
    else node(far);
    return near;
  }

  async #answer(
    socket: TLSSocket,
    request: IncomingMessage,
    response: ServerResponse,
    answer: Omit<JoinResponse, "camerata">,
    identity: Identity,
    platform: Platform,
  ) {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const exporter = socket.exportKeyingMaterial(32, JOIN_EXPORTER_LABEL, Buffer.alloc(0));
    const shown = socket.getPeerX509Certificate()!.publicKey.export({ type: "spki", format: "der" });
    try {
      await checkJoinRequest(parseJoinRequest(Buffer.concat(chunks)), { exporter, publicKey: shown }, (judged) =>
        checkJoinPolicy(decided(), judged),
      );
      const made = await makeJoinResponse(answer, platform, { exporter, publicKey: identity.publicKey });
      response.end(JSON.stringify(made));
    } catch (error) {
      this.refused.push(error instanceof Fault ? error.detail.code : String(error));
      refusal(401, "InvalidQuote", "Quote could not be verified")(response);
    }
  }
}

const refusal =
  (status: number, code: string, message: string, details: object[] = []) =>
  (response: ServerResponse): void => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { code, message, details } }));
  };

const redirect = (location: string) => (response: ServerResponse) => {
  response.writeHead(308, { location }).end();
};

function start(consortium: Consortium, more: Partial<JoinClientParts> = {}) {
  const log: string[] = [];
  const result = joinService({
    target: "n0:8000",
    serviceCertificate: service.certificate,
    certificate: joiner.certificate,
    privateKey: joiner.privateKey,
    platform: genuine,
    policy: (judged) => checkOwnPolicy([], claims, judged),
    content,
    retryTimeoutMs: 1,
    contactTimeoutMs: 60_000,
    followRedirect: true,
    dial: (address) => consortium.dial(address),
    log: (_level, message) => log.push(message),
    ...more,
  });
  return { result, log };
}

async function refusedWith(result: Promise<unknown>): Promise<Record<string, unknown> & { message: string }> {
  const error = await result.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(Fault);
  return { ...(error as Fault).detail, message: (error as Fault).message };
}

describe("joining", () => {
  test("goes on asking while pending, on a new connection each time, until trusted", async () => {
    const consortium = new Consortium().node("n0:8000", [pending, pending, trustedAnswer()]);
    const { result, log } = start(consortium);
    const network = await result;
    expect(network.identity.cert).toBe(service.certificate);
    expect(consortium.asked).toEqual(Array(3).fill("n0:8000 POST /node/join"));
    expect(consortium.refused).toEqual([]);
    expect(consortium.streams.every((stream) => stream.destroyed)).toBe(true);
    expect(log).toEqual(["joining: this node is Pending and waits for the members to trust it"]);
  });

  test("tries again when nobody answers yet, and when a node is not ready", async () => {
    const consortium = new Consortium();
    const { result, log } = start(consortium);
    await vi.waitUntil(() => log.length > 0);
    consortium.node("n0:8000", [
      refusal(500, "InternalError", "not yet"),
      (response) => response.destroy(),
      (response) => response.writeHead(200).end("not json"),
      trustedAnswer(),
    ]);
    // An answer that no node of the service would give is final, whoever gave it.
    expect((await refusedWith(result)).code).toBe("JoinResponseMalformed");
    expect(log[0]).toMatch(/connection refused/);
    expect(log[1]).toMatch(/500 InternalError: not yet/);
  });

  test("follows the redirect to the primary, and pins the same service there", async () => {
    const primary = makeNode({ name: "service", service });
    const consortium = new Consortium()
      .node("n0:8000", [redirect("https://n1:8000/node/join")])
      .node("n1:8000", [pending, trustedAnswer()], primary);
    await start(consortium).result;
    expect(consortium.asked.map((line) => line.split(" ")[0])).toEqual(["n0:8000", "n1:8000", "n1:8000"]);
  });

  test("returns to the configured address when the primary is gone", async () => {
    const consortium = new Consortium().node("n0:8000", [redirect("https://n1:8000/node/join"), trustedAnswer()]);
    await start(consortium).result;
    expect(consortium.asked).toHaveLength(2);
  });

  test("does not follow redirects in a circle without end, or at all if so configured", async () => {
    const circle = new Consortium().node("n0:8000", [redirect("https://n0:8000/node/join")]);
    const failed = await refusedWith(start(circle, { contactTimeoutMs: -1 }).result);
    expect(failed.code).toBe("JoinTimedOut");
    expect(circle.asked).toHaveLength(6);

    const straight = new Consortium().node("n0:8000", [redirect("https://n1:8000/node/join"), trustedAnswer()]);
    await start(straight, { followRedirect: false }).result;
    expect(straight.asked).toHaveLength(2);
  });

  test.each(["http://n1:8000/node/join", "https://n1:8000/other", "https://u:p@n1:8000/node/join", "nonsense"])(
    "does not follow a redirect to %s",
    async (location) => {
      const consortium = new Consortium().node("n0:8000", [redirect(location)]);
      const failed = await refusedWith(start(consortium, { contactTimeoutMs: -1 }).result);
      expect(failed.message).toMatch(/redirects to where no node can be/);
    },
  );

  test("gives up when nobody answers in time, and says what to check", async () => {
    const failed = await refusedWith(start(new Consortium(), { contactTimeoutMs: 20 }).result);
    expect(failed).toMatchObject({ code: "JoinTimedOut", address: "n0:8000" });
    expect(failed.message).toMatch(/connection refused.*check target_rpc_address/);
  });

  test("gives up when it is told to", async () => {
    const stop = new AbortController();
    const { result } = start(new Consortium().node("n0:8000", [pending]), { signal: stop.signal });
    setImmediate(() => stop.abort(new Error("stopping")));
    await expect(result).rejects.toThrow(/stopping|aborted/);
  });
});

describe("a joiner refuses", () => {
  test.each([
    ["a self-signed certificate", makeNode()],
    ["a certificate by another service", makeNode({ name: "service", service: makeService() })],
  ])("a server with %s, and tells it nothing", async (_name, identity) => {
    const consortium = new Consortium().node("n0:8000", [trustedAnswer()], identity);
    expect(await refusedWith(start(consortium).result)).toMatchObject({
      code: "ServiceCertificateMismatch",
      address: "n0:8000",
    });
    expect(consortium.asked).toEqual([]);
  });

  test("a responder whose enclave its policy does not accept", async () => {
    const consortium = new Consortium().node("n0:8000", [trustedAnswer()], responder, otherBuild);
    expect((await refusedWith(start(consortium).result)).code).toBe("FailedMeasurementNotFound");
  });

  test("the service when it hands out another identity than the configured one", async () => {
    const consortium = new Consortium().node("n0:8000", [trustedAnswer({ service: makeService() })]);
    expect((await refusedWith(start(consortium).result)).code).toBe("ServiceIdentityMismatch");
  });

  test("an answer without end", async () => {
    const consortium = new Consortium().node("n0:8000", [
      (response) => response.end(Buffer.alloc(JOIN_RESPONSE_BYTES_MAX + 1, 32)),
    ]);
    const failed = await refusedWith(start(consortium, { contactTimeoutMs: -1 }).result);
    expect(failed.message).toMatch(/longer than/);
  });
});

describe("the service refuses", () => {
  test("a joiner with another measurement, which gives up with the service's words", async () => {
    const consortium = new Consortium().node("n0:8000", [trustedAnswer()]);
    expect(await refusedWith(start(consortium, { platform: otherBuild }).result)).toMatchObject({
      code: "JoinRefused",
      status: 401,
      error: "InvalidQuote",
      message: expect.stringMatching(/InvalidQuote: Quote could not be verified/),
    });
    expect(consortium.refused).toEqual(["FailedMeasurementNotFound"]);
  });

  test("with a name in the details, which the joiner's operator gets to see", async () => {
    const answer = refusal(401, "InvalidQuote", "Quote is of a debug enclave", [{ code: "FailedDebugEnclave" }]);
    const failed = await refusedWith(start(new Consortium().node("n0:8000", [answer])).result);
    expect(failed.message).toMatch(/Quote is of a debug enclave; FailedDebugEnclave/);
  });

  test("and a refusal without CCF's body is still a refusal", async () => {
    const consortium = new Consortium().node("n0:8000", [(response) => response.writeHead(404).end("<html>")]);
    expect(await refusedWith(start(consortium).result)).toMatchObject({
      code: "JoinRefused",
      status: 404,
      error: "unknown",
    });
  });
});
