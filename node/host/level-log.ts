/**
 * Is the write-ahead log of a level database whole?
 *
 * What was written last lies in this log until level has moved it into tables. When a record there is damaged, level
 * opens the database without it, without a word, and removes the log: a ledger would end earlier than it does, and the
 * evidence would be gone. So the log is looked at before level sees it. A record that the file ends in the middle of is no
 * damage: a crash tore it, and nobody was told that it was durable.
 *
 *   blocks of 32 KiB, each a row of records that do not cross its end; fewer than 7 bytes at its end are unused
 *   record: checksum u32 LE (CRC-32C over type and data, rotated and offset) | length u16 LE | type u8 | data
 *
 * (LevelDB 1.20 `doc/log_format.md`, `util/crc32c.h`.)
 *
 * Untrusted. Pure.
 */

const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
const MASK_OFFSET = 0xa282ead8;

/** Where the first damaged record begins; undefined if every record is whole. */
export function damageInLog(log: Buffer): number | undefined {
  let at = 0;
  while (at + HEADER_BYTES <= log.length) {
    const blockEnd = at - (at % BLOCK_BYTES) + BLOCK_BYTES;
    const lengthBytes = log.readUInt16LE(at + 4);
    const end = at + HEADER_BYTES + lengthBytes;
    const unused = blockEnd - at < HEADER_BYTES || (log[at + 6] === 0 && lengthBytes === 0);
    if (unused) {
      at = blockEnd;
      continue;
    }
    if (end > log.length) return log.length < blockEnd ? undefined : at;
    if (end > blockEnd) return at;
    if (unmasked(log.readUInt32LE(at)) !== crc32c(log.subarray(at + 6, end))) return at;
    at = end;
  }
  return undefined;
}

/** Checksums are stored changed, so that a checksum over bytes that hold checksums is worth something. */
function unmasked(stored: number): number {
  const rotated = (stored - MASK_OFFSET) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
