/**
 * Messages of one direction to bytes and back, derived from their declaration.
 *
 *   frame    u32 LE length ‖ that many bytes of MessagePack
 *   content  array: [index of the message in its declaration, field values in the order of their declaration]
 *
 * A decoded message has been checked whole: known index, exactly the declared fields, each within its schema. Bytes in
 * it are views into the frame. Nothing that is hashed or signed depends on these bytes; both ends are always of one
 * build, so the index needs no version.
 *
 * Neutral. Pure.
 */
import { Packr, RESERVE_START_SPACE, Unpackr } from "msgpackr";
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { assert, Fault, present } from "../../protocol/check.ts";
import { isPlainFrame } from "./frame.ts";
import type { Direction, MessageOf } from "./schema.ts";

export const LENGTH_BYTES = 4;

/** What a frame can be guilty of. The texts never quote a decoded value: it may be anybody's secret. */
export type CodecFault =
  | { code: "FrameUndecodable"; sizeBytes: number }
  | { code: "MessageUnknown"; index: number }
  | { code: "MessageMalformed"; kind: string };

export type Codec<D extends Direction> = Readonly<{
  /** One frame with its length. The message's bytes are copied. A message out of its own bounds is our mistake. */
  encode(message: MessageOf<D>): Buffer;
  /** The content of one frame, `bytes` from `start` to `end`. @throws Fault<CodecFault> */
  decode(bytes: Buffer, start: number, end: number): MessageOf<D>;
}>;

type Row = Readonly<{ kind: string; fields: readonly string[]; check(values: unknown): boolean }>;

const options = { useRecords: false, mapsAsObjects: true, variableMapSize: true } as const;

/** Above this the packer's buffer is given up after use, or every later buffer would be as large. */
const KEEP_BUFFER_BYTES = 256 * 1024;
const FRESH_BUFFER_BYTES = 64 * 1024;

export function createCodec<D extends Direction>(direction: D): Codec<D> {
  const rows = Object.entries(direction).map(([kind, fields]): Row => {
    const check = Compile(Type.Tuple([Type.Integer(), ...Object.values(fields)]));
    return { kind, fields: Object.keys(fields), check: (values) => check.Check(values) };
  });
  const indexes = new Map(rows.map((row, index) => [row.kind, index]));
  const packer = new Packr(options);
  const unpacker = new Unpackr(options);
  const range = { start: 0, end: 0 };

  return {
    encode(message) {
      const index = present(indexes.get(message.kind), "a message sent is declared");
      const row = rows[index]!;
      const values: unknown[] = [index];
      for (const field of row.fields) values.push((message as Readonly<Record<string, unknown>>)[field]);
      assert(row.check(values), `a ${row.kind} message sent keeps to its declaration`);

      const frame = packer.encode(values, RESERVE_START_SPACE | LENGTH_BYTES);
      frame.writeUInt32LE(frame.length - LENGTH_BYTES, 0);
      if (frame.length > KEEP_BUFFER_BYTES) packer.useBuffer(Buffer.allocUnsafeSlow(FRESH_BUFFER_BYTES));
      return frame;
    },

    decode(bytes, start, end) {
      if (!isPlainFrame(bytes, start, end)) throw undecodable(end - start);
      range.start = start;
      range.end = end;
      const values = decodePlain(unpacker, bytes, range);
      if (!Array.isArray(values)) throw undecodable(end - start);

      const index: unknown = values[0];
      const row = typeof index === "number" ? rows[index] : undefined;
      if (row === undefined)
        throw new Fault<CodecFault>(
          { code: "MessageUnknown", index: typeof index === "number" ? index : -1 },
          "a frame holds a message that is not declared; host and enclave must be of one build",
        );
      if (!row.check(values))
        throw new Fault<CodecFault>(
          { code: "MessageMalformed", kind: row.kind },
          `a ${row.kind} message has missing, superfluous or out-of-bounds fields`,
        );

      const message: Record<string, unknown> = { kind: row.kind };
      for (let i = 0; i < row.fields.length; i++) message[row.fields[i]!] = values[i + 1];
      return message as MessageOf<D>;
    },
  };
}

function decodePlain(unpacker: Unpackr, bytes: Buffer, range: { start: number; end: number }): unknown {
  try {
    return unpacker.unpack(bytes, range);
  } catch {
    // The decoder's own words are dropped on purpose: they contain the values.
    throw undecodable(range.end - range.start);
  }
}

function undecodable(sizeBytes: number): Fault<CodecFault> {
  return new Fault<CodecFault>({ code: "FrameUndecodable", sizeBytes }, "a frame is not one plain MessagePack value");
}
