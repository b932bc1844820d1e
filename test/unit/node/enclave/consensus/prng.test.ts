import { expect, test } from "vitest";
import { Prng } from "../../../../../node/enclave/consensus/prng.ts";

test("a seed is a sequence, and another seed another one", () => {
  const draw = (seed: number): number[] =>
    Array.from(
      { length: 8 },
      (
        (prng) => () =>
          prng.next()
      )(new Prng(seed)),
    );
  expect(draw(1)).toEqual(draw(1));
  const firsts = new Set(Array.from({ length: 1000 }, (_, seed) => draw(seed).join()));
  expect(firsts.size).toBe(1000);
  expect(draw(5)).not.toEqual(draw(5 + 2 ** 32));
});

test("numbers below a bound are spread over all of them", () => {
  const prng = new Prng(3);
  const counts = [0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < 70_000; i++) counts[prng.below(7)]! += 1;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(600);
  expect(prng.below(0)).toBe(0);
  expect(prng.below(1)).toBe(0);
});
