import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isFault } from "../../../../protocol/check.ts";
import {
  type ChannelFrame,
  encodeHello,
  encodeMessageHeader,
  encodePing,
  FrameReader,
} from "../../../../protocol/wire/channel.ts";

const message = (counter: number, body: Uint8Array) => Buffer.concat([encodeMessageHeader(counter, body.length), body]);

function readAll(reader: FrameReader): ChannelFrame[] {
  const frames: ChannelFrame[] = [];
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
  return frames;
}

describe("frames", () => {
  test("have the documented bytes", () => {
    expect(encodeHello("responder", Buffer.from("ab")).toString("hex")).toBe("0400000001" + "0102" + "6162");
    expect(message(2 ** 32 + 3, Buffer.from("ab")).toString("hex")).toBe("0a00000002" + "0300000001000000" + "6162");
    expect(encodePing().toString("hex")).toBe("0000000003");
  });

  test("come back the same, however the stream is cut into chunks", () => {
    const frame = fc.oneof(
      fc.record({
        kind: fc.constant("message" as const),
        counter: fc.nat(Number.MAX_SAFE_INTEGER),
        body: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      }),
      fc.constant({ kind: "ping" as const }),
    );
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 20 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 60 })),
        (sent, cuts) => {
          const bytes = Buffer.concat(
            sent.map((one) => (one.kind === "ping" ? encodePing() : message(one.counter, one.body))),
          );
          const reader = new FrameReader();
          reader.attested = true;
          const read: ChannelFrame[] = [];
          for (let at = 0; at < bytes.length; ) {
            const size = cuts.next().value;
            reader.push(bytes.subarray(at, at + size));
            read.push(...readAll(reader));
            at += size;
          }
          expect(read).toEqual(sent);
        },
      ),
    );
  });

  test("after a hello come back after it", () => {
    const reader = new FrameReader();
    reader.push(Buffer.concat([encodeHello("initiator", Buffer.from("evidence")), message(1, Buffer.from("x"))]));
    expect(reader.next()).toEqual({ kind: "hello", role: "initiator", evidence: Buffer.from("evidence") });
    reader.attested = true;
    expect(readAll(reader)).toEqual([{ kind: "message", counter: 1, body: Buffer.from("x") }]);
  });

  test("a body within one chunk is not copied", () => {
    const reader = new FrameReader();
    reader.attested = true;
    const chunk = Buffer.concat([message(1, Buffer.alloc(100)), encodePing()]);
    reader.push(chunk);
    const [first] = readAll(reader);
    expect(first?.kind === "message" && first.body.buffer === chunk.buffer).toBe(true);
  });

  test("hostile bytes end in a fault or wait for more, and never in anything else", () => {
    const codes = ["FrameKindUnknown", "FrameTooLong", "FrameMalformed", "ProtocolVersionUnknown"];
    fc.assert(
      fc.property(fc.boolean(), fc.array(fc.uint8Array({ maxLength: 40 })), (attested, chunks) => {
        const reader = new FrameReader();
        reader.attested = attested;
        try {
          for (const chunk of chunks) {
            reader.push(chunk);
            readAll(reader);
          }
        } catch (error) {
          expect(codes.some((code) => isFault(error, code))).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });
});
