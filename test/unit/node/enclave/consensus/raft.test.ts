/**
 * Single rules of the core, one node at a time. How nodes act together is in test/scenarios and test/sim.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Configuration, Core, Effect, EntryInfo, Input } from "../../../../../node/enclave/consensus/core.ts";
import { createRaft, type Initial } from "../../../../../node/enclave/consensus/raft.ts";
import type { AppendEntries, ConsensusMessage } from "../../../../../protocol/wire/consensus.ts";

const ELECTION_MS = 1000;
const MESSAGE_MS = 100;

function core(self: string, initial: Initial = { kind: "join" }): Core {
  const timeouts = { messageTimeoutMs: MESSAGE_MS, electionTimeoutMs: ELECTION_MS };
  return createRaft({ self, ...timeouts, seed: 1, appendBytesMax: 1000 }, initial);
}

function nodes(ids: string): Configuration {
  return new Map([...ids].map((id) => [id, `host-${id}:1`]));
}

/** Entries from a text such as `2 2s`: the view of each, `s` for a signature; `configuration` goes with the first. */
function entries(first: number, text: string, configuration?: string): EntryInfo[] {
  return [...text.matchAll(/(\d)(s?)/g)].map(([, view, signature], i) => ({
    seqno: first + i,
    view: Number(view),
    committable: signature === "s",
    size: 100,
    ...(i === 0 && configuration !== undefined && { configuration: nodes(configuration) }),
  }));
}

function append(fields: Partial<AppendEntries> = {}): AppendEntries {
  return {
    kind: "append_entries",
    view: 2,
    prevSeqno: 0,
    prevView: 0,
    seqno: 0,
    viewOfSeqno: 0,
    leaderCommit: 0,
    ...fields,
  };
}

function receive(node: Core, from: string, message: ConsensusMessage): readonly Effect[] {
  return node.step({ kind: "received", from, message });
}

function kinds(effects: readonly Effect[]): string[] {
  return effects.map(({ kind }) => kind);
}

function sent(effects: readonly Effect[]): ConsensusMessage[] {
  return effects.flatMap((effect) => (effect.kind === "send" ? [effect.message] : []));
}

/** A follower of `a` in view 2 with `2 2s` of the configuration abc on disk, nothing committed. */
function follower(self = "b"): Core {
  const node = core(self);
  receive(node, "a", append({ seqno: 2, viewOfSeqno: 2 }));
  node.step({ kind: "applied", entries: entries(1, "2 2s", "abc") });
  node.step({ kind: "stable", op: 1 });
  return node;
}

/** A leader of view 2 with the same. */
function leader(): Core {
  const node = core("a", { kind: "start", view: 2 });
  node.step({ kind: "replicate", view: 2, entries: entries(1, "2 2s", "abc") });
  node.step({ kind: "stable", op: 1 });
  return node;
}

describe("the founder of a service", () => {
  test("leads from birth and commits its genesis once that is signed and stable", () => {
    const node = core("a", { kind: "start", view: 2 });
    expect(node.status()).toMatchObject({ role: "leader", view: 2, leader: "a", last: 0 });
    expect(kinds(node.step({ kind: "replicate", view: 2, entries: entries(1, "2", "a") }))).toEqual(["persist"]);
    expect(node.step({ kind: "stable", op: 1 })).toEqual([]);
    expect(kinds(node.step({ kind: "replicate", view: 2, entries: entries(2, "2s") }))).toEqual(["persist"]);
    expect(node.step({ kind: "stable", op: 2 })).toEqual([{ kind: "commit", seqno: 2 }]);
    expect(node.viewHistory()).toEqual([1, 1]);
  });

  test("does not step down while it has nobody to hear from", () => {
    const node = core("a", { kind: "start", view: 2 });
    node.step({ kind: "tick", elapsedMs: 10 * ELECTION_MS });
    expect(node.status().role).toBe("leader");
  });
});

