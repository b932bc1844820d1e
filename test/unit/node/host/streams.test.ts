/** Streams from socket to enclave and back: both ends over real ports, as they are wired in a validator. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type Duplex, duplexPair } from "node:stream";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { STREAM_WINDOW, toEnclave, toHost } from "../../../../node/boundary/messages.ts";
import { openPort } from "../../../../node/boundary/port.ts";
import { createStreams, type Opened } from "../../../../node/boundary/streams.ts";
import { createHostStreams } from "../../../../node/host/streams.ts";

const RPC = { protocol: "rpc", interface: "primary_rpc_interface", from: "127.0.0.1:5" } as const;

function validator(
  dial: (protocol: string, address: string) => Promise<Duplex> = () => Promise.reject(new Error("no")),
) {
  const [hostStream, enclaveStream] = duplexPair();
  const opened: Array<[Opened, Duplex]> = [];
  let toEnclaveBytes = 0;
  const hostPort = openPort({
    stream: hostStream,
    send: toEnclave,
    receive: toHost,
    onMessage: (message) => host.receive(message as Parameters<typeof host.receive>[0]),
    onFault: () => host.close(),
  });
  const enclavePort = openPort({
    stream: enclaveStream,
    send: toHost,
    receive: toEnclave,
    onMessage: (message) => {
      if (message.kind === "streamData") toEnclaveBytes += message.data.length;
      enclave.receive(message as Parameters<typeof enclave.receive>[0]);
    },
    onFault: () => enclave.close("the host is gone"),
  });
  const host = createHostStreams({ port: hostPort, connect: dial });
  const enclave = createStreams({ port: enclavePort, onOpened: (what, stream) => opened.push([what, stream]) });
  return { host, enclave, opened, cut: () => enclaveStream.destroy(), bytesToEnclave: () => toEnclaveBytes };
}

const turn = () => new Promise<void>((done) => setImmediate(done));
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

const server = createServer({ allowHalfOpen: true });
const address = new Promise<AddressInfo>((done) =>
  server.listen(0, "127.0.0.1", () => done(server.address() as AddressInfo)),
);
afterAll(() => server.close());

/** The two ends of a TCP connection. */
async function socketPair(): Promise<[near: Socket, far: Socket]> {
  const { port } = await address;
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const near = connect({ port, host: "127.0.0.1" });
  const [far] = await accepted;
  near.on("error", () => {});
  return [near, far];
}

/** A client's end of a connection whose other end the host holds. */
async function accept(v: ReturnType<typeof validator>): Promise<Socket> {
  const [client, socket] = await socketPair();
  v.host.accepted(socket, RPC);
  return client;
}

/** All bytes up to the end. Unlike an async iterator it leaves the stream's other direction alone. */
function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return new Promise((done) => stream.once("end", () => done(Buffer.concat(chunks))));
}

async function closed(stream: Duplex): Promise<void> {
  stream.resume();
  if (!stream.closed) await new Promise((done) => stream.once("close", done));
}

test("the enclave is told of a connection and answers on it after the client's half-close", async () => {
  const v = validator();
  const client = await accept(v);
  client.end("question");
  await until(() => v.opened.length === 1);
  const [what, stream] = v.opened[0]!;
  expect(what).toMatchObject(RPC);
  expect(String(await readAll(stream))).toBe("question");
  stream.end("answer");
  expect(String(await readAll(client))).toBe("answer");
  await until(() => v.host.size === 0 && v.enclave.size === 0);
});

test("an answer larger than the window arrives whole although the enclave destroys the stream right after its end", async () => {
  const v = validator();
  const client = await accept(v);
  await until(() => v.opened.length === 1);
  const stream = v.opened[0]![1];
  const answer = randomBytes(5 * STREAM_WINDOW + 17);
  stream.end(answer);
  stream.once("finish", () => stream.destroy());
  expect((await readAll(client)).equals(answer)).toBe(true);
  await until(() => v.host.size === 0 && v.enclave.size === 0);
});

test("an answer reaches a client that is still sending what nobody reads", async () => {
  const v = validator();
  const client = await accept(v);
  client.write(Buffer.alloc(16 * 1024 * 1024));
  await until(() => v.opened.length === 1);
  for (let i = 0; i < 100; i++) await turn();
  const stream = v.opened[0]![1];
  stream.end("too large");
  stream.once("finish", () => stream.destroy());
  const answer = readAll(client);
  let broken: Error | undefined;
  client.on("error", (error) => (broken = error));
  expect(String(await answer)).toBe("too large");
  await until(() => v.host.size === 0);
  client.destroy();
  expect(broken).toBeUndefined();
});

