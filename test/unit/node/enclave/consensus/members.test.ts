import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Configuration } from "../../../../../node/enclave/consensus/core.ts";
import { Members } from "../../../../../node/enclave/consensus/members.ts";

function nodes(ids: string): Configuration {
  return new Map([...ids].map((id) => [id, `host-${id}:1`]));
}

/** Members as `self` sees them after the given configurations, by seqno. */
function members(self: string, ...configurations: [number, string][]): Members {
  const made = new Members(self);
  for (const [seqno, ids] of configurations) made.configure(seqno, nodes(ids));
  return made;
}

describe("configurations", () => {
  test("an equal one is not a new one, another address is", () => {
    const all = members("a", [1, "abc"]);
    expect(all.configure(2, nodes("cba"))).toBe(false);
    expect(all.active.length).toBe(1);
    expect(all.configure(3, new Map([...nodes("ab"), ["c", "moved:2"]]))).toBe(true);
    expect(all.active.map(({ seqno }) => seqno)).toEqual([1, 3]);
  });

  test("lapse when a later one is committed, and not before", () => {
    const all = members("a", [1, "a"], [5, "abc"], [9, "ab"]);
    expect(all.commit(4).lapsed).toBe(false);
    expect(all.commit(8)).toEqual({ lapsed: true, released: [] });
    expect(all.active.map(({ seqno }) => seqno)).toEqual([5, 9]);
    all.commit(9);
    expect(all.active.map(({ seqno }) => seqno)).toEqual([9]);
  });

  test("are undone by a rollback, and retirements with them", () => {
    const all = members("a", [1, "abc"], [5, "ab"]);
    expect([...all.peers().keys()]).toEqual(["b", "c"]);
    all.rollback(4);
    expect(all.newest).toEqual(nodes("abc"));
    expect(all.unrecorded(9)).toEqual([]);
  });
});

describe("decisions need a majority of every active configuration", () => {
  test("so three of five do not decide when they are one of three of the old", () => {
    const all = members("c", [1, "abc"], [5, "cde"]);
    const voted = (ids: string) => (node: string) => ids.includes(node);
    expect(all.quorum(voted("cde"))).toBe(false);
    expect(all.quorum(voted("abc"))).toBe(false);
    expect(all.quorum(voted("bcd"))).toBe(true);
    expect(all.quorumOfUnion(voted("cde"))).toBe(true);
  });

  test("and without a configuration nothing is decided", () => {
    const none = new Members("a");
    expect(none.quorum(() => true)).toBe(false);
    expect(none.agreed(() => 9)).toBe(0);
  });

  test("what all agree on is what every configuration agrees on by itself", () => {
    const id = fc.constantFrom(..."abcdefg");
    const ids = fc.uniqueArray(id, { minLength: 1, maxLength: 7 }).map((list) => list.join(""));
    fc.assert(
      fc.property(
        fc.array(ids, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(9), { minLength: 7, maxLength: 7 }),
        (sets, held) => {
          const all = new Members("a");
          sets.forEach((set, i) => all.configure(i + 1, nodes(set)));
          const heldBy = (node: string): number => held["abcdefg".indexOf(node)]!;
          const agreed = all.agreed(heldBy);
          expect(all.quorum((node) => heldBy(node) >= agreed)).toBe(true);
          expect(all.quorum((node) => heldBy(node) > agreed)).toBe(false);
        },
      ),
    );
  });
});

describe("retirement", () => {
  test("goes through its phases as entries come and commit", () => {
    const all = members("c", [1, "abc"]);
    expect(all.phase(4)).toBeUndefined();
    all.configure(5, nodes("ab"));
    expect(all.phase(4)).toBe("Ordered");
    all.signed(7);
    all.signed(8);
    expect(all.phase(4)).toBe("Signed");
    expect(all.phase(7)).toBe("Completed");
    all.commit(8);
    all.record(9, ["c"]);
    all.signed(10);
    expect(all.phase(8)).toBe("Completed");
    all.commit(10);
    expect(all.phase(10)).toBe("RetiredCommitted");
    expect(all.retiredCommitted).toBe(true);
  });

  test("is undone step by step by rollbacks", () => {
    const all = members("c", [1, "abc"], [5, "ab"]);
    all.signed(7);
    all.rollback(6);
    expect(all.phase(4)).toBe("Ordered");
    all.signed(7);
    all.record(8, ["c"]);
    all.rollback(7);
    all.commit(7);
    expect(all.phase(7)).toBe("Completed");
    const other = members("c", [1, "abc"], [5, "ab"]);
    other.signed(7);
    other.rollback(4);
    expect(other.phase(4)).toBeUndefined();
  });

  test("of others: they stay peers, without a vote, until the record is committed", () => {
    const all = members("a", [1, "abc"], [5, "ab"]);
    all.signed(6);
    all.commit(6);
    expect(all.unrecorded(6)).toEqual(["c"]);
    expect(all.voters()).toEqual(["b"]);
    expect([...all.peers()]).toEqual([
      ["b", "host-b:1"],
      ["c", "host-c:1"],
    ]);
    all.record(7, ["c"]);
    expect(all.unrecorded(6)).toEqual([]);
    all.signed(8);
    expect(all.commit(8)).toEqual({ lapsed: false, released: ["c"] });
    expect([...all.peers().keys()]).toEqual(["b"]);
  });

  test("is not asked to be recorded before it is committed", () => {
    const all = members("a", [1, "abc"], [5, "ab"]);
    expect(all.unrecorded(4)).toEqual([]);
  });
});

test("the newest configuration with a node ranks successors", () => {
  const all = members("a", [1, "abc"], [5, "abd"]);
  expect(["a", "c", "d", "x"].map((node) => all.newestWith(node))).toEqual([5, 1, 5, -1]);
});