describe("entries of the leader", () => {
  test("wait for a signature, for enough bytes, or for the message timeout", () => {
    const node = leader();
    for (const from of ["b", "c"])
      receive(node, from, { kind: "append_entries_response", view: 2, lastSeqno: 2, success: true });
    expect(sent(node.step({ kind: "replicate", view: 2, entries: entries(3, "2 2") }))).toEqual([]);
    expect(sent(node.step({ kind: "replicate", view: 2, entries: entries(5, "2 2s") })).length).toBe(2);
    expect(sent(node.step({ kind: "replicate", view: 2, entries: entries(7, "2".repeat(9)) }))).toEqual([]);
    expect(sent(node.step({ kind: "replicate", view: 2, entries: entries(16, "2") })).length).toBe(2);
    expect(sent(node.step({ kind: "replicate", view: 2, entries: entries(17, "2") }))).toEqual([]);
    const late = sent(node.step({ kind: "tick", elapsedMs: MESSAGE_MS }));
    expect(late).toMatchObject([
      { prevSeqno: 16, seqno: 17 },
      { prevSeqno: 16, seqno: 17 },
    ]);
  });

  test("are refused without effect when it leads another view, or not at all", () => {
    const node = leader();
    expect(node.step({ kind: "replicate", view: 3, entries: entries(3, "3") })).toEqual([]);
    expect(follower().step({ kind: "replicate", view: 2, entries: entries(3, "2") })).toEqual([]);
    expect(node.status().last).toBe(2);
  });

  test("that do not join on stop the node", () => {
    expect(kinds(leader().step({ kind: "replicate", view: 2, entries: entries(4, "2") }))).toEqual(["halt"]);
  });

  test("go to a peer that has nothing in slices, each after the answer to the one before", () => {
    const node = leader();
    node.step({ kind: "replicate", view: 2, entries: entries(3, `${"2".repeat(27)}2s`) });
    const refused = { kind: "append_entries_response", view: 2, lastSeqno: 0, success: false } as const;
    const first = node.step({ kind: "received", from: "b", message: refused });
    expect(first).toMatchObject([{ kind: "send", to: "b", entries: { first: 1, last: 10 } }]);
    expect(receive(node, "b", refused)).toEqual([]);
    const then = receive(node, "b", { kind: "append_entries_response", view: 2, lastSeqno: 10, success: true });
    expect(then.flatMap((effect) => (effect.kind === "send" ? [effect.entries] : []))).toEqual([
      { first: 11, last: 20 },
      { first: 21, last: 30 },
    ]);
  });
});

describe("an acknowledgement", () => {
  test("of another view, or below what is known, changes nothing", () => {
    const node = leader();
    const ack = (view: number, lastSeqno: number): readonly Effect[] =>
      receive(node, "b", { kind: "append_entries_response", view, lastSeqno, success: true });
    ack(1, 2);
    expect(node.status().peers.get("b")?.match).toBe(0);
    expect(kinds(ack(2, 2))).toEqual(["commit"]);
    ack(2, 1);
    expect(node.status().peers.get("b")?.match).toBe(2);
  });

  test("by a stranger is ignored", () => {
    const node = leader();
    expect(receive(node, "x", { kind: "append_entries_response", view: 9, lastSeqno: 2, success: true })).toEqual([]);
    expect(node.status().view).toBe(2);
  });

  test("of what was never sent stops the node", () => {
    const effects = receive(leader(), "b", { kind: "append_entries_response", view: 2, lastSeqno: 3, success: true });
    expect(effects).toMatchObject([{ kind: "halt", reason: expect.stringContaining("never sent") }]);
  });

  test("waits for the disk, and then names what is both proven and stable", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 4, viewOfSeqno: 2 }));
    expect(sent(node.step({ kind: "applied", entries: entries(3, "2 2s") }))).toEqual([]);
    receive(node, "a", append({ prevSeqno: 4, prevView: 2, seqno: 6, viewOfSeqno: 2 }));
    expect(sent(node.step({ kind: "applied", entries: entries(5, "2 2s") }))).toEqual([]);
    expect(sent(node.step({ kind: "stable", op: 2 }))).toMatchObject([{ success: true, lastSeqno: 4 }]);
    expect(sent(node.step({ kind: "stable", op: 3 }))).toMatchObject([{ success: true, lastSeqno: 6 }]);
  });

  test("meanwhile a heartbeat is answered with what is stable", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 4, viewOfSeqno: 2 }));
    node.step({ kind: "applied", entries: entries(3, "2 2s") });
    const heartbeat = append({ prevSeqno: 4, prevView: 2, seqno: 4, viewOfSeqno: 2 });
    expect(sent(receive(node, "a", heartbeat))).toMatchObject([{ success: true, lastSeqno: 2 }]);
  });

  test("is not owed to the leader of an earlier view any more", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 4, viewOfSeqno: 2 }));
    node.step({ kind: "applied", entries: entries(3, "2 2s") });
    receive(node, "c", { kind: "request_vote", view: 3, lastCommittableSeqno: 4, viewOfLastCommittable: 2 });
    expect(sent(node.step({ kind: "stable", op: 2 }))).toEqual([]);
  });
});