test("destroying a stream without an end breaks the client's connection", async () => {
  const v = validator();
  const client = await accept(v);
  await until(() => v.opened.length === 1);
  v.opened[0]![1].destroy();
  await closed(client);
  await until(() => v.host.size + v.enclave.size === 0);
});

test("a broken connection ends the enclave's stream with an error that nobody has to listen to", async () => {
  const v = validator();
  const [, socket] = await socketPair();
  v.host.accepted(socket, RPC);
  await until(() => v.opened.length === 1);
  const stream = v.opened[0]![1];
  socket.destroy(new Error("read ECONNRESET"));
  await closed(stream);
  expect(stream.errored?.message).toBe("read ECONNRESET");
});

test("a reader that does not read stops the sender at one window, and reading lets it go on", async () => {
  const v = validator();
  const client = await accept(v);
  const body = randomBytes(4 * STREAM_WINDOW);
  client.end(body);
  await until(() => v.opened.length === 1);
  for (let i = 0; i < 200; i++) await turn();
  expect(v.bytesToEnclave()).toBe(STREAM_WINDOW);
  const digest = createHash("sha256");
  for await (const chunk of v.opened[0]![1]) digest.update(chunk);
  expect(digest.digest("hex")).toBe(createHash("sha256").update(body).digest("hex"));
});

test("a client that does not read stops the enclave's writer at its window and the host's buffer", async () => {
  const v = validator();
  await accept(v);
  await until(() => v.opened.length === 1);
  const stream = v.opened[0]![1];
  const chunk = Buffer.alloc(64 * 1024);
  let written = 0;
  // The kernel takes megabytes before it pushes back, so this goes on until nothing moves for many turns.
  for (let still = 0; still < 100; still = stream.writableNeedDrain ? still + 1 : 0) {
    if (!stream.writableNeedDrain) {
      stream.write(chunk);
      written += chunk.length;
      expect(written).toBeLessThan(64 * 1024 * 1024);
    }
    await turn();
  }
  expect(stream.writableLength).toBeLessThanOrEqual(2 * chunk.length);
});

test("the enclave may write before the host has connected, and hears when it has", async () => {
  const [near, far] = await socketPair();
  const { promise, resolve } = Promise.withResolvers<Duplex>();
  const asked: string[] = [];
  const v = validator((protocol, address) => {
    asked.push(`${protocol} ${address}`);
    return promise;
  });
  const stream = v.enclave.open("peer", "10.0.0.1:8001");
  let connected = false;
  stream.once("connect", () => {
    connected = true;
  });
  stream.end("hello");
  await until(() => asked.length === 1);
  expect(asked).toEqual(["peer 10.0.0.1:8001"]);
  expect(connected).toBe(false);
  resolve(near);
  expect(String(await readAll(far))).toBe("hello");
  await until(() => connected);
  far.end("bye");
  expect(String(await readAll(stream))).toBe("bye");
});

test("a connection that fails ends the stream with the reason", async () => {
  const v = validator(() => Promise.reject(new Error("connect ECONNREFUSED 127.0.0.1:1")));
  const stream = v.enclave.open("rpc", "127.0.0.1:1");
  await closed(stream);
  expect(stream.errored?.message).toBe("connect ECONNREFUSED 127.0.0.1:1");
});

test("when the enclave gives up before the connection stands, the connection is dropped", async () => {
  const [near, far] = (await socketPair()).reverse() as [Socket, Socket];
  const { promise, resolve } = Promise.withResolvers<Duplex>();
  const v = validator(() => promise);
  const stream = v.enclave.open("rpc", "127.0.0.1:1");
  await turn();
  stream.destroy();
  await until(() => v.host.size === 0);
  resolve(near);
  await closed(far);
});

test("when the host is gone, every stream of the enclave ends with an error", async () => {
  const v = validator();
  await accept(v);
  await until(() => v.opened.length === 1);
  v.cut();
  await closed(v.opened[0]![1]);
  expect(v.enclave.size).toBe(0);
});

test("many streams of any sizes and cuts carry their own bytes", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 150_000 }), { maxLength: 6 }), { minLength: 1, maxLength: 8 }),
      async (plans) => {
        const v = validator();
        const clients: Socket[] = [];
        for (const _ of plans) clients.push(await accept(v));
        await Promise.all(
          plans
            .map(async (sizes, i) => {
              const client = clients[i]!;
              const sent = sizes.map((size) => randomBytes(size));
              for (const piece of sent) client.write(piece);
              client.end();
              const back = await readAll(client);
              expect(back.equals(Buffer.concat(sent))).toBe(true);
            })
            .concat([
              (async () => {
                await until(() => v.opened.length === plans.length);
                for (const [, stream] of v.opened) stream.pipe(stream);
              })(),
            ]),
        );
        await until(() => v.host.size === 0 && v.enclave.size === 0);
      },
    ),
    { numRuns: 20 },
  );
});
