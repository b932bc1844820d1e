/** What clients may do to a node: wrong papers, nonsense, too much, too slowly. Each is answered, and the node serves on. */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createParticipant } from "../../protocol/crypto/participant.ts";
import { type Consortium, curl, endAll, readPem, startConsortium } from "./consortium.ts";
import { run, until } from "./processes.ts";

let consortium: Consortium;
let primary: number;
let backup: number;
beforeAll(async () => {
  consortium = await startConsortium();
  primary = await consortium.primary();
  backup = [0, 1, 2].find((node) => node !== primary)!;
});
afterAll(endAll);

/** After each of these, an honest client is served by every node. */
let next = 1;
afterEach(async () => {
  const id = next++;
  expect(await post({ id, msg: "served" })).toMatchObject({ status: 200, body: "true" });
  const read = await consortium.curl("user0", privateUrl(backup, `?id=${id}`));
  expect(read.json()).toEqual({ msg: "served" });
});

const PATH = "/app/log/private";
const privateUrl = (node: number, query = "") => consortium.url(node, `${PATH}${query}`);
const jsonType = ["--header", "content-type: application/json"];

function post(record: object, ...more: readonly string[]) {
  // Committed on a majority, and then on all: the backup that is read may not be part of the majority.
  const wait = ["--header", "x-camerata-wait: committed"];
  return consortium
    .curl("user0", "--data", JSON.stringify(record), ...jsonType, ...wait, ...more, privateUrl(primary))
    .then(async (answer) => {
      if (answer.txId !== undefined) await arrived(answer.txId);
      return answer;
    });
}

async function arrived(txId: string): Promise<void> {
  await until(`${txId} is committed on a backup`, 20_000, async () => {
    const found = await consortium.curl("nobody", consortium.url(backup, `/app/tx?transaction_id=${txId}`));
    return (found.json() as { status: string }).status === "Committed";
  });
}

describe("who is not a user", () => {
  const refused = (reason: string) => ({
    error: {
      code: "InvalidAuthenticationInfo",
      message: "Invalid authentication credentials.",
      details: [{ auth_policy: "user_cert", code: "InvalidAuthenticationInfo", message: reason }],
    },
  });

  test("a client without a certificate is refused", async () => {
    const answer = await consortium.curl("nobody", privateUrl(primary, "?id=1"));
    expect(answer.status).toBe(401);
    expect(answer.json()).toEqual(refused("No caller user certificate"));
  });

  test("a member is not a user", async () => {
    const answer = await consortium.curl("member0", privateUrl(primary, "?id=1"));
    expect(answer.status).toBe(401);
    expect(answer.json()).toEqual(refused("Could not find matching user certificate"));
  });

  test("a stranger with a certificate under a user's name is refused", async () => {
    const stranger = createParticipant({ name: "user0", validFrom: new Date() });
    const files = { cert: join(consortium.directory, "stranger.pem"), key: join(consortium.directory, "stranger.key") };
    writeFileSync(files.cert, stranger.certificatePem);
    writeFileSync(files.key, stranger.privateKeyPem);
    const papers = ["--cacert", consortium.serviceCertificate, "--cert", files.cert, "--key", files.key];
    const answer = await curl([...papers, privateUrl(primary, "?id=1")]);
    expect(answer.status).toBe(401);
    expect(answer.json()).toEqual(refused("Could not find matching user certificate"));
  });
});

describe("requests that make no sense", () => {
  test.each([
    ["cut off", '{"id": 1, "msg": "cut'],
    ["no JSON at all", "id=1&msg=hello"],
    ["empty", ""],
    ["not UTF-8", "@latin1"],
  ])("a body that is %s is refused with 400", async (_, body) => {
    const latin1 = join(consortium.directory, "latin1");
    writeFileSync(latin1, Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]));
    const data = body === "@latin1" ? `@${latin1}` : body;
    const answer = await consortium.curl("user0", "--data-binary", data, ...jsonType, privateUrl(primary));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("InvalidInput");
    expect(answer.txId).toBeUndefined();
  });

  test.each([
    ["an id that is no number", '{"id":"1","msg":"x"}'],
    ["no msg", '{"id":1}'],
    ["an empty msg", '{"id":1,"msg":""}'],
    ["a list", "[1,2]"],
    ["a nest of ten thousand lists", `${"[".repeat(10_000)}${"]".repeat(10_000)}`],
  ])("%s is refused with 400", async (_, body) => {
    const answer = await consortium.curl("user0", "--data", body, ...jsonType, privateUrl(primary));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("InvalidInput");
  });

  test("an unknown path is 404, an unknown method 405 with what is allowed", async () => {
    const path = await consortium.curl("user0", consortium.url(primary, "/app/log/secret"));
    expect(path.status).toBe(404);
    expect(path.json()).toEqual({ error: { code: "ResourceNotFound", message: "Unknown path: /log/secret." } });
    const method = await consortium.curl("user0", "--request", "PUT", privateUrl(primary));
    expect(method.status).toBe(405);
    expect(method.error()).toBe("UnsupportedHttpVerb");
    expect(method.headers["allow"]?.split(", ").sort()).toEqual(["DELETE", "GET", "OPTIONS", "POST"]);
  });

  test("an unknown value of x-camerata-wait is refused, and nothing is written", async () => {
    const body = '{"id":999999,"msg":"never"}';
    const wait = ["--header", "x-camerata-wait: soon"];
    const answer = await consortium.curl("user0", "--data", body, ...jsonType, ...wait, privateUrl(primary));
    expect(answer.status).toBe(400);
    expect(answer.error()).toBe("InvalidHeaderValue");
    expect((await consortium.curl("user0", privateUrl(primary, "?id=999999"))).status).toBe(404);
  });
});