describe("a follower", () => {
  test("commits what its leader commits, as far as this append proves it and the disk has it", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 4, viewOfSeqno: 2, leaderCommit: 9 }));
    expect(node.step({ kind: "applied", entries: entries(3, "2 2s") })).toContainEqual({ kind: "commit", seqno: 2 });
    expect(node.step({ kind: "stable", op: 2 })).toContainEqual({ kind: "commit", seqno: 4 });
  });

  test("drops an append that begins before its commit point, without an answer", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 2, viewOfSeqno: 2, leaderCommit: 2 }));
    expect(node.status().commit).toBe(2);
    expect(receive(node, "a", append({ seqno: 2, viewOfSeqno: 2 }))).toEqual([]);
  });

  test("refuses an append of an earlier view with its own view and tail", () => {
    const node = follower();
    expect(sent(receive(node, "c", append({ view: 1 })))).toEqual([
      { kind: "append_entries_response", view: 2, lastSeqno: 2, success: false },
    ]);
  });

  test("keeps the entries before a damaged one, and refuses", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 4, viewOfSeqno: 2 }));
    const effects = node.step({ kind: "applied", entries: entries(3, "2"), failed: "entry 4 is damaged" });
    expect(effects).toMatchObject([
      { kind: "persist", entries: { first: 3, last: 3 } },
      { kind: "send", message: { success: false, view: 2, lastSeqno: 3 } },
    ]);
  });

  test("refuses where views differ with its best match", () => {
    const node = follower();
    const effects = receive(node, "c", append({ view: 4, prevSeqno: 2, prevView: 1, seqno: 2, viewOfSeqno: 1 }));
    expect(sent(effects)).toEqual([{ kind: "append_entries_response", view: 0, lastSeqno: 0, success: false }]);
  });

  test("drops what contradicts the leader once in a view, then ignores such appends", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 3, viewOfSeqno: 2 }));
    node.step({ kind: "applied", entries: entries(3, "2") });
    const conflict = append({ view: 3, prevSeqno: 2, prevView: 2, seqno: 3, viewOfSeqno: 3 });
    const effects = receive(node, "c", conflict);
    expect(effects).toContainEqual({ kind: "rollback", op: 3, to: 2 });
    expect(effects.at(-1)).toEqual({ kind: "apply", from: "c", entries: { first: 3, last: 3 }, view: 3 });
    node.step({ kind: "applied", entries: entries(3, "3s") });
    expect(receive(node, "c", { ...conflict, view: 3, viewOfSeqno: 2 })).toEqual([]);
  });

  test("stops when two nodes lead one view", () => {
    expect(receive(follower(), "c", append({ prevSeqno: 2, prevView: 2, seqno: 2, viewOfSeqno: 2 }))).toMatchObject([
      { kind: "halt", reason: expect.stringContaining("both lead view 2") },
    ]);
  });

  test("that has seen no signature never stands for election", () => {
    const node = core("b");
    receive(node, "a", append({ seqno: 1, viewOfSeqno: 2 }));
    node.step({ kind: "applied", entries: entries(1, "2", "abc") });
    expect(node.step({ kind: "tick", elapsedMs: 5 * ELECTION_MS })).toEqual([]);
    expect(receive(node, "a", { kind: "propose_request_vote", view: 2 })).toEqual([]);
    expect(node.status().role).toBe("follower");
  });

  test("that is not in the newest configuration does not start to", () => {
    const node = core("z");
    receive(node, "a", append({ seqno: 2, viewOfSeqno: 2 }));
    node.step({ kind: "applied", entries: entries(1, "2 2s", "abc") });
    expect(node.status().ticking).toBe(false);
  });
});

