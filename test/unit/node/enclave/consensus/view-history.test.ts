import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NO_VIEW, ViewHistory } from "../../../../../node/enclave/consensus/view-history.ts";

test("a view without entries repeats the start of the next", () => {
  const history = new ViewHistory([5, 10, 10]);
  expect([4, 5, 9, 10, 99].map((seqno) => history.viewAt(seqno))).toEqual([NO_VIEW, 1, 1, 3, 3]);
  expect([1, 2, 3, 4].map((view) => history.startOf(view))).toEqual([5, 10, 10, 0]);
  expect([1, 2, 3].map((view) => history.endOf(view))).toEqual([9, 9, undefined]);
});

test("a service that begins in view 2 has its first entry there", () => {
  const history = new ViewHistory();
  history.update(1, 2);
  expect(history.toArray()).toEqual([1, 1]);
  expect(history.viewAt(0)).toBe(NO_VIEW);
  expect(history.viewAt(1)).toBe(2);
});

test("updating with a view that is known changes nothing", () => {
  const history = new ViewHistory([1, 1]);
  history.update(7, 2);
  history.update(7, 1);
  expect(history.toArray()).toEqual([1, 1]);
});

describe("rolled back", () => {
  test("to the entry before a view, that view and the empty ones before it are forgotten", () => {
    const history = new ViewHistory([1, 1, 5, 5]);
    history.rollback(5);
    expect(history.toArray()).toEqual([1, 1, 5, 5]);
    history.rollback(4);
    expect(history.toArray()).toEqual([1, 1]);
    history.rollback(0);
    expect(history.toArray()).toEqual([]);
  });

  test("it answers as a plain list of views does", () => {
    const steps = fc.array(fc.record({ grow: fc.nat(4), rise: fc.nat(2), back: fc.nat(6) }), { maxLength: 30 });
    fc.assert(
      fc.property(steps, (plan) => {
        const history = new ViewHistory();
        const plain: number[] = [];
        for (const { grow, rise, back } of plan) {
          const view = Math.max(1, (plain.at(-1) ?? 0) + rise);
          for (let i = 0; i < grow; i++) {
            plain.push(view);
            history.update(plain.length, view);
          }
          plain.length = Math.max(0, plain.length - back);
          history.rollback(plain.length);
          plain.forEach((expected, i) => expect(history.viewAt(i + 1)).toBe(expected));
        }
      }),
    );
  });
});
