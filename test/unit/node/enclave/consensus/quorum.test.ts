import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { majority, reachedByMajority } from "../../../../../node/enclave/consensus/quorum.ts";

test("any two majorities share a node, and without f of 2f+1 nodes one is left", () => {
  for (let nodes = 1; nodes <= 13; nodes++) {
    expect(2 * majority(nodes)).toBeGreaterThan(nodes);
    expect(majority(nodes)).toBeLessThanOrEqual(nodes - Math.floor((nodes - 1) / 2));
  }
});

describe("what a majority has reached", () => {
  /** By definition: the highest number that so many have. */
  const byDefinition = (numbers: readonly number[]): number =>
    Math.max(
      0,
      ...numbers.filter((bound) => numbers.filter((number) => number >= bound).length >= majority(numbers.length)),
    );

  test("for all choices of up to five nodes from 0 to 3", () => {
    const all = (length: number): number[][] =>
      length === 0 ? [[]] : all(length - 1).flatMap((rest) => [0, 1, 2, 3].map((number) => [number, ...rest]));
    for (let nodes = 0; nodes <= 5; nodes++)
      for (const numbers of all(nodes))
        expect(reachedByMajority([...numbers]), numbers.join()).toBe(byDefinition(numbers));
  });

  test("for any", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 13 }), (numbers) => {
        expect(reachedByMajority([...numbers])).toBe(byDefinition(numbers));
      }),
    );
  });
});
