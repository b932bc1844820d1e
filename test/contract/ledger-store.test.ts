/** What every ledger store promises, run against the one on disk and the one in memory. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import {
  type LedgerStore,
  type LedgerStoreFault,
  type LedgerStoreParts,
  openLedgerStore,
  READ_BYTES_MAX,
  READ_ENTRIES_MAX,
} from "../../node/host/ledger-store.ts";
import type { Fault } from "../../protocol/check.ts";
import { fakeEntry } from "./fake-entry.ts";
import { createMemoryLedgerStore } from "./memory-ledger-store.ts";

const cleanups: Array<() => Promise<void>> = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const stores: Array<[string, (parts: LedgerStoreParts) => Promise<LedgerStore>]> = [
  ["in memory", async (parts) => createMemoryLedgerStore(parts)],
  [
    "on disk",
    async (parts) => {
      const directory = await mkdtemp(join(tmpdir(), "ledger-"));
      const store = await openLedgerStore(directory, parts);
      cleanups.push(async () => {
        await store.close();
        await rm(directory, { recursive: true });
      });
      return store;
    },
  ],
];

describe.each(stores)("a ledger store %s", (_, make) => {
  async function open() {
    const durable: number[] = [];
    const faults: Array<Fault<LedgerStoreFault>> = [];
    let wake = () => {};
    const store = await make({
      onDurable: (op) => {
        durable.push(op);
        wake();
      },
      onFault: (fault) => faults.push(fault),
    });
    const durableUpTo = async (op: number) => {
      while ((durable.at(-1) ?? 0) < op) await new Promise<void>((resolve) => (wake = resolve));
    };
    return { store, durable, durableUpTo, faults };
  }

  test("is empty at first", async () => {
    const { store } = await open();
    expect(store.last()).toBe(0);
    expect(await store.read(1, 100)).toEqual([]);
  });

  test("gives back what it was given, also before that is durable", async () => {
    const { store, durableUpTo } = await open();
    store.append(1, 1, [fakeEntry(3, 1), fakeEntry(0, 2)]);
    store.append(2, 3, [fakeEntry(70_000, 3)]);
    expect(store.last()).toBe(3);
    expect(await store.read(1, 3)).toEqual([fakeEntry(3, 1), fakeEntry(0, 2), fakeEntry(70_000, 3)]);
    expect(await store.read(2, 2)).toEqual([fakeEntry(0, 2)]);
    expect(await store.read(3, 99)).toEqual([fakeEntry(70_000, 3)]);
    expect(await store.read(4, 99)).toEqual([]);
    expect(await store.read(0, 2)).toEqual([]);
    await durableUpTo(2);
  });

  test("reports operations durable in order, the last one always", async () => {
    const { store, durable, durableUpTo } = await open();
    for (let op = 1; op <= 200; op++) store.append(op, op, [fakeEntry(10, op)]);
    await durableUpTo(200);
    expect(durable).toEqual([...durable].sort((a, b) => a - b));
    expect(durable.at(-1)).toBe(200);
  });

  test.each([0, 1, 2, 3, 4, 5])(
    "an operation given %i jobs after another became durable becomes durable too",
    async (jobs) => {
      const LAST = 20;
      const { promise, resolve } = Promise.withResolvers<void>();
      const store = await make({
        onFault: () => {},
        onDurable: async (op) => {
          if (op === LAST) return resolve();
          for (let i = 0; i < jobs; i++) await undefined;
          store.append(op + 1, op + 1, [fakeEntry(10, op)]);
        },
      });
      store.append(1, 1, [fakeEntry(10, 1)]);
      await promise;
      expect(store.last()).toBe(LAST);
    },
  );

  test("removes the tail, within what was written together too, and goes on from there", async () => {
    const { store, durableUpTo } = await open();
    store.append(
      1,
      1,
      [1, 2, 3, 4, 5].map((n) => fakeEntry(n, n)),
    );
    await durableUpTo(1);
    store.append(2, 6, [fakeEntry(6, 6)]);
    store.truncate(3, 3);
    expect(store.last()).toBe(3);
    store.append(4, 4, [fakeEntry(44, 44)]);
    expect(await store.read(1, 9)).toEqual([fakeEntry(1, 1), fakeEntry(2, 2), fakeEntry(3, 3), fakeEntry(44, 44)]);
    store.truncate(5, 0);
    await durableUpTo(5);
    expect(await store.read(1, 9)).toEqual([]);
  });

  test("a truncation beyond the end changes nothing", async () => {
    const { store, durableUpTo } = await open();
    store.append(1, 1, [fakeEntry(1, 1)]);
    store.truncate(2, 5);
    await durableUpTo(2);
    expect(store.last()).toBe(1);
    expect(await store.read(1, 5)).toEqual([fakeEntry(1, 1)]);
  });

  test("a read is bounded in bytes and in entries", async () => {
    const { store } = await open();
    const large = fakeEntry(READ_BYTES_MAX / 2, 1);
    store.append(1, 1, [large, large, large]);
    expect(await store.read(1, 3)).toHaveLength(1);
    store.append(
      2,
      4,
      Array.from({ length: READ_ENTRIES_MAX + 5 }, () => fakeEntry(1, 1)),
    );
    expect(await store.read(4, 1e9)).toHaveLength(READ_ENTRIES_MAX);
  });

  test.each<[string, LedgerStoreFault["code"], (store: LedgerStore) => void]>([
    ["a gap", "LedgerGap", (store) => store.append(2, 3, [fakeEntry(1, 1)])],
    ["an entry that exists", "LedgerGap", (store) => store.append(2, 1, [fakeEntry(1, 1)])],
    ["commit of an entry never given", "LedgerGap", (store) => store.commit(2)],
    [
      "removal of what is committed",
      "LedgerCommitted",
      (store) => {
        store.commit(1);
        store.truncate(2, 0);
      },
    ],
  ])("%s is a fault, and nothing is durable after it", async (_name, code, act) => {
    const { store, faults, durable, durableUpTo } = await open();
    store.append(1, 1, [fakeEntry(1, 1)]);
    await durableUpTo(1);
    act(store);
    expect(faults.map((fault) => fault.detail.code)).toEqual([code]);
    store.append(9, 2, [fakeEntry(1, 1)]);
    await store.read(1, 1);
    expect(durable).toEqual([1]);
  });

  test("any sequence of operations leaves what an array would hold", async () => {
    const step = fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({
          append: fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 1, maxLength: 5 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ truncate: fc.nat(100) }) },
      { weight: 1, arbitrary: fc.record({ pause: fc.constant(true) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const { store, durableUpTo } = await open();
        const model: Buffer[] = [];
        let op = 0;
        for (const what of steps) {
          if ("append" in what) {
            const entries = what.append.map((size) => fakeEntry(size, size % 256));
            store.append(++op, model.length + 1, entries);
            model.push(...entries);
          } else if ("truncate" in what) {
            const after = what.truncate % (model.length + 1);
            store.truncate(++op, after);
            model.length = after;
          } else await durableUpTo(op);
        }
        expect(store.last()).toBe(model.length);
        const found: Uint8Array[] = [];
        while (found.length < model.length) found.push(...(await store.read(found.length + 1, model.length)));
        expect(found.length).toBe(model.length);
        expect(Buffer.concat(found).equals(Buffer.concat(model))).toBe(true);
      }),
      { numRuns: 25 },
    );
  });
});
