/** What only the ledger store on disk can do: survive, be locked, be damaged, be full. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type LedgerStoreFault,
  LevelLedgerStore,
  openLedgerStore,
  readStoredLedger,
} from "../../../../node/host/ledger-store.ts";
import type { Fault } from "../../../../protocol/check.ts";
import { fakeEntry } from "../../../contract/fake-entry.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "ledger-"));
});
afterEach(() => rm(directory, { recursive: true }));

const ignore = { onDurable: () => {}, onFault: () => {} };
const code = (name: LedgerStoreFault["code"]) =>
  expect.objectContaining({ detail: expect.objectContaining({ code: name }) });

const level = () => new Level<Buffer, Buffer>(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });

async function stored(): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  for await (const entry of readStoredLedger(directory)) found.push(entry);
  return found;
}

test("a closed store is read back whole, and opened again goes on at its end", async () => {
  const entries = Array.from({ length: 100 }, (_, i) => fakeEntry(i * 200, i));
  const store = await openLedgerStore(directory, ignore);
  store.append(1, 1, entries.slice(0, 60));
  store.append(2, 61, entries.slice(60));
  store.commit(90);
  await store.close();
  expect(Buffer.concat(await stored()).equals(Buffer.concat(entries))).toBe(true);

  const faults: Array<Fault<LedgerStoreFault>> = [];
  const again = await openLedgerStore(directory, { ...ignore, onFault: (fault) => faults.push(fault) });
  expect(again.last()).toBe(100);
  again.truncate(3, 89);
  expect(faults).toEqual([code("LedgerCommitted")]);
  await again.close();
});

test("a store in use is refused with its directory", async () => {
  const store = await openLedgerStore(directory, ignore);
  await expect(openLedgerStore(directory, ignore)).rejects.toThrow(code("LedgerLocked"));
  await expect(stored()).rejects.toThrow(/stop that node first/);
  await store.close();
});

test("a directory without a ledger is not made into one by reading it", async () => {
  await expect(stored()).rejects.toThrow(code("LedgerMissing"));
});

test("somebody else's database is refused", async () => {
  const other = level();
  await other.put(Buffer.from("f"), Buffer.from("another format"));
  await other.close();
  await expect(openLedgerStore(directory, ignore)).rejects.toThrow(code("LedgerFormatUnknown"));
});

test("a value whose sizes do not add up is damage at its seqno", async () => {
  const store = await openLedgerStore(directory, ignore);
  store.append(1, 1, [fakeEntry(5, 1)]);
  await store.read(1, 1);
  store.append(2, 2, [fakeEntry(5, 2)]);
  await store.close();
  const database = level();
  const key = Buffer.from("650000000000000002", "hex");
  await database.put(key, (await database.get(key))!.subarray(0, 9));
  await database.close();
  await expect(stored()).rejects.toThrow(code("LedgerDamaged"));
});

test("a missing value is damage at the seqno that is missing", async () => {
  const store = await openLedgerStore(directory, ignore);
  for (let seqno = 1; seqno <= 3; seqno++) {
    store.append(seqno, seqno, [fakeEntry(5, seqno)]);
    await store.read(1, 1);
  }
  await store.close();
  const database = level();
  await database.del(Buffer.from("650000000000000002", "hex"));
  await database.close();
  await expect(stored()).rejects.toThrow(expect.objectContaining({ detail: { code: "LedgerDamaged", seqno: 2 } }));
});

test("a write that fails stops the store with the reason and is never called durable", async () => {
  const database = level();
  await database.open();
  const full = Object.assign(new Error("Database operation failed"), {
    cause: new Error("IO error: No space left on device"),
  });
  database.batch = (() => Promise.reject(full)) as unknown as typeof database.batch;
  const durable: number[] = [];
  const { promise, resolve } = Promise.withResolvers<Fault<LedgerStoreFault>>();
  const store = new LevelLedgerStore(database, { onDurable: (op) => durable.push(op), onFault: resolve });
  await store.start();
  store.append(1, 1, [fakeEntry(1, 1)]);
  const fault = await promise;
  expect(fault.detail.code).toBe("LedgerWriteFailed");
  expect(fault.message).toMatch(/No space left on device/);
  store.append(2, 2, [fakeEntry(1, 1)]);
  await store.close();
  expect(durable).toEqual([]);
});

test("an entry that does not name its own size is refused", async () => {
  const { promise, resolve } = Promise.withResolvers<Fault<LedgerStoreFault>>();
  const store = await openLedgerStore(directory, { ...ignore, onFault: resolve });
  store.append(1, 1, [fakeEntry(5, 1).subarray(0, 10)]);
  expect((await promise).detail).toEqual({ code: "LedgerGap", seqno: 1 });
  await store.close();
});
