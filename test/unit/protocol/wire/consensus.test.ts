import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { concat, fromHex, toHex } from "../../../../protocol/bytes.ts";
import { Fault } from "../../../../protocol/check.ts";
import {
  type ConsensusMessage,
  decodeMessage,
  ENTRIES_MAX,
  encodeMessage,
} from "../../../../protocol/wire/consensus.ts";

/** A framed entry: version 1, flags, 48-bit size, content. */
function framed(size: number, fill = 0xee): Uint8Array {
  const bytes = Buffer.alloc(8 + size, fill);
  bytes.writeUInt8(1, 0);
  bytes.writeUInt8(0, 1);
  bytes.writeUIntLE(size, 2, 6);
  return bytes;
}

function encoded(message: ConsensusMessage, entries: readonly Uint8Array[] = []): Buffer {
  return concat(encodeMessage(message, entries));
}

function code(bytes: Uint8Array): string {
  try {
    decodeMessage(bytes);
  } catch (error) {
    if (error instanceof Fault) return error.detail.code;
    throw error;
  }
  return "accepted";
}

const append: ConsensusMessage = {
  kind: "append_entries",
  view: 3,
  prevSeqno: 9,
  prevView: 2,
  seqno: 11,
  viewOfSeqno: 3,
  leaderCommit: 8,
};
const entries = [framed(3), framed(0)];

describe("bytes are those of CCF's packed structs", () => {
  // raft_types.h, written out by hand: kind, then the fields in order, all u64 little-endian, flags u8.
  const golden: [string, ConsensusMessage, string][] = [
    [
      "a heartbeat, 57 bytes and an entry count of 0",
      { ...append, seqno: 9, viewOfSeqno: 2, view: 0x0102 },
      "0000000000000000 0900000000000000 0900000000000000 0201000000000000 0200000000000000" +
        "0800000000000000 0200000000000000 00 00000000",
    ],
    [
      "an acknowledgement",
      { kind: "append_entries_response", view: 3, lastSeqno: 11, success: true },
      "0100000000000000 0300000000000000 0b00000000000000 00",
    ],
    [
      "a refusal",
      { kind: "append_entries_response", view: 2, lastSeqno: 7, success: false },
      "0100000000000000 0200000000000000 0700000000000000 01",
    ],
    [
      "a request for a vote",
      { kind: "request_vote", view: 4, lastCommittableSeqno: 5, viewOfLastCommittable: 2 },
      "0300000000000000 0400000000000000 0500000000000000 0200000000000000",
    ],
    ["a vote", { kind: "request_vote_response", view: 4, granted: true }, "0400000000000000 0400000000000000 01"],
    ["a nomination", { kind: "propose_request_vote", view: 4 }, "0500000000000000 0400000000000000"],
    [
      "a request for a pre-vote",
      { kind: "request_pre_vote", view: 2 ** 33, lastCommittableSeqno: 5, viewOfLastCommittable: 2 },
      "0600000000000000 0000000002000000 0500000000000000 0200000000000000",
    ],
    [
      "a refused pre-vote",
      { kind: "request_pre_vote_response", view: 4, granted: false },
      "0700000000000000 0400000000000000 00",
    ],
  ];

  test.each(golden)("%s", (_, message, hex) => {
    const bytes = fromHex(hex.replaceAll(" ", ""));
    expect(toHex(encoded(message))).toBe(toHex(bytes));
    expect(decodeMessage(bytes)).toEqual({ message, entries: [] });
  });

  test("entries follow the header and their count, and are not copied on either side", () => {
    const parts = encodeMessage(append, entries);
    expect(parts.slice(1)).toEqual(entries);
    expect(parts[1]).toBe(entries[0]);
    const bytes = concat(parts);
    expect(bytes.length).toBe(57 + 4 + 11 + 8);
    const decoded = decodeMessage(bytes);
    expect(decoded.entries.map(toHex)).toEqual(entries.map(toHex));
    expect(decoded.entries[0]!.buffer).toBe(bytes.buffer);
  });
});