describe("elections", () => {
  test("begin between half an election timeout and a whole one", () => {
    for (let seed = 0; seed < 50; seed++) {
      const options = {
        self: "b",
        messageTimeoutMs: MESSAGE_MS,
        electionTimeoutMs: ELECTION_MS,
        seed,
        appendBytesMax: 1000,
      };
      const node = createRaft(options, { kind: "join" });
      receive(node, "a", append({ seqno: 2, viewOfSeqno: 2 }));
      node.step({ kind: "applied", entries: entries(1, "2 2s", "abc") });
      node.step({ kind: "tick", elapsedMs: ELECTION_MS / 2 - 1 });
      expect(node.status().role).toBe("follower");
      node.step({ kind: "tick", elapsedMs: ELECTION_MS / 2 + 1 });
      expect(node.status().role).toBe("pre_vote_candidate");
    }
  });

  test("a pre-vote is asked in the current view and binds nobody", () => {
    const node = follower();
    const effects = node.step({ kind: "tick", elapsedMs: ELECTION_MS });
    expect(sent(effects)).toMatchObject([
      { kind: "request_pre_vote", view: 2 },
      { kind: "request_pre_vote", view: 2 },
    ]);
    expect(node.status()).toMatchObject({ view: 2, votedFor: undefined, leader: undefined });
  });

  test("a pre-vote is granted while a leader is alive, a vote is not", () => {
    const node = follower();
    const ask = (kind: "request_vote" | "request_pre_vote"): ConsensusMessage[] =>
      sent(receive(node, "c", { kind, view: 2, lastCommittableSeqno: 2, viewOfLastCommittable: 2 }));
    expect(ask("request_pre_vote")).toEqual([{ kind: "request_pre_vote_response", view: 2, granted: true }]);
    expect(ask("request_vote")).toEqual([{ kind: "request_vote_response", view: 2, granted: false }]);
    expect(node.status().leader).toBe("a");
  });

  test.each([
    [2, 2, true],
    [9, 1, false],
    [1, 2, false],
    [1, 3, true],
  ])(
    "a log whose last signature is %i of view %i gets the vote: %s",
    (lastCommittableSeqno, viewOfLastCommittable, granted) => {
      const answer = receive(follower(), "c", {
        kind: "request_vote",
        view: 3,
        lastCommittableSeqno,
        viewOfLastCommittable,
      });
      expect(sent(answer)).toEqual([{ kind: "request_vote_response", view: 3, granted }]);
    },
  );

  test("one candidate gets the vote of a view, as often as it asks", () => {
    const node = follower();
    const ask = (from: string): ConsensusMessage[] =>
      sent(receive(node, from, { kind: "request_vote", view: 3, lastCommittableSeqno: 2, viewOfLastCommittable: 2 }));
    expect([ask("c"), ask("a"), ask("c")].flat()).toMatchObject([
      { granted: true },
      { granted: false },
      { granted: true },
    ]);
  });

  test("a pre-vote does not count as a vote, nor the other way round", () => {
    const node = follower();
    node.step({ kind: "tick", elapsedMs: ELECTION_MS });
    receive(node, "c", { kind: "request_vote_response", view: 2, granted: true });
    expect(node.status().role).toBe("pre_vote_candidate");
    receive(node, "c", { kind: "request_pre_vote_response", view: 2, granted: true });
    expect(node.status()).toMatchObject({ role: "candidate", view: 3, votedFor: "b" });
    receive(node, "c", { kind: "request_pre_vote_response", view: 3, granted: true });
    expect(node.status().role).toBe("candidate");
    receive(node, "c", { kind: "request_vote_response", view: 3, granted: true });
    expect(node.status()).toMatchObject({ role: "leader", leader: "b" });
  });

  test("the winner drops what is unsigned before it tells the driver to lead", () => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 3, viewOfSeqno: 2 }));
    node.step({ kind: "applied", entries: entries(3, "2") });
    receive(node, "a", { kind: "propose_request_vote", view: 2 });
    const effects = receive(node, "c", { kind: "request_vote_response", view: 3, granted: true });
    const order = effects.flatMap((effect) => (effect.kind === "role" ? [effect.role] : [effect.kind]));
    expect(order.indexOf("rollback")).toBeLessThan(order.indexOf("leader"));
    expect(order.indexOf("leader")).toBeLessThan(order.indexOf("send"));
    expect(node.status()).toMatchObject({ role: "leader", last: 2 });
  });

  test("a nomination of another view is ignored", () => {
    const node = follower();
    receive(node, "a", { kind: "propose_request_vote", view: 1 });
    receive(node, "a", { kind: "propose_request_vote", view: 3 });
    expect(node.status()).toMatchObject({ role: "follower", view: 2 });
  });
});

describe("a joiner with a snapshot", () => {
  const snapshot: Initial = {
    kind: "join",
    seqno: 10,
    view: 3,
    viewHistory: [1, 1, 6],
    configuration: nodes("ab"),
    retiring: nodes("z"),
  };

  test("holds it as committed and stable, and knows the views before it", () => {
    const node = core("c", snapshot);
    expect(node.status()).toMatchObject({
      role: "follower",
      view: 3,
      last: 10,
      commit: 10,
      stable: 10,
      ticking: false,
    });
    expect([...node.status().peers.keys()]).toEqual(["a", "b", "z"]);
    expect([0, 1, 5, 6, 10, 11].map((seqno) => node.viewAt(seqno))).toEqual([0, 2, 2, 3, 3, undefined]);
  });

  test("goes on from there", () => {
    const node = core("c", snapshot);
    expect(
      sent(receive(node, "a", append({ view: 3, prevSeqno: 12, prevView: 3, seqno: 12, viewOfSeqno: 3 }))),
    ).toEqual([{ kind: "append_entries_response", view: 3, lastSeqno: 10, success: false }]);
    const effects = receive(
      node,
      "a",
      append({ view: 3, prevSeqno: 10, prevView: 3, seqno: 12, viewOfSeqno: 3, leaderCommit: 12 }),
    );
    expect(effects.at(-1)).toMatchObject({ kind: "apply", entries: { first: 11, last: 12 } });
    node.step({ kind: "applied", entries: entries(11, "3 3s", "abc") });
    expect(node.step({ kind: "stable", op: 1 })).toContainEqual({ kind: "commit", seqno: 12 });
    expect(node.status().ticking).toBe(true);
  });
});

