import fc from "fast-check";
import { expect, test } from "vitest";
import { Durability } from "../../../../../node/enclave/consensus/durability.ts";

test("a report covers all operations up to the one it names", () => {
  const durability = new Durability(0);
  expect([durability.appended(3), durability.appended(5), durability.appended(9)]).toEqual([1, 2, 3]);
  expect(durability.stable).toBe(0);
  expect(durability.reached(2)).toBe(true);
  expect(durability.stable).toBe(5);
  durability.reached(3);
  expect(durability.stable).toBe(9);
});

test("a late report about entries that were rolled back says nothing about their successors", () => {
  const durability = new Durability(0);
  const old = durability.appended(9);
  durability.rolledBack(4);
  const renewed = durability.appended(9);
  durability.reached(old);
  expect(durability.stable).toBe(4);
  durability.reached(renewed - 1);
  expect(durability.stable).toBe(4);
  durability.reached(renewed);
  expect(durability.stable).toBe(9);
});

test("rolling back what is stable makes it unstable at once", () => {
  const durability = new Durability(7);
  durability.rolledBack(3);
  expect(durability.stable).toBe(3);
});

test("a report of an operation that was never given out is refused, a repeated one is not", () => {
  const durability = new Durability(0);
  const op = durability.appended(1);
  expect(durability.reached(op + 1)).toBe(false);
  expect(durability.reached(Number.NaN)).toBe(false);
  expect(durability.stable).toBe(0);
  expect(durability.reached(op)).toBe(true);
  expect(durability.reached(op)).toBe(true);
});

test("stable never exceeds what a disk that performs the same operations holds", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("append" as const), count: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ kind: fc.constant("rollback" as const), count: fc.nat(5) }),
    fc.record({ kind: fc.constant("complete" as const), count: fc.integer({ min: 1, max: 3 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const durability = new Durability(0);
      const ledger: number[] = [];
      const disk: number[] = [];
      const pending: { op: number; write: number[]; from: number }[] = [];
      let unique = 0;
      for (const { kind, count } of steps) {
        if (kind === "append") {
          const from = ledger.length;
          for (let i = 0; i < count; i++) ledger.push(++unique);
          pending.push({ op: durability.appended(ledger.length), write: ledger.slice(from), from });
        } else if (kind === "rollback") {
          ledger.length = Math.max(0, ledger.length - count);
          pending.push({ op: durability.rolledBack(ledger.length), write: [], from: ledger.length });
        } else {
          for (const { op, write, from } of pending.splice(0, count)) {
            disk.length = Math.min(disk.length, from);
            disk.push(...write);
            durability.reached(op);
          }
        }
        expect(disk.slice(0, durability.stable)).toEqual(ledger.slice(0, durability.stable));
      }
      for (const { op } of pending) durability.reached(op);
      expect(durability.stable).toBe(ledger.length);
    }),
  );
});
