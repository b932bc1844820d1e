import fc from "fast-check";
import { expect, test } from "vitest";
import { fromBase64, fromHex, fromUtf8, Reader, toBase64, toHex, Writer } from "../../../protocol/bytes.ts";
import { isFault } from "../../../protocol/check.ts";

const code = (run: () => unknown) => {
  try {
    run();
  } catch (error) {
    return ["NotHex", "NotBase64", "NotUtf8", "BytesTruncated", "BytesTrailing", "NumberTooLarge"].find((name) =>
      isFault(error, name),
    );
  }
  return undefined;
};

test("hex and base64 read back what they wrote", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(fromHex(toHex(bytes))).toEqual(Buffer.from(bytes));
      expect(fromBase64(toBase64(bytes))).toEqual(Buffer.from(bytes));
    }),
  );
});

test.each(["AB==", "AAB=", "A", "AA", "AAA", "AA==AA==", "A-==", " AA==", "AA==\n"])("%j is not base64", (text) => {
  expect(code(() => fromBase64(text))).toBe("NotBase64");
});

test.each(["A0", "0", "0g", " 00"])("%j is not hex", (text) => {
  expect(code(() => fromHex(text))).toBe("NotHex");
});

test("a byte that is no UTF-8 is refused", () => {
  expect(code(() => fromUtf8(Buffer.from([0x61, 0xff])))).toBe("NotUtf8");
});

test("a reader gives what a writer put, and never a byte more", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat(0xffffffff), fc.uint8Array(), (large, small, bytes) => {
      const written = new Writer(1)
        .u64(large)
        .u32(small)
        .u8(small % 256)
        .lp64(bytes)
        .done();
      const reader = new Reader(written);
      expect([reader.u64(), reader.u32(), reader.u8()]).toEqual([large, small, small % 256]);
      expect(reader.lp64()).toEqual(Buffer.from(bytes));
      reader.end();
      for (let cut = 0; cut < written.length; cut++) {
        const short = new Reader(written.subarray(0, cut));
        expect(
          code(() => {
            short.u64();
            short.u32();
            short.u8();
            short.lp64();
          }),
        ).toBe("BytesTruncated");
      }
    }),
    { numRuns: 50 },
  );
});

test("numbers beyond 2^53 and left-over bytes are refused", () => {
  expect(code(() => new Reader(Buffer.from("0000000000002000", "hex")).u64())).toBe("NumberTooLarge");
  expect(code(() => new Reader(Buffer.from("00", "hex")).end())).toBe("BytesTrailing");
});
