import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Log } from "../../../../../node/enclave/consensus/log.ts";

/** One entry a letter: a digit is its view, followed by `s` where it is a signature. Every entry has 100 bytes. */
function logOf(text: string): Log {
  const log = new Log();
  for (const [, view, signature] of text.matchAll(/(\d)(s?)/g)) log.append(Number(view), 100, signature === "s");
  return log;
}

describe("commit points", () => {
  test("are signatures, rounded down", () => {
    const log = logOf("2 2s 2 2s 2");
    expect([0, 1, 2, 3, 4, 5].map((seqno) => log.committableUpTo(seqno))).toEqual([0, 0, 2, 2, 4, 4]);
    expect(log.lastCommittable).toBe(4);
  });

  test("never round below what is committed", () => {
    const log = logOf("2 2s 2 2s 2");
    log.commitTo(2);
    expect(log.committableUpTo(1)).toBe(2);
    log.commitTo(4);
    expect(log.lastCommittable).toBe(4);
  });

  test("are forgotten when rolled back", () => {
    const log = logOf("2 2s 2 2s 2");
    log.rollback(3);
    expect(log.lastCommittable).toBe(2);
    expect(log.last).toBe(3);
    expect(log.viewAt(4)).toBeUndefined();
  });
});

describe("the best match for a view and a seqno", () => {
  // Seqnos:        1 2  3 4  5 6 7
  const log = logOf("2 2s 3 3s 5 5 5s");

  test.each([
    [5, 7, 7],
    [5, 99, 7],
    [9, 6, 6],
    [4, 7, 4],
    [3, 7, 4],
    [3, 3, 3],
    [2, 7, 2],
    [1, 7, 0],
    [0, 0, 0],
  ])("of view %i at %i is %i", (view, seqno, best) => {
    expect(log.bestMatch(view, seqno)).toBe(best);
  });

  test("is never beyond a true common prefix that reaches the seqno asked for", () => {
    // Two ledgers that share a prefix and then are of different views: the estimate must reach down to the prefix in
    // finitely many exchanges, each side answering with its own estimate.
    const tail = fc.array(fc.nat(2), { maxLength: 6 });
    fc.assert(
      fc.property(fc.nat(5), tail, tail, (shared, a, b) => {
        const build = (rises: readonly number[], offset: number): Log => {
          const ledger = new Log();
          for (let i = 0; i < shared; i++) ledger.append(2, 1, true);
          let view = 3 + offset;
          for (const rise of rises) ledger.append((view += 2 * rise), 1, true);
          return ledger;
        };
        const leader = build(a, 0);
        const follower = build(b, 1);
        let probe = leader.last;
        for (let round = 0; ; round++) {
          expect(round).toBeLessThan(20);
          if (follower.viewAt(probe) === leader.viewAt(probe)) break;
          const match = follower.bestMatch(leader.viewAt(probe)!, probe);
          const next = leader.bestMatch(follower.viewAt(match)!, match);
          expect(next).toBeLessThan(probe);
          probe = next;
        }
        expect(probe).toBe(shared);
      }),
    );
  });
});

describe("slices", () => {
  test("hold as many entries as fit, and at least one", () => {
    const log = logOf("2 2 2 2s");
    expect(log.sliceAfter(0, 4, 250)).toEqual({ last: 2, sizeBytes: 200 });
    expect(log.sliceAfter(2, 4, 250)).toEqual({ last: 4, sizeBytes: 200 });
    expect(log.sliceAfter(0, 4, 1)).toEqual({ last: 1, sizeBytes: 100 });
    expect(log.sliceAfter(0, 1, 999)).toEqual({ last: 1, sizeBytes: 100 });
    expect(log.sliceAfter(4, 4, 999)).toEqual({ last: 4, sizeBytes: 0 });
  });

  test("never cross a view", () => {
    const log = logOf("2 2s 4 4s");
    expect(log.sliceAfter(0, 4, 999).last).toBe(2);
    expect(log.sliceAfter(2, 4, 999).last).toBe(4);
  });

  test("do not begin before a snapshot, whose entries are not here", () => {
    const log = new Log(10, [1, 1, 5]);
    log.append(3, 100, true);
    expect(log.sliceAfter(9, 11, 999).last).toBe(9);
    expect(log.sliceAfter(10, 11, 999).last).toBe(11);
    expect(log.viewAt(4)).toBe(2);
    expect(log.viewAt(10)).toBe(3);
  });

  test("count on after many entries", () => {
    const log = new Log();
    for (let i = 0; i < 5000; i++) log.append(2, i, false);
    expect(log.sliceAfter(4000, 5000, 4000 + 4001).last).toBe(4002);
  });
});

test("the first conflict is the first entry held here of another view", () => {
  const log = logOf("2 2s 3 3s");
  expect(log.firstConflict(1, 2, 2)).toBeUndefined();
  expect(log.firstConflict(1, 4, 2)).toBe(3);
  expect(log.firstConflict(3, 9, 3)).toBeUndefined();
  expect(log.firstConflict(3, 9, 4)).toBe(3);
  expect(log.firstConflict(5, 9, 4)).toBeUndefined();
});
