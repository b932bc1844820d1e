import { randomBytes } from "node:crypto";
import { type Duplex, duplexPair } from "node:stream";
import { afterEach, describe, expect, test, vi } from "vitest";
import { QUEUE_BYTES_MAX, SILENT_TICKS_MAX } from "../../../../network/enclave/channel.ts";
import type { Channels } from "../../../../network/enclave/channel-types.ts";
import { TICK_MS, UNPROVEN_MAX } from "../../../../network/enclave/channels.ts";
import { Fault } from "../../../../protocol/check.ts";
import { encodeHello, encodeMessageHeader } from "../../../../protocol/wire/channel.ts";
import {
  credentialsOf,
  evidenceOf,
  intrude,
  Network,
  reportData,
  say,
  service,
  startNode,
  startPair,
  type TestNode,
  turns,
  until,
} from "./harness.ts";
import { makeNode } from "./identities.ts";

const opened: Channels[] = [];
const keep = <N extends readonly TestNode[]>(...nodes: N): N => {
  opened.push(...nodes.map((node) => node.channels));
  return nodes;
};

afterEach(() => {
  vi.useRealTimers();
  for (const channels of opened.splice(0)) channels.close();
});

const texts = (node: TestNode) => node.received.map((message) => message.text);

describe("between two nodes", () => {
  test("messages arrive once, in order, from who sent them, both ways over one channel", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    const sent = Array.from({ length: 500 }, (_, i) => `message ${i}`);
    for (const text of sent) expect(say(a, b, text)).toBe(true);
    await until(() => b.received.length === sent.length);
    expect(texts(b)).toEqual(sent);
    expect(b.received.every(({ from }) => from === a.identity.id)).toBe(true);

    for (const text of sent) expect(say(b, a, text)).toBe(true);
    await until(() => a.received.length === sent.length);
    expect(texts(a)).toEqual(sent);
    expect(network.dials).toEqual(["b:1"]);
    expect(a.channels.connected()).toEqual([b.identity.id]);
    expect(b.channels.connected()).toEqual([a.identity.id]);
  });

  test("a message of many parts and of the size of a large entry arrives whole", async () => {
    const network = new Network();
    const received: Uint8Array[] = [];
    const [a, b] = keep(...startPair(network, {}, { deliver: (_from, message) => received.push(message) }));
    const parts = [randomBytes(3), randomBytes(9 * 1024 * 1024), randomBytes(0), randomBytes(70_000)];
    expect(a.channels.send(b.identity.id, parts)).toBe(true);
    await until(() => received.length === 1);
    expect(Buffer.concat(parts).equals(received[0]!)).toBe(true);
  });

  test("nothing of a message can be seen on the relay", async () => {
    const network = new Network();
    const seen: Buffer[] = [];
    network.meddle = (chunk) => {
      seen.push(chunk);
      return [chunk];
    };
    const [a, b] = keep(...startPair(network));
    say(a, b, "the secret word");
    await until(() => b.received.length === 1);
    expect(Buffer.concat(seen).includes("the secret word")).toBe(false);
  });

  test("both may dial at once, and all messages arrive", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    say(a, b, "from a");
    say(b, a, "from b");
    await until(() => a.received.length === 1 && b.received.length === 1);
    expect([texts(a), texts(b)]).toEqual([["from b"], ["from a"]]);
  });

  test("a channel that is cut is made again by the next message", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    say(a, b, "one");
    await until(() => b.received.length === 1);
    network.cut();
    await until(() => a.channels.connected().length === 0 && b.channels.connected().length === 0);
    expect(say(a, b, "two")).toBe(true);
    await until(() => b.received.length === 2);
    expect(texts(b)).toEqual(["one", "two"]);
    expect(network.dials).toHaveLength(2);
  });

  test("after a failed dial nothing is tried or queued for a while, then again", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    network.remove("b:1");
    let nowMs = 1000;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => nowMs);
    expect(say(a, b, "lost")).toBe(true);
    await until(() => a.ends().length === 1);
    expect(say(a, b, "dropped")).toBe(false);
    expect(network.dials).toHaveLength(1);
    nowMs += 101;
    network.add("b:1", b.channels);
    expect(say(a, b, "kept")).toBe(true);
    await until(() => b.received.length === 1);
    expect(texts(b)).toEqual(["kept"]);
    clock.mockRestore();
  });

  test("a newer channel from the same peer replaces the older one", async () => {
    const network = new Network();
    const [b] = keep(startNode(network, "b:1"));
    const first = startNode(network, "a:1");
    const again = startNode(network, "a:1", {}, first.identity);
    keep(first, again);
    for (const node of [first, again]) node.channels.setPeers(new Map([[b.identity.id, "b:1"]]));
    say(first, b, "old");
    await until(() => b.received.length === 1);
    say(again, b, "");
    await until(() => b.ends().includes("Replaced") && first.ends().length === 1);
    expect(b.channels.connected()).toEqual([first.identity.id]);
  });

  test("a message overtaken on another channel of the same peer is dropped, not delivered late", async () => {
    const [b] = keep(startNode(new Network(), "b:1"));
    const attacker = makeNode({ name: "service", service });
    const keys = { key: attacker.privateKey, cert: attacker.certificate };
    const socket = await intrude(b, keys);
    socket.write(encodeHello("initiator", evidenceOf(reportData(socket, "initiator", attacker.publicKey))));
    for (const [counter, text] of [
      [5, "five"],
      [5, "five again"],
      [4, "four"],
      [7, "seven"],
    ] as const)
      socket.write(Buffer.concat([encodeMessageHeader(counter, text.length), Buffer.from(text)]));
    await until(() => texts(b).includes("seven"));
    expect(texts(b)).toEqual(["five", "seven"]);
  });
});