const number = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const anyMessage: fc.Arbitrary<[ConsensusMessage, Uint8Array[]]> = fc.oneof(
  fc
    .record({
      prevSeqno: fc.integer({ min: 1, max: 2 ** 50 }),
      prevView: fc.integer({ min: 1, max: 2 ** 50 }),
      risen: fc.nat(3),
      above: fc.nat(3),
      leaderCommit: number,
      sizes: fc.array(fc.nat(40), { maxLength: 6 }),
    })
    .map(({ prevSeqno, prevView, risen, above, leaderCommit, sizes }): [ConsensusMessage, Uint8Array[]] => {
      const viewOfSeqno = sizes.length === 0 ? prevView : prevView + risen;
      const seqno = prevSeqno + sizes.length;
      const view = viewOfSeqno + above;
      return [
        { kind: "append_entries", view, prevSeqno, prevView, seqno, viewOfSeqno, leaderCommit },
        sizes.map((size) => framed(size)),
      ];
    }),
  fc
    .record({ view: number, lastSeqno: number, success: fc.boolean() })
    .map((fields): [ConsensusMessage, Uint8Array[]] => [{ kind: "append_entries_response", ...fields }, []]),
  fc
    .record({ view: number, lastCommittableSeqno: number, viewOfLastCommittable: number, pre: fc.boolean() })
    .map(({ pre, ...fields }): [ConsensusMessage, Uint8Array[]] => [
      { kind: pre ? "request_pre_vote" : "request_vote", ...fields },
      [],
    ]),
  fc
    .record({ view: number, granted: fc.boolean(), pre: fc.boolean() })
    .map(({ pre, ...fields }): [ConsensusMessage, Uint8Array[]] => [
      { kind: pre ? "request_pre_vote_response" : "request_vote_response", ...fields },
      [],
    ]),
);

test("what is encoded is decoded again", () => {
  fc.assert(
    fc.property(anyMessage, ([message, sent]) => {
      const decoded = decodeMessage(encoded(message, sent));
      expect(decoded.message).toEqual(message);
      expect(decoded.entries.map(toHex)).toEqual(sent.map(toHex));
    }),
  );
});

describe("hostile bytes are refused", () => {
  test("cut anywhere, a message is refused", () => {
    const bytes = encoded(append, entries);
    for (let cut = 0; cut < bytes.length; cut++)
      expect(code(bytes.subarray(0, cut)), `cut at ${cut}`).not.toBe("accepted");
  });

  test("bytes left over are refused", () => {
    expect(code(concat([encoded(append, entries), Buffer.of(0)]))).toBe("BytesTrailing");
    expect(code(concat([encoded({ kind: "propose_request_vote", view: 1 }), Buffer.of(0)]))).toBe("BytesTrailing");
  });

  test.each([2, 8, 255])("kind %i is unknown", (kind) => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt8(kind, 0);
    expect(code(bytes)).toBe("ConsensusKindUnknown");
  });

  test("numbers beyond 2^53 are refused", () => {
    const bytes = encoded({ kind: "propose_request_vote", view: 1 });
    bytes.writeBigUInt64LE(2n ** 53n, 8);
    expect(code(bytes)).toBe("NumberTooLarge");
  });

  test("a flag is 0 or 1", () => {
    const bytes = encoded({ kind: "request_vote_response", view: 1, granted: true });
    bytes.writeUInt8(2, 16);
    expect(code(bytes)).toBe("ConsensusFlagUnknown");
  });

  /** The append with one u64 field replaced, by its position. */
  const withField = (position: number, value: number): Buffer => {
    const bytes = encoded(append, entries);
    bytes.writeBigUInt64LE(BigInt(value), 8 * position);
    return bytes;
  };

  test.each([
    ["ends before it begins", withField(1, 8)],
    ["has another number of entries than its range", withField(1, 12)],
    ["is of a view later than the sender's", withField(6, 4)],
    ["falls from a later view", withField(4, 4)],
    ["follows the empty ledger in a view", withField(2, 0)],
    ["follows an entry of no view", withField(4, 0)],
  ])("an append that %s is refused", (_, bytes) => {
    expect(code(bytes)).toBe("ConsensusRangeInvalid");
  });

  test("more entries than allowed are refused before they are looked at", () => {
    const bytes = encoded({ ...append, seqno: 9, viewOfSeqno: 2 });
    bytes.writeBigUInt64LE(BigInt(9 + ENTRIES_MAX + 1), 8);
    bytes.writeUInt32LE(ENTRIES_MAX + 1, 57);
    expect(code(bytes)).toBe("ConsensusRangeInvalid");
  });

  test("an entry of another version, or longer than what is there, is refused", () => {
    const bytes = encoded(append, entries);
    bytes.writeUInt8(2, 61);
    expect(code(bytes)).toBe("ConsensusEntryInvalid");
    bytes.writeUInt8(1, 61);
    bytes.writeUIntLE(2 ** 47, 63, 6);
    expect(code(bytes)).toBe("ConsensusEntryInvalid");
  });

  test("random bytes are decoded or refused with a Fault, nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(0, 1, 3, 4, 5, 6, 7), (bytes, kind) => {
        const framedBytes = concat([Buffer.of(kind, 0, 0, 0, 0, 0, 0, 0), bytes]);
        code(framedBytes);
      }),
    );
  });
});
