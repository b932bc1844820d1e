/** The boundary's port: framing, batching, back-pressure, and one clean end for every kind of garbage. */
import { type Duplex, duplexPair } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createCodec, LENGTH_BYTES } from "../../../../node/boundary/codec.ts";
import { FRAME_BYTES_MAX, STREAM_WINDOW, toEnclave, toHost } from "../../../../node/boundary/messages.ts";
import { BUFFERED_BYTES_MAX, openPort, type Port, type PortFault } from "../../../../node/boundary/port.ts";
import type { MessageOf } from "../../../../node/boundary/schema.ts";
import { Fault } from "../../../../protocol/check.ts";
import { anyMessage } from "./messages-arbitrary.ts";

type ToEnclave = MessageOf<typeof toEnclave>;

type End = Readonly<{
  port: Port<typeof toHost>;
  received: ToEnclave[];
  fault: Promise<Fault<PortFault>>;
  faults: Array<Fault<PortFault>>;
}>;

/** The enclave's end of a port over a stream. */
function enclaveEnd(stream: Duplex): End {
  const received: ToEnclave[] = [];
  const faults: Array<Fault<PortFault>> = [];
  const { promise, resolve } = Promise.withResolvers<Fault<PortFault>>();
  const port = openPort({
    stream,
    send: toHost,
    receive: toEnclave,
    onMessage: (message) => received.push(message),
    onFault: (fault) => {
      faults.push(fault);
      resolve(fault);
    },
  });
  return { port, received, fault: promise, faults };
}

function hostEnd(stream: Duplex) {
  return openPort({ stream, send: toEnclave, receive: toHost, onMessage: () => {}, onFault: () => {} });
}

const turn = () => new Promise<void>((done) => setImmediate(done));
const codec = createCodec(toEnclave);
const stop = codec.encode({ kind: "stop" });

test("messages arrive whole and in order, however the bytes are cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyMessage(toEnclave), { maxLength: 20 }),
      fc.integer({ min: 1, max: 99 }),
      async (sent, step) => {
        const [ours, theirs] = duplexPair();
        const end = enclaveEnd(ours);
        const bytes = Buffer.concat(sent.map((message) => Buffer.from(codec.encode(message))));
        for (let at = 0; at < bytes.length; at += step) theirs.write(bytes.subarray(at, at + step));
        theirs.end();
        expect((await end.fault).detail.code).toBe("PortClosed");
        expect(end.received).toEqual(sent);
      },
    ),
    { numRuns: 60 },
  );
});

test("all that is sent in one turn, also from promise jobs, leaves in one write", async () => {
  const [ours, theirs] = duplexPair();
  const writes: Buffer[] = [];
  theirs.on("data", (chunk: Buffer) => writes.push(chunk));
  const { port } = enclaveEnd(ours);
  port.send({ kind: "ledgerCommit", seqno: 1 });
  await Promise.resolve();
  port.send({ kind: "ledgerCommit", seqno: 2 });
  process.nextTick(() => port.send({ kind: "ledgerCommit", seqno: 3 }));
  await turn();
  await turn();
  expect(writes).toHaveLength(1);
});

test("the largest entry passes", async () => {
  const [ours, theirs] = duplexPair();
  const end = enclaveEnd(ours);
  const entry = Buffer.alloc(32 * 1024 * 1024, 7);
  hostEnd(theirs).send({ kind: "ledgerRange", request: 1, entries: [entry] });
  while (end.received.length === 0) await turn();
  const [message] = end.received;
  expect(message?.kind === "ledgerRange" && entry.equals(message.entries[0]!)).toBe(true);
});

test("a port whose reader is slow says so, and says when it may go on", async () => {
  const [ours, theirs] = duplexPair();
  const { port } = enclaveEnd(ours);
  let drains = 0;
  port.onDrain(() => drains++);
  const data = Buffer.alloc(STREAM_WINDOW);
  let sent = 0;
  while (port.writable) {
    port.send({ kind: "streamData", stream: 1, data });
    sent += data.length;
    expect(sent).toBeLessThan(4 * BUFFERED_BYTES_MAX);
  }
  expect(drains).toBe(0);
  theirs.resume();
  while (drains === 0) await turn();
  expect(port.writable).toBe(true);
  expect(drains).toBe(1);
});