describe("too much", () => {
  test.each([
    ["announced", []],
    ["in chunks, whose size nobody announced", ["--header", "transfer-encoding: chunked"]],
  ])("a body of two megabytes, %s, is refused with 413", async (_, more) => {
    const file = join(consortium.directory, "large");
    writeFileSync(file, `{"id":1,"msg":"${"x".repeat(2 * 1024 * 1024)}"}`);
    const body = ["--data-binary", `@${file}`, "--header", "expect:", ...more];
    const answer = await consortium.curl("user0", ...body, ...jsonType, privateUrl(primary));
    expect(answer.status).toBe(413);
    expect(answer.json()).toEqual({
      error: { code: "RequestBodyTooLarge", message: "HTTP request body is too large (max size allowed: 1MB)" },
    });
  });

  test.each([
    ["a header of 20 kB", ["--header", `x-large: ${"x".repeat(20_000)}`]],
    [
      "headers of 100 kB together",
      Array.from({ length: 10 }, (_, at) => ["--header", `x-${at}: ${"x".repeat(10_000)}`]).flat(),
    ],
    ["300 headers", Array.from({ length: 300 }, (_, at) => ["--header", `x-${at}: 1`]).flat()],
  ])("%s is refused with 431", async (_, headers) => {
    const answer = await consortium.curl("user0", ...headers, privateUrl(primary, "?id=1"));
    expect(answer.status).toBe(431);
    expect(answer.error()).toBe("RequestHeaderTooLarge");
  });

  test("a body of just under a megabyte is taken, and comes back whole", async () => {
    const file = join(consortium.directory, "megabyte");
    const msg = "m".repeat(1024 * 1024 - 40);
    writeFileSync(file, JSON.stringify({ id: 55, msg }));
    const wait = ["--header", "x-camerata-wait: committed"];
    const answer = await consortium.curl(
      "user0",
      "--data-binary",
      `@${file}`,
      ...jsonType,
      ...wait,
      privateUrl(primary),
    );
    expect(answer).toMatchObject({ status: 200, body: "true" });
    await arrived(answer.txId!);
    const read = await consortium.curl("user0", privateUrl(backup, "?id=55"));
    expect((read.json() as { msg: string }).msg === msg).toBe(true);
  });
});