describe("membership", () => {
  test("a node that is no longer a peer loses its channel and cannot make another", async () => {
    const network = new Network();
    let removed = false;
    const [a, b] = keep(...startPair(network, {}, { isPeer: () => !removed }));
    say(a, b, "while trusted");
    await until(() => b.received.length === 1);
    removed = true;
    b.channels.setPeers(new Map());
    expect(b.channels.connected()).toEqual([]);
    await until(() => a.channels.connected().length === 0);
    say(a, b, "after");
    await until(() => a.ends().length === 2);
    expect(b.ends()).toEqual(["PeerUnknown", "PeerUnknown"]);
    expect(texts(b)).toEqual(["while trusted"]);
  });

  test("a message from a node that has just been retired is not delivered", async () => {
    const network = new Network();
    let removed = false;
    const [a, b] = keep(...startPair(network, {}, { isPeer: () => !removed }));
    say(a, b, "before");
    await until(() => b.received.length === 1);
    removed = true;
    say(a, b, "after");
    await until(() => b.ends().length === 1);
    expect(b.ends()).toEqual(["PeerUnknown"]);
    expect(texts(b)).toEqual(["before"]);
  });

  test("a peer that was never listed keeps its inbound channel while it counts as a peer", async () => {
    const network = new Network();
    const [a, joiner] = keep(startNode(network, "a:1"), startNode(network, "b:1"));
    a.channels.setPeers(new Map([[joiner.identity.id, "b:1"]]));
    say(a, joiner, "catch up");
    await until(() => joiner.received.length === 1);
    joiner.channels.setPeers(new Map([["00".repeat(32), "c:1"]]));
    expect(say(joiner, a, "more")).toBe(true);
    await until(() => a.received.length === 1);
  });

  test("a joiner without an endorsed certificate neither accepts nor dials", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network, {}, { credentials: () => undefined }));
    say(a, b, "too early");
    await until(() => a.ends().length === 1);
    expect(b.log).toEqual([]);
    expect(say(b, a, "too early")).toBe(false);
  });

  test.each([
    ["is broken from the start", (near: Duplex) => near.destroy(new Error("too many streams"))],
    ["has ended from the start", (near: Duplex) => near.push(null)],
    ["is closed without a word", (near: Duplex) => near.destroy()],
  ])("a stream to a peer that %s is a failed dial", async (_name, spoil) => {
    const network = new Network();
    const dial = () => {
      const [near] = duplexPair();
      near.on("error", () => undefined);
      spoil(near);
      return near;
    };
    const [a, b] = keep(...startPair(network, { dial }));
    say(a, b, "x");
    await until(() => a.ends().length === 1);
    expect(say(a, b, "at once again")).toBe(false);
  });

  test("a dial that the node's own side refuses is a failed dial", () => {
    const refuse = () => {
      throw new Fault({ code: "StreamsExhausted" }, "no stream is left");
    };
    const [a, b] = keep(...startPair(new Network(), { dial: refuse }));
    expect(say(a, b, "x")).toBe(false);
    expect(a.log).toEqual([expect.stringMatching(/cannot be dialled: no stream is left/)]);
  });

  test("nobody is dialled who is not listed", () => {
    const network = new Network();
    const [a] = keep(startNode(network, "a:1"));
    expect(a.channels.send("11".repeat(32), [Buffer.from("x")])).toBe(false);
    expect(network.dials).toEqual([]);
  });
});

