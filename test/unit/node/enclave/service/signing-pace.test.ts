import { expect, test } from "vitest";
import { SigningPace } from "../../../../../node/enclave/service/signing-pace.ts";

function after(count: number, roundMs: number): SigningPace {
  const pace = new SigningPace();
  pace.began(count, 1000);
  pace.committed(1000 + roundMs);
  return pace;
}

test("the first transaction, and one after a round of one, is signed at once", () => {
  expect(new SigningPace().gatherMs(1, 5)).toBe(0);
  expect(after(1, 8).gatherMs(1, 1008)).toBe(0);
});

test("after a round of many, the next waits for half as many, a quarter of the round at most", () => {
  const pace = after(60, 12);
  expect(pace.gatherMs(1, 1012)).toBe(3);
  expect(pace.gatherMs(29, 1013)).toBe(2);
  expect(pace.gatherMs(30, 1012)).toBe(0);
  expect(pace.gatherMs(1, 1015)).toBe(0);
});

test("nobody waits longer than five milliseconds, however long a round took", () => {
  expect(after(60, 4000).gatherMs(1, 5000)).toBe(5);
});

test("long after a round nobody waits", () => {
  expect(after(60, 12).gatherMs(1, 9000)).toBe(0);
});
