/**
 * The simulated consortium stays safe and recovers, for many seeds; and the same seed is the same run.
 */
import { describe, expect, test } from "vitest";
import { simulate } from "./world.ts";

const EVENTS = 2500;
const SEEDS_PER_TEST = 50;
const SEEDS = 600;
/** A bound for a machine that does other work as well; a block takes two seconds on an idle one. */
const TIMEOUT_MS = 300_000;
const blocks = Array.from({ length: SEEDS / SEEDS_PER_TEST }, (_, i) => 1 + i * SEEDS_PER_TEST);

describe("no schedule breaks an invariant or prevents recovery", () => {
  test.each(blocks)(
    `${SEEDS_PER_TEST} seeds from %i`,
    (from) => {
      for (let seed = from; seed < from + SEEDS_PER_TEST; seed++) {
        const { events, committed } = simulate({ seed, events: EVENTS });
        expect(events).toBeGreaterThan(EVENTS);
        expect(committed).toBeGreaterThan(0);
      }
    },
    TIMEOUT_MS,
  );
});

test("a seed is one run, whatever is logged", () => {
  for (const seed of [1, 7, 99]) {
    const once = simulate({ seed, events: EVENTS });
    const again = simulate({ seed, events: EVENTS, log: () => undefined });
    expect(again).toEqual(once);
  }
});

test("what a simulation is for does happen", () => {
  const total: Record<string, number> = {};
  for (let seed = 1; seed <= 40; seed++)
    for (const [what, count] of Object.entries(simulate({ seed, events: EVENTS }).coverage))
      total[what] = (total[what] ?? 0) + count;
  for (const [what, count] of Object.entries(total)) expect(count, what).toBeGreaterThan(20);
});

test("two seeds are two runs", () => {
  expect(simulate({ seed: 1, events: EVENTS }).hash).not.toBe(simulate({ seed: 2, events: EVENTS }).hash);
});
