/** Bytes that are framed as an entry; the rest of an entry does not concern a store. */
export function fakeEntry(sizeBytes: number, fill: number): Buffer {
  const entry = Buffer.alloc(8 + sizeBytes, fill);
  entry.writeUInt16LE(1, 0);
  entry.writeUIntLE(sizeBytes, 2, 6);
  return entry;
}