describe("connections that go nowhere", () => {
  test("garbage instead of a handshake ends the connection", async () => {
    for (const garbage of [
      "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
      "\0".repeat(4096),
      "\x16\x03\x01\xff\xff" + "A".repeat(70_000),
    ]) {
      const socket = await plain(primary);
      socket.write(Buffer.from(garbage, "latin1"));
      await ended(socket);
    }
  });

  test("clients that are slow or silent are answered or dropped in time, and hold up nobody", async () => {
    const before = await active();
    const [silent, handshaken, dripping, halfBody, halfOpen] = await Promise.all([
      plain(primary),
      secured(primary),
      secured(primary),
      secured(primary),
      secured(primary),
    ]);
    const outcomes = {
      "connected, and silent": ended(silent),
      "handshake, and silent": ended(handshaken),
      "one byte of a header at a time": ended(dripping),
      "half a request, then FIN": ended(halfOpen),
    };
    halfBody.write(
      `POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"id":`,
    );
    halfOpen.end(`POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"id":`);
    dripping.write(`GET ${PATH}?id=1 HTTP/1.1\r\nhost: x\r\nx-slow: `);
    const drip = setInterval(() => dripping.writable && dripping.write("x"), 500);

    // Meanwhile others are served, without a pause.
    const settled = Promise.all(Object.values(outcomes)).then(() => "settled" as const);
    let served = 0;
    while ((await Promise.race([settled, post({ id: 70, msg: `meanwhile ${served}` })])) !== "settled") served++;
    clearInterval(drip);
    expect(served).toBeGreaterThan(3);

    const [silentText, handshakenText, drippingText, halfOpenText] = await Promise.all(Object.values(outcomes));
    expect(silentText).toBe("");
    expect(handshakenText).toMatch(/^($|HTTP\/1\.1 408 )/);
    expect(drippingText).toMatch(/^HTTP\/1\.1 408 /);
    expect(halfOpenText).toMatch(/^($|HTTP\/1\.1 400 )/);
    // The rest of a body has a minute; a client that gives up before leaves nothing behind.
    halfBody.destroy();
    await until("their sessions are closed", 20_000, async () => (await active()) <= before);
  });

  test("the last byte of a slow request makes it a request like any other", async () => {
    const body = '{"id":71,"msg":"slowly"}';
    const socket = await secured(primary, "user0");
    const text = `POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    for (const byte of text) {
      socket.write(byte);
      await new Promise(setImmediate);
    }
    expect(await ended(socket)).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\ntrue$/);
  });

  test("over the soft cap clients are told that the node is busy; over the hard cap they are cut off", async () => {
    const before = await active();
    const metrics = await consortium.curl("nobody", consortium.url(primary, "/node/metrics"));
    const { soft_cap, hard_cap } = (metrics.json() as Metrics).sessions.interfaces["primary_rpc_interface"]!;
    const sockets: Socket[] = [];
    // On a slow machine the first ones are given up, for they never shake hands, while the last are opened; so more are
    // opened until the cap is seen to be reached.
    const crowd = async (first: number, status: number) => {
      let count = first;
      return until(`one more client is answered with ${status}`, 60_000, async () => {
        sockets.push(...(await Promise.all(Array.from({ length: count }, () => plain(primary)))));
        count = 20;
        const seen = await consortium.curl("user0", privateUrl(primary, "?id=1"));
        return seen.status === status ? seen : undefined;
      });
    };
    try {
      const busy = await crowd(soft_cap, 503);
      expect(busy.error()).toBe("SessionCapExhausted");
      const cut = await crowd(hard_cap - soft_cap, 0);
      expect(cut.exitCode).toBeGreaterThan(0);
    } finally {
      for (const socket of sockets) socket.resetAndDestroy();
    }
    await until("their sessions are closed", 20_000, async () => (await active()) <= before);
  });
});

type Metrics = {
  sessions: { active: number; interfaces: Record<string, { soft_cap: number; hard_cap: number }> };
};

/** Sessions of the primary; more than any node has while it is too busy to say. */
async function active(): Promise<number> {
  const metrics = await consortium.curl("nobody", consortium.url(primary, "/node/metrics"));
  return metrics.status === 200 ? (metrics.json() as Metrics).sessions.active : Number.POSITIVE_INFINITY;
}

describe("what openssl sees", () => {
  test.each([0, 1, 2])("node %i shows a certificate that the service endorses, over TLS 1.3", async (node) => {
    const args = ["s_client", "-connect", consortium.address(node), "-CAfile", consortium.serviceCertificate];
    const seen = await run("openssl", [...args, "-verify_return_error", "-showcerts"], { input: "" });
    expect(seen.code, seen.stderr).toBe(0);
    expect(seen.stdout).toContain("Verify return code: 0 (ok)");
    expect(seen.stdout).toContain("TLSv1.3");
    const [pem] = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(seen.stdout) ?? [];
    const leaf = new X509Certificate(pem ?? "");
    const service = new X509Certificate(readPem(consortium.serviceCertificate));
    expect(leaf.checkIssued(service) && leaf.verify(service.publicKey)).toBe(true);
    expect(leaf.checkIP("127.0.0.1")).toBe("127.0.0.1");
  });

  test("under another service's certificate the handshake fails", async () => {
    const args = ["s_client", "-connect", consortium.address(0), "-CAfile", consortium.keys("member0").certificate];
    const seen = await run("openssl", [...args, "-verify_return_error"], { input: "" });
    expect(seen.code).not.toBe(0);
  });

  test("TLS before 1.2 is not spoken", async () => {
    const args = ["s_client", "-connect", consortium.address(0), "-tls1_1", "-cipher", "ALL@SECLEVEL=0"];
    const seen = await run("openssl", args, { input: "" });
    expect(seen.code).not.toBe(0);
    expect(seen.stdout).toContain("no peer certificate available");
  });
});

async function plain(node: number): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port: consortium.port + node });
  await once(socket, "connect");
  return socket;
}

async function secured(node: number, person?: "user0"): Promise<TLSSocket> {
  const keys = person === undefined ? undefined : consortium.keys(person);
  const socket = connectTls({
    host: "127.0.0.1",
    port: consortium.port + node,
    ca: readPem(consortium.serviceCertificate),
    ...(keys !== undefined && { cert: readPem(keys.certificate), key: readPem(keys.privateKey) }),
  });
  await once(socket, "secureConnect");
  return socket;
}

/** Waits until the other side ends the connection; what it said before. */
async function ended(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  // A reset is an end too.
  socket.on("error", () => undefined);
  await new Promise<void>((resolve) => {
    socket.once("end", resolve);
    socket.once("close", () => resolve());
  });
  socket.destroy();
  return Buffer.concat(chunks).toString("latin1");
}