describe("garbage ends the port once, with its name", () => {
  const tooLong = Buffer.alloc(4);
  tooLong.writeUInt32LE(FRAME_BYTES_MAX + 1);
  const framed = (content: Buffer) => {
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32LE(content.length);
    return Buffer.concat([length, content]);
  };

  test.each<[string, Buffer, PortFault["code"]]>([
    ["a frame longer than any message", tooLong, "FrameTooLong"],
    ["an empty frame", framed(Buffer.alloc(0)), "FrameUndecodable"],
    ["noise", framed(Buffer.from("c1c1c1", "hex")), "FrameUndecodable"],
    ["an unknown message", framed(Buffer.from("91cc99", "hex")), "MessageUnknown"],
    ["a message without its fields", framed(Buffer.from("9101", "hex")), "MessageMalformed"],
  ])("%s", async (_, garbage, code) => {
    const [ours, theirs] = duplexPair();
    const end = enclaveEnd(ours);
    theirs.write(Buffer.concat([stop, garbage, stop]));
    expect((await end.fault).detail.code).toBe(code);
    await turn();
    expect(end.received).toEqual([{ kind: "stop" }]);
    expect(end.faults).toHaveLength(1);
    end.port.send({ kind: "ledgerCommit", seqno: 1 });
    expect(end.port.writable).toBe(false);
  });

  test("an end within a frame is told apart from an end between frames", async () => {
    for (const [bytes, code] of [
      [stop.subarray(0, stop.length - 1), "FrameCut"],
      [stop, "PortClosed"],
    ] as const) {
      const [ours, theirs] = duplexPair();
      const end = enclaveEnd(ours);
      theirs.end(bytes);
      expect((await end.fault).detail.code).toBe(code);
    }
  });

  test("a stream of flipped, cut, repeated and swapped frames is valid messages, then a fault or the end", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyMessage(toEnclave), { minLength: 1, maxLength: 10 }),
        fc.array(fc.tuple(fc.constantFrom("flip", "cut", "repeat", "swap"), fc.nat(), fc.nat()), { maxLength: 4 }),
        async (messages, blows) => {
          const frames = messages.map((message) => Buffer.from(codec.encode(message)));
          for (const [blow, at, detail] of blows) {
            const index = at % frames.length;
            const frame = frames[index]!;
            if (blow === "flip" && frame.length > 0) frame[detail % frame.length]! ^= 1 << (detail % 8);
            else if (blow === "cut") frames[index] = frame.subarray(0, detail % (frame.length + 1));
            else if (blow === "repeat") frames.splice(index, 0, Buffer.from(frame));
            else frames.push(...frames.splice(index, 1));
          }
          const [ours, theirs] = duplexPair();
          const end = enclaveEnd(ours);
          theirs.end(Buffer.concat(frames));
          expect(await end.fault).toBeInstanceOf(Fault);
          expect(end.faults).toHaveLength(1);
        },
      ),
      { numRuns: 300 },
    );
  });
});

test("close sends what waits and reports nothing afterwards", async () => {
  const [ours, theirs] = duplexPair();
  const end = enclaveEnd(ours);
  const chunks: Buffer[] = [];
  theirs.on("data", (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise<void>((done) => theirs.on("end", () => done()));
  end.port.send({ kind: "stopped", why: "asked to", fatal: false });
  end.port.close();
  await ended;
  theirs.destroy();
  await turn();
  const bytes = Buffer.concat(chunks);
  expect(createCodec(toHost).decode(bytes, LENGTH_BYTES, bytes.length)).toEqual({
    kind: "stopped",
    why: "asked to",
    fatal: false,
  });
  expect(end.faults).toEqual([]);
});
