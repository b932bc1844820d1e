import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { afterAll, beforeAll, expect, test } from "vitest";
import { damageInLog } from "../../../../node/host/level-log.ts";

/** A log that level itself has written: short records, and one that crosses two blocks. */
let log: Buffer;
const directory = mkdtempSync(join(tmpdir(), "level-log-"));
beforeAll(async () => {
  const database = new Level<string, string>(directory, { compression: false });
  await database.put("a", "1");
  await database.put("b", "2".repeat(100));
  await database.put("c", "3".repeat(70_000));
  await database.put("d", "4");
  await database.close();
  const name = readdirSync(directory).find((file) => file.endsWith(".log"));
  log = readFileSync(join(directory, name!));
  expect(log.length).toBeGreaterThan(70_000);
});
afterAll(() => rmSync(directory, { recursive: true }));

const changed = (at: number, bit: number) => {
  const bytes = Buffer.from(log);
  bytes[at]! ^= 1 << bit;
  return bytes;
};

/** Where records begin. */
function records(): number[] {
  const starts: number[] = [];
  for (let at = 0; at + 7 <= log.length; ) {
    if (32_768 - (at % 32_768) < 7) at += 32_768 - (at % 32_768);
    starts.push(at);
    at += 7 + log.readUInt16LE(at + 4);
  }
  return starts;
}

test("a log as level writes it is whole", () => expect(damageInLog(log)).toBeUndefined());

test("a changed bit is damage, and the record that holds it is named", () => {
  const starts = records();
  expect(starts.length).toBeGreaterThanOrEqual(6);
  for (const [index, start] of starts.entries()) {
    const end = starts[index + 1] ?? log.length;
    // Checksum, type, and data at its beginning, middle and end.
    for (const at of [0, 3, 6, 7, (end - start) >> 1, end - start - 1])
      for (const bit of [0, 7]) expect(damageInLog(changed(start + at, bit)), `byte ${start + at}`).toBe(start);
  }
});

test("a changed length is damage wherever something follows", () => {
  for (const start of records().filter((at) => at < 65_536))
    for (const bit of [0, 7]) expect(damageInLog(changed(start + 4, bit)), `record ${start}`).toBe(start);
});

test("a log that ends in the middle of a record was torn by a crash, which is no damage", () => {
  for (const length of [0, 1, 6, 7, 8, 20, 100, 32_767, 32_768, 32_770, 65_535, log.length - 1])
    expect(damageInLog(log.subarray(0, length)), `${length} bytes`).toBeUndefined();
});

test("space that was reserved and never written is no damage", () => {
  expect(damageInLog(Buffer.concat([log, Buffer.alloc(40_000)]))).toBeUndefined();
});