describe("a driver that breaks the contract stops the node", () => {
  test.each<[string, Input]>([
    ["another input while an apply is due", { kind: "tick", elapsedMs: 1 }],
    ["too few entries without a reason", { kind: "applied", entries: entries(3, "2") }],
    ["too many entries", { kind: "applied", entries: entries(3, "2 2 2") }],
    ["entries at other seqnos", { kind: "applied", entries: entries(4, "2 2") }],
    ["entries of another view", { kind: "applied", entries: entries(3, "1 1") }],
  ])("%s", (_, input) => {
    const node = follower();
    receive(node, "a", append({ prevSeqno: 2, prevView: 2, seqno: 4, viewOfSeqno: 2 }));
    expect(kinds(node.step(input))).toContain("halt");
    expect(node.step({ kind: "tick", elapsedMs: 1 })).toEqual([]);
  });

  test.each<[string, Input]>([
    ["an answer to no apply", { kind: "applied", entries: [] }],
    ["a report of an operation never given out", { kind: "stable", op: 2 }],
  ])("%s", (_, input) => {
    expect(kinds(follower().step(input))).toEqual(["halt"]);
  });
});

describe("time", () => {
  test.each([Number.NaN, -5, Number.NEGATIVE_INFINITY])("%d milliseconds are none", (elapsedMs) => {
    const node = follower();
    for (let i = 0; i < 3; i++) node.step({ kind: "tick", elapsedMs });
    expect(node.status().role).toBe("follower");
  });

  test("endless milliseconds are an election timeout", () => {
    const node = follower();
    node.step({ kind: "tick", elapsedMs: Number.POSITIVE_INFINITY });
    expect(node.status().role).toBe("pre_vote_candidate");
  });
});

test("whatever peers send, a step ends in effects, and a stop if it must, never in an exception", () => {
  const small = fc.nat(6);
  const from = fc.constantFrom("a", "b", "c", "x");
  const message: fc.Arbitrary<ConsensusMessage> = fc.oneof(
    fc.record({
      kind: fc.constant("append_entries" as const),
      view: small,
      prevSeqno: small,
      prevView: small,
      seqno: small,
      viewOfSeqno: small,
      leaderCommit: fc.constantFrom(0, 3, Number.MAX_SAFE_INTEGER),
    }),
    fc.record({
      kind: fc.constant("append_entries_response" as const),
      view: small,
      lastSeqno: small,
      success: fc.boolean(),
    }),
    fc.record({
      kind: fc.constantFrom("request_vote" as const, "request_pre_vote" as const),
      view: small,
      lastCommittableSeqno: small,
      viewOfLastCommittable: small,
    }),
    fc.record({
      kind: fc.constantFrom("request_vote_response" as const, "request_pre_vote_response" as const),
      view: small,
      granted: fc.boolean(),
    }),
    fc.record({ kind: fc.constant("propose_request_vote" as const), view: small }),
  );
  const input = fc.oneof(
    fc.record({ kind: fc.constant("received" as const), from, message }),
    fc.record({ kind: fc.constant("tick" as const), elapsedMs: fc.constantFrom(50, 600, 1500) }),
  );
  fc.assert(
    fc.property(fc.boolean(), fc.array(input, { maxLength: 60 }), (leads, inputs) => {
      const node = leads ? leader() : follower();
      for (const each of inputs) {
        const apply = node.step(each).at(-1);
        if (apply?.kind !== "apply") continue;
        const { first, last } = apply.entries;
        const given = Array.from({ length: last - first + 1 }, (_, i): EntryInfo => {
          return { seqno: first + i, view: apply.view, committable: i % 2 === 0, size: 100 };
        });
        node.step({ kind: "applied", entries: given });
      }
    }),
    { numRuns: 500 },
  );
});