describe("bounds", () => {
  test("what waits for a dial is bounded, and the newest is refused", async () => {
    const network = new Network();
    network.stalled = true;
    const [a, b] = keep(...startPair(network));
    const half = Buffer.alloc(QUEUE_BYTES_MAX / 2);
    const sent = [0, 1, 2].map(() => a.channels.send(b.identity.id, [half]));
    expect(sent).toEqual([true, true, false]);
  });

  test("what waits for a peer whose host passes nothing on is bounded", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    say(a, b, "hello");
    await until(() => b.received.length === 1);
    network.blocked = true;
    const chunk = Buffer.alloc(64 * 1024);
    let taken = 0;
    while (a.channels.send(b.identity.id, [chunk])) {
      taken++;
      await turns(1);
    }
    expect(taken * chunk.length).toBeGreaterThanOrEqual(QUEUE_BYTES_MAX);
    // Beyond the queue, only what the streams on the way hold.
    expect(taken * chunk.length).toBeLessThan(QUEUE_BYTES_MAX + 1024 * 1024);
    expect(say(a, b, "no more")).toBe(false);

    network.blocked = false;
    await until(() => b.received.length === 1 + taken);
    expect(say(a, b, "again")).toBe(true);
  });

  test("strangers that prove nothing are bounded in number and time", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const [a] = keep(startNode(new Network(), "a:1"));
    const strangers = Array.from({ length: UNPROVEN_MAX + 1 }, () => duplexPair());
    for (const [, far] of strangers) a.channels.accept(far, "stranger");
    expect(strangers.map(([, far]) => far.destroyed)).toEqual([...Array(UNPROVEN_MAX).fill(false), true]);
    vi.advanceTimersByTime(5_000);
    expect(strangers.every(([, far]) => far.destroyed)).toBe(true);
    expect(new Set(a.ends())).toEqual(new Set(["NotAttestedInTime"]));
    // The operator's log is not theirs to fill.
    expect(a.log.length).toBeLessThanOrEqual(20);
  });

  test("a peer that has fallen silent is given up", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    say(a, b, "hello");
    await until(() => b.received.length === 1 && a.channels.connected().length === 1);
    for (let tick = 0; tick < 2 * SILENT_TICKS_MAX; tick++) {
      vi.advanceTimersByTime(TICK_MS);
      await turns(20);
    }
    expect([...a.ends(), ...b.ends()]).toEqual([]);
    network.meddle = () => [];
    for (let tick = 0; tick <= SILENT_TICKS_MAX + 1; tick++) {
      vi.advanceTimersByTime(TICK_MS);
      await turns(20);
    }
    expect([...a.ends(), ...b.ends()]).toContain("PeerSilent");
  });

  test("a message that consensus refuses ends the channel", async () => {
    const network = new Network();
    const refuse = () => {
      throw new Fault({ code: "MessageMalformed" }, "not a consensus message");
    };
    const [a, b] = keep(...startPair(network, {}, { deliver: refuse }));
    say(a, b, "nonsense");
    await until(() => b.ends().length === 1);
    expect(b.ends()).toEqual(["MessageMalformed"]);
  });

  test("credentials are read anew for each channel", async () => {
    const network = new Network();
    const [a] = keep(startNode(network, "a:1"));
    const identity = makeNode({ name: "service", service });
    let endorsed = false;
    const [b] = keep(
      startNode(network, "b:1", { credentials: () => (endorsed ? credentialsOf(identity) : undefined) }, identity),
    );
    b.channels.setPeers(new Map([[a.identity.id, "a:1"]]));
    expect(say(b, a, "early")).toBe(false);
    endorsed = true;
    expect(say(b, a, "late")).toBe(true);
    await until(() => a.received.length === 1);
  });
});
