/** The boundary's marshalling: what goes in comes out, and nothing else comes out. */
import fc from "fast-check";
import { pack } from "msgpackr";
import { describe, expect, test } from "vitest";
import { createCodec, LENGTH_BYTES } from "../../../../node/boundary/codec.ts";
import { isPlainFrame } from "../../../../node/boundary/frame.ts";
import { STREAM_WINDOW, toEnclave, toHost } from "../../../../node/boundary/messages.ts";
import type { Direction } from "../../../../node/boundary/schema.ts";
import { Fault } from "../../../../protocol/check.ts";
import { anyMessage } from "./messages-arbitrary.ts";

const directions: Array<[string, Direction]> = [
  ["to the enclave", toEnclave],
  ["to the host", toHost],
];
const CODES = ["FrameUndecodable", "MessageUnknown", "MessageMalformed"];

describe.each(directions)("messages %s", (_, direction) => {
  const codec = createCodec(direction);

  test("every message comes out as it went in", () => {
    fc.assert(
      fc.property(anyMessage(direction), (message) => {
        const frame = codec.encode(message);
        expect(frame.readUInt32LE(0)).toBe(frame.length - LENGTH_BYTES);
        expect(codec.decode(frame, LENGTH_BYTES, frame.length)).toEqual(message);
      }),
      { numRuns: 1000 },
    );
  });

  test("a frame with flipped bytes is a message of this direction or a fault", () => {
    fc.assert(
      fc.property(
        anyMessage(direction),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 4 }),
        (message, flips) => {
          const frame = Buffer.from(codec.encode(message));
          for (const [at, mask] of flips) frame[LENGTH_BYTES + (at % (frame.length - LENGTH_BYTES))]! ^= mask;
          const result = outcome(() => codec.decode(frame, LENGTH_BYTES, frame.length));
          if (result instanceof Fault) expect(CODES).toContain(result.detail.code);
          else expect(Object.keys(direction)).toContain((result as { kind: string }).kind);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test("a frame cut anywhere is a fault", () => {
    fc.assert(
      fc.property(anyMessage(direction), fc.nat(), (message, cut) => {
        const frame = codec.encode(message);
        const end = LENGTH_BYTES + (cut % (frame.length - LENGTH_BYTES));
        expect(outcome(() => codec.decode(frame, LENGTH_BYTES, end))).toBeInstanceOf(Fault);
      }),
    );
  });

  test("arbitrary bytes are a message or a fault", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const result = outcome(() => codec.decode(Buffer.from(bytes), 0, bytes.length));
        if (result instanceof Fault) expect(CODES).toContain(result.detail.code);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("what the decoder never gets to see", () => {
  const codec = createCodec(toEnclave);
  const secret = "the decoded value";

  test.each<[string, Buffer]>([
    ["an empty frame", Buffer.alloc(0)],
    ["a value that is no array", pack({ kind: "stop" })],
    ["trailing bytes", Buffer.concat([pack([0, secret]), pack(secret)])],
    ["a record definition", Buffer.from("d47240" + "92a161a162" + "0102", "hex")],
    ["a timestamp", Buffer.from("92" + "01" + "d6ff00000000", "hex")],
    ["a 64-bit integer", Buffer.from("9201cf0000000000000001", "hex")],
    ["an array of four billion", Buffer.from("ddffffffff", "hex")],
    ["bytes of four billion", Buffer.from("9204c6ffffffff", "hex")],
    ["two hundred thousand nested arrays", Buffer.alloc(200_000, 0x91)],
    ["a map with a number as key", Buffer.from("92018101c0", "hex")],
  ])("%s", (_, bytes) => {
    const result = outcome(() => codec.decode(bytes, 0, bytes.length));
    expect(result).toBeInstanceOf(Fault);
    expect(String(result)).not.toContain(secret);
  });

  test("nesting beyond the deepest message is refused, up to it allowed", () => {
    const nested = (depth: number) => Buffer.concat([Buffer.alloc(depth, 0x91), Buffer.from([0xc0])]);
    expect(isPlainFrame(nested(4), 0, 5)).toBe(true);
    expect(isPlainFrame(nested(5), 0, 6)).toBe(false);
  });
});

describe("bounds of fields", () => {
  const codec = createCodec(toEnclave);
  const kinds = Object.keys(toEnclave);
  const decode = (values: unknown[]) => {
    const bytes = pack(values);
    return codec.decode(bytes, 0, bytes.length);
  };

  test.each<[string, unknown[]]>([
    ["a field too few", [kinds.indexOf("streamData"), 2]],
    ["a field too many", [kinds.indexOf("tick"), 2, 3]],
    ["a negative count", [kinds.indexOf("tick"), -1]],
    ["a fraction", [kinds.indexOf("tick"), 1.5]],
    ["not a number", [kinds.indexOf("tick"), Number.NaN]],
    ["a count beyond 2^53", [kinds.indexOf("tick"), 2 ** 53]],
    ["text where bytes belong", [kinds.indexOf("streamData"), 2, "text"]],
    ["one byte too many", [kinds.indexOf("streamData"), 2, Buffer.alloc(STREAM_WINDOW + 1)]],
    ["an unknown word", [kinds.indexOf("streamOpened"), 2, "file", "", ""]],
    ["text too long", [kinds.indexOf("streamOpened"), 2, "rpc", "", "x".repeat(257)]],
    ["bytes of a wrong kind in a list", [kinds.indexOf("ledgerRange"), 2, [Buffer.alloc(3), 7]]],
    ["a list too long", [kinds.indexOf("ledgerRange"), 2, Array.from({ length: 4097 }, () => Buffer.alloc(0))]],
    ["null", [kinds.indexOf("tick"), null]],
  ])("%s is refused", (_, values) => {
    expect(() => decode(values)).toThrow(
      expect.objectContaining({ detail: expect.objectContaining({ code: "MessageMalformed" }) }),
    );
  });

  test.each([[999], [-1], [0.5], ["tick"], [null]])("message number %j is refused", (index) => {
    expect(outcome(() => decode([index, 1]))).toBeInstanceOf(Fault);
  });

  test("numbers by name: an array, a long name, too many and a negative one are refused", () => {
    const host = createCodec(toHost);
    const at = Object.keys(toHost).indexOf("status");
    const status = (sessions: unknown) => {
      const bytes = pack([at, "s", "r", 1, "p", 1, 1, sessions]);
      return outcome(() => host.decode(bytes, 0, bytes.length));
    };
    const many = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`n${i}`, i]));
    for (const wrong of [[1], { ["x".repeat(65)]: 1 }, many, { a: -1 }, { a: "1" }])
      expect(status(wrong)).toBeInstanceOf(Fault);
    expect(status({ rpc: 3 })).toMatchObject({ sessions: { rpc: 3 } });
  });

  test("a message of ours that breaks its own bounds is our bug", () => {
    expect(() => codec.encode({ kind: "tick", elapsedMs: -1 })).toThrow(/keeps to its declaration/);
  });
});

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}
