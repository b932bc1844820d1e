/** The relay between hosts: real libp2p nodes on loopback, one per validator. */
import { createHash, randomBytes } from "node:crypto";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import type { Duplex } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { makeRelayKey, type Relay, type RelayParts, startRelay, toMultiaddr } from "../../../../network/host/relay.ts";

const relays: Relay[] = [];
afterEach(async () => {
  for (const relay of relays.splice(0)) await relay.stop();
});

/** A relay and the streams that were opened to it. */
async function relay(parts: Partial<RelayParts> = {}) {
  const streams: Duplex[] = [];
  const from: string[] = [];
  const started = await startRelay({
    listen: "127.0.0.1:0",
    onStream: (stream, address) => {
      stream.on("error", () => {});
      streams.push(stream);
      from.push(address);
    },
    ...parts,
  });
  relays.push(started);
  return { relay: started, streams, from };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((done) => setImmediate(done));
}

function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return new Promise((done) => stream.once("end", () => done(Buffer.concat(chunks))));
}

function closed(stream: Duplex): Promise<void> {
  stream.on("error", () => {});
  return new Promise((done) => (stream.closed ? done() : stream.once("close", () => done())));
}

test("a dialled stream carries bytes and ends both ways, by an address without a peer id", async () => {
  const [a, b] = [await relay(), await relay()];
  const near = await a.relay.dial(b.relay.address);
  near.end("from a");
  await until(() => b.streams.length === 1);
  const far = b.streams[0]!;
  expect(b.from[0]).toMatch(/^127\.0\.0\.1:\d+$/);
  expect(String(await readAll(far))).toBe("from a");
  far.end("from b");
  expect(String(await readAll(near))).toBe("from b");
  await Promise.all([closed(near), closed(far)]);
});

test("a name instead of a number is dialled too", async () => {
  const b = await relay();
  const a = await relay();
  const near = await a.relay.dial(b.relay.address.replace("127.0.0.1", "localhost"));
  near.end("x");
  await until(() => b.streams.length === 1);
});

test("streams to one address share one connection", async () => {
  const [a, b] = [await relay(), await relay()];
  const streams = await Promise.all(Array.from({ length: 5 }, () => a.relay.dial(b.relay.address)));
  for (const stream of streams) stream.write("x");
  await until(() => b.streams.length === 5);
  expect(new Set(b.from).size).toBe(1);
});

test("a reader that does not read holds up the writer, and many megabytes arrive whole when it does", async () => {
  const [a, b] = [await relay(), await relay()];
  const near = await a.relay.dial(b.relay.address);
  const piece = randomBytes(100_000);
  const expected = createHash("sha256");
  let written = 0;
  const write = () => {
    expected.update(piece);
    written += piece.length;
    return near.write(piece);
  };
  while (write()) expect(written).toBeLessThan(64e6);
  for (let still = 0; still < 200; still = near.writableNeedDrain ? still + 1 : 0) {
    if (!near.writableNeedDrain) write();
    expect(written).toBeLessThan(64e6);
    await new Promise((done) => setImmediate(done));
  }
  await until(() => b.streams.length === 1);
  near.end();
  const received = await readAll(b.streams[0]!);
  expect(received.length).toBe(written);
  expect(createHash("sha256").update(received).digest("hex")).toBe(expected.digest("hex"));
});

test("a stream destroyed at one end breaks at the other", async () => {
  const [a, b] = [await relay(), await relay()];
  const near = await a.relay.dial(b.relay.address);
  near.write("x");
  await until(() => b.streams.length === 1);
  near.on("error", () => {});
  b.streams[0]!.destroy();
  await closed(near);
});

test("when a host stops, its peers' streams end, and a new host at the address is reached by dialling again", async () => {
  const a = await relay();
  const b = await relay();
  const near = await a.relay.dial(b.relay.address);
  near.write("x");
  await until(() => b.streams.length === 1);
  const gone = closed(near);
  await b.relay.stop();
  await gone;
  await expect(a.relay.dial(b.relay.address)).rejects.toThrow(`cannot reach the node at ${b.relay.address}`);
  const again = await relay({ listen: b.relay.address });
  const second = await a.relay.dial(again.relay.address);
  second.end("hello again");
  await until(() => again.streams.length === 1);
  expect(String(await readAll(again.streams[0]!))).toBe("hello again");
});

test("with a list of allowed peers, a known host gets through and a stranger does not", async () => {
  const key = await makeRelayKey();
  const known = await relay({ key });
  const stranger = await relay();
  const strict = await relay({ allow: [known.relay.peerId] });
  const stream = await known.relay.dial(strict.relay.address);
  stream.end("x");
  await until(() => strict.streams.length === 1);
  await expect(
    stranger.relay
      .dial(strict.relay.address)
      .then((opened) => closed(opened.end("y")).then(() => Promise.reject(opened.errored))),
  ).rejects.toThrow();
  expect(strict.streams).toHaveLength(1);
});

test("a kept key keeps its peer id", async () => {
  const key = await makeRelayKey();
  const first = await relay({ key });
  await first.relay.stop();
  const second = await relay({ key });
  expect(second.relay.peerId).toBe(first.relay.peerId);
});

test("an address in use is refused with the address and the remedy", async () => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  await expect(relay({ listen: address })).rejects.toThrow(
    new RegExp(`cannot listen on ${address}.*EADDRINUSE.*bind_address`),
  );
  await new Promise((done) => server.close(done));
});

describe("addresses", () => {
  test.each([
    ["10.0.0.1:8001", "/ip4/10.0.0.1/tcp/8001"],
    ["[fd00::1]:8001", "/ip6/fd00::1/tcp/8001"],
    ["node1.example.com:8001", "/dns/node1.example.com/tcp/8001"],
  ])("%s is %s", (address, expected) => {
    expect(toMultiaddr(address).toString()).toBe(expected);
  });

  test.each([["10.0.0.1"], ["10.0.0.1:70000"], ["[10.0.0.1]:80"], ["a/b:80"], [":80"], ["[fd00::1:80"], ["x:80/p2p"]])(
    "%s is refused",
    (address) => {
      expect(() => toMultiaddr(address)).toThrow(/should look like/);
    },
  );
});
