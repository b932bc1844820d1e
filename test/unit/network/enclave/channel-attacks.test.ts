import { duplexPair } from "node:stream";
import { connect, TLSSocket } from "node:tls";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { SILENT_TICKS_MAX } from "../../../../network/enclave/channel.ts";
import type { Channels } from "../../../../network/enclave/channel-types.ts";
import { TICK_MS } from "../../../../network/enclave/channels.ts";
import type { EvidenceFault } from "../../../../protocol/attestation/evidence.ts";
import { EVIDENCE_BYTES_MAX } from "../../../../protocol/attestation/quote-info.ts";
import { Fault } from "../../../../protocol/check.ts";
import { encodeHello, encodeMessageHeader, encodePing } from "../../../../protocol/wire/channel.ts";
import {
  evidenceOf,
  intrude,
  type Meddler,
  Network,
  reportData,
  say,
  secured,
  service,
  startNode,
  startPair,
  type TestNode,
  TLS_OPTIONS,
  trusted,
  turns,
  until,
} from "./harness.ts";
import { type Identity, makeNode, makeService } from "./identities.ts";

const opened: Channels[] = [];
const keep = <N extends readonly TestNode[]>(...nodes: N): N => {
  opened.push(...nodes.map((node) => node.channels));
  return nodes;
};

afterEach(() => {
  vi.useRealTimers();
  for (const channels of opened.splice(0)) channels.close();
});

const keysOf = (identity: Identity) => ({ key: identity.privateKey, cert: identity.certificate });

/** The frames that a peer sent to us, as bytes. */
async function firstBytes(socket: TLSSocket, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await until(() => Buffer.concat(chunks).length >= count || socket.destroyed);
  return Buffer.concat(chunks);
}

async function helloBytes(socket: TLSSocket): Promise<Buffer> {
  const bytes = await firstBytes(socket, 100);
  return bytes.subarray(0, 5 + bytes.readUInt32LE(0));
}

describe("certificates", () => {
  const cases: [string, () => Identity, string][] = [
    ["of another service", () => makeNode({ name: "service", service: makeService() }), "PeerNotOfService"],
    ["that is self-signed", () => makeNode(), "PeerNotOfService"],
    ["by a node instead of the service", () => makeNode({ name: "node", service: trusted() }), "PeerNotOfService"],
    [
      "of the service's key under another issuer's name",
      () => makeNode({ name: "other", service }),
      "PeerNotOfService",
    ],
  ];
  test.each(cases)("a caller with a certificate %s is refused and hears nothing", async (_name, make, code) => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const socket = await intrude(a, keysOf(make()));
    let heard = 0;
    socket.on("data", (chunk: Buffer) => (heard += chunk.length));
    await until(() => a.ends().length === 1);
    await turns(10);
    expect(a.ends()).toEqual([code]);
    expect(heard).toBe(0);
  });

  test("a caller without a certificate is refused", async () => {
    const [a] = keep(startNode(new Network(), "a:1"));
    await intrude(a, {});
    await until(() => a.ends().length === 1);
    expect(a.ends()).toEqual(["PeerWithoutCertificate"]);
  });

  test("a caller whom the service does not count among its nodes is refused", async () => {
    const [a] = keep(startNode(new Network(), "a:1", { isPeer: () => false }));
    await intrude(a, keysOf(trusted()));
    await until(() => a.ends().length === 1);
    expect(a.ends()).toEqual(["PeerUnknown"]);
  });

  test("a caller that speaks another protocol with the right certificate is refused", async () => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const [near, far] = duplexPair();
    a.channels.accept(far, "stranger");
    await secured(connect({ ...TLS_OPTIONS, socket: near, ...keysOf(trusted()), ALPNProtocols: ["http/1.1"] }));
    await until(() => a.ends().length === 1);
    expect(["ProtocolNotAgreed", "StreamFailed"]).toContain(a.ends()[0]);
  });

  test("a stream that leads back to this node is refused at both ends", async () => {
    const network = new Network();
    const [a] = keep(startNode(network, "a:1"));
    const wanted = trusted();
    a.channels.setPeers(new Map([[wanted.id, "a:1"]]));
    a.channels.send(wanted.id, [Buffer.from("x")]);
    await until(() => a.ends().length === 2);
    expect(a.ends()).toContain("PeerIsSelf");
    expect(a.received).toEqual([]);
  });

  test("a stream diverted to another genuine node of the service is refused", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    const [c] = keep(startNode(network, "c:1"));
    network.add("b:1", c.channels);
    say(a, b, "for b only");
    await until(() => a.ends().length === 1);
    expect(a.ends()).toEqual(["PeerUnexpected"]);
    expect([...b.received, ...c.received]).toEqual([]);
  });
});

describe("evidence", () => {
  /** Sends a hello over an intruder's session and gives the code with which the node ended it. */
  async function hello(node: TestNode, socket: TLSSocket, bytes: Uint8Array): Promise<string | undefined> {
    socket.write(bytes);
    await until(() => node.ends().length > 0 || node.channels.connected().length > 0);
    return node.ends()[0];
  }

  test("made for this session, role and key is accepted", async () => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const me = trusted();
    const socket = await intrude(a, keysOf(me));
    const evidence = evidenceOf(reportData(socket, "initiator", me.publicKey));
    expect(await hello(a, socket, encodeHello("initiator", evidence))).toBeUndefined();
    expect(a.channels.connected()).toEqual([me.id]);
  });

  test("of another key is refused", async () => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const socket = await intrude(a, keysOf(trusted()));
    const evidence = evidenceOf(reportData(socket, "initiator", trusted().publicKey));
    expect(await hello(a, socket, encodeHello("initiator", evidence))).toBe("FailedSessionBinding");
  });

  test("made for the other role is refused, whatever the hello says", async () => {
    for (const [says, code] of [
      ["initiator", "FailedSessionBinding"],
      ["responder", "RoleWrong"],
    ] as const) {
      const [a] = keep(startNode(new Network(), "a:1"));
      const me = trusted();
      const socket = await intrude(a, keysOf(me));
      const evidence = evidenceOf(reportData(socket, "responder", me.publicKey));
      expect(await hello(a, socket, encodeHello(says, evidence))).toBe(code);
    }
  });

  test("recorded in an earlier session of the same key is refused", async () => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const me = trusted();
    const earlier = await intrude(a, keysOf(me));
    const recorded = encodeHello("initiator", evidenceOf(reportData(earlier, "initiator", me.publicKey)));
    expect(await hello(a, earlier, recorded)).toBeUndefined();
    earlier.destroy();
    await until(() => a.channels.connected().length === 0);
    a.log.length = 0;
    expect(await hello(a, await intrude(a, keysOf(me)), recorded)).toBe("FailedSessionBinding");
  });

  test("of a node, passed on by another node as its own, is refused", async () => {
    // The man in the middle has a certificate that the service signed, but no enclave. The victim talks to him in earnest.
    const network = new Network();
    const [victim, target] = keep(startNode(network, "v:1"), startNode(network, "t:1"));
    const middle = trusted();
    const [near, far] = duplexPair();
    const [dialling] = keep(startNode(network, "d:1", { dial: () => near }, victim.identity));
    dialling.channels.setPeers(new Map([[middle.id, "m:1"]]));
    dialling.channels.send(middle.id, [Buffer.from("x")]);
    const towardsVictim = await secured(
      new TLSSocket(far, { ...TLS_OPTIONS, ...keysOf(middle), isServer: true, requestCert: true }),
    );
    const towardsTarget = await intrude(target, keysOf(middle));
    towardsTarget.write(await helloBytes(towardsVictim));
    await until(() => target.ends().length === 1);
    expect(target.ends()).toEqual(["FailedSessionBinding"]);
    expect(target.channels.connected()).toEqual([]);
  });

  test("passed through by a man in the middle who has stolen the keys of both nodes is refused by both", async () => {
    const network = new Network();
    const [near, far] = duplexPair();
    const [b] = keep(startNode(network, "b:1"));
    const [a] = keep(startNode(network, "a:1", { dial: () => near }));
    a.channels.setPeers(new Map([[b.identity.id, "b:1"]]));
    say(a, b, "secret");
    const towardsA = await secured(
      new TLSSocket(far, { ...TLS_OPTIONS, ...keysOf(b.identity), isServer: true, requestCert: true }),
    );
    const towardsB = await intrude(b, keysOf(a.identity));
    const plain: Buffer[] = [];
    towardsA.on("data", (chunk: Buffer) => {
      plain.push(chunk);
      towardsB.write(chunk);
    });
    towardsB.on("data", (chunk: Buffer) => towardsA.write(chunk));
    towardsA.on("end", () => towardsB.destroy());
    towardsB.on("end", () => towardsA.destroy());
    await until(() => a.ends().length === 1 && b.ends().length === 1);
    // Whoever judges first ends it; the other sees its own judgement or the end.
    expect([a.ends()[0], b.ends()[0]]).toContain("FailedSessionBinding");
    expect(Buffer.concat(plain).includes("secret")).toBe(false);
    expect(b.received).toEqual([]);
  });

  test("that the join policy refuses ends the channel at the judge's end, and nothing is sent", async () => {
    const refuse = async () => {
      throw new Fault<EvidenceFault>({ code: "FailedMeasurementNotFound" }, "unknown code");
    };
    const network = new Network();
    const [a, b] = keep(...startPair(network, { verifyEvidence: refuse }));
    say(a, b, "never");
    await until(() => a.ends().length === 1 && b.ends().length === 1);
    expect(a.ends()).toEqual(["FailedMeasurementNotFound"]);
    expect(b.received).toEqual([]);
    // The peer never accepted us, so that counts as a failed dial.
    expect(say(a, b, "at once again")).toBe(false);
  });
});

describe("frames", () => {
  const evidence = Buffer.alloc(10);
  const cut = encodeHello("initiator", evidence).subarray(0, 5);
  const long = Buffer.from(cut);
  long.writeUInt32LE(EVIDENCE_BYTES_MAX + 3);
  const version = Buffer.from(encodeHello("initiator", evidence));
  version[5] = 2;
  const role = Buffer.from(encodeHello("initiator", evidence));
  role[6] = 9;
  const empty = Buffer.from([0, 0, 0, 0, 1]);

  test.each([
    ["a message", Buffer.concat([encodeMessageHeader(1, 1), Buffer.from("x")]), "FrameKindUnknown"],
    ["a ping", encodePing(), "FrameKindUnknown"],
    ["a frame of no known kind", Buffer.from([0, 0, 0, 0, 9]), "FrameKindUnknown"],
    ["a hello that announces too much", long, "FrameTooLong"],
    ["a hello without contents", empty, "FrameMalformed"],
    ["a hello of another version", version, "ProtocolVersionUnknown"],
    ["a hello without a known role", role, "FrameMalformed"],
    ["a hello with evidence that is none", encodeHello("initiator", evidence), "Failed"],
  ])("%s before any proof ends the channel", async (_name, bytes, code) => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const socket = await intrude(a, keysOf(trusted()));
    socket.write(bytes);
    await until(() => a.ends().length === 1);
    expect(a.ends()).toEqual([code]);
    expect(a.received).toEqual([]);
  });

  test.each([
    ["a second hello", encodeHello("initiator", evidence), "FrameKindUnknown"],
    ["a ping with contents", Buffer.from([1, 0, 0, 0, 3, 0]), "FrameTooLong"],
    ["a message beyond the largest size", Buffer.from([0xff, 0xff, 0xff, 0x7f, 2]), "FrameTooLong"],
    ["a message without a counter", Buffer.from([1, 0, 0, 0, 2, 0]), "FrameMalformed"],
    ["a counter beyond any number", Buffer.from("080000000200000000ffffffff", "hex"), "FrameMalformed"],
  ])("%s from an attested peer ends the channel", async (_name, bytes, code) => {
    const [a] = keep(startNode(new Network(), "a:1"));
    const me = trusted();
    const socket = await intrude(a, keysOf(me));
    socket.write(encodeHello("initiator", evidenceOf(reportData(socket, "initiator", me.publicKey))));
    socket.write(bytes);
    await until(() => a.ends().length === 1);
    expect(a.ends()).toEqual([code]);
  });
});

describe("while evidence is being verified", () => {
  async function introduce(frames: Uint8Array) {
    const verdict = Promise.withResolvers<void>();
    const [a] = keep(startNode(new Network(), "a:1", { verifyEvidence: () => verdict.promise }));
    const me = trusted();
    const socket = await intrude(a, keysOf(me));
    socket.write(Buffer.concat([encodeHello("initiator", Buffer.alloc(1)), frames]));
    await turns(20);
    expect([a.received, a.ends()]).toEqual([[], []]);
    return { a, verdict };
  }
  const message = Buffer.concat([encodeMessageHeader(1, 1), Buffer.from("x")]);

  test("what the peer sends waits, and is delivered once it is accepted", async () => {
    const { a, verdict } = await introduce(message);
    verdict.resolve();
    await until(() => a.received.length === 1);
    expect(a.ends()).toEqual([]);
  });

  test("and is thrown away if it is refused", async () => {
    const { a, verdict } = await introduce(message);
    verdict.reject(new Fault<EvidenceFault>({ code: "FailedDebugEnclave" }));
    await until(() => a.ends().length === 1);
    expect([a.received, a.ends()]).toEqual([[], ["FailedDebugEnclave"]]);
  });

  test("a second hello is not looked at", async () => {
    const { a, verdict } = await introduce(encodeHello("responder", Buffer.alloc(1)));
    verdict.resolve();
    await until(() => a.ends().length === 1);
    expect(a.ends()).toEqual(["FrameKindUnknown"]);
  });
});

describe("a hostile relay", () => {
  const deeds: [string, (chunk: Buffer, at: number) => ReturnType<Meddler>][] = [
    [
      "flips a bit",
      (chunk, at) => {
        const changed = Buffer.from(chunk);
        changed[at % chunk.length]! ^= 1 << (at % 8);
        return [changed];
      },
    ],
    ["repeats a chunk", (chunk) => [chunk, chunk]],
    ["drops a chunk", () => []],
    ["drops the end of a chunk", (chunk, at) => [chunk.subarray(0, at % chunk.length)]],
    ["inserts bytes", (chunk, at) => [Buffer.alloc(1 + (at % 40), at), chunk]],
    ["cuts the stream", () => "cut"],
  ];

  test.each(deeds)(
    "that %s costs at most the channel: no message is wrong, late or missing unseen",
    async (_name, deed) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
      await fc.assert(
        fc.asyncProperty(fc.nat(40), fc.nat(2 ** 16), fc.boolean(), async (when, at, up) => {
          const network = new Network();
          const [a, b] = keep(...startPair(network));
          let seen = 0;
          let done = false;
          network.meddle = (chunk, direction) => {
            if (done || (direction === "up") !== up || chunk.length === 0 || seen++ < when) return [chunk];
            done = true;
            return deed(chunk, at);
          };
          const sent: string[] = [];
          const talk = async (text: string) => {
            sent.push(text);
            say(a, b, text);
            say(b, a, text);
            await turns(1);
          };
          for (let i = 0; i < 60 && !done; i++) await talk(`${i}:${"x".repeat(i * 37)}`);
          const ended = () => a.ends().length + b.ends().length > 0;
          // What is missing shows when the next bytes arrive, or when a handshake's time is up, or as silence.
          for (let i = 0; i < 20 && !ended(); i++) await talk(`late ${i}`);
          for (let tick = 0; tick < SILENT_TICKS_MAX + 3; tick++) {
            vi.advanceTimersByTime(TICK_MS);
            await turns(5);
          }
          for (const node of [a, b]) {
            const places = node.received.map(({ text }) => sent.indexOf(text));
            expect(places).not.toContain(-1);
            expect(places).toEqual([...new Set(places)].sort((x, y) => x - y));
            // A few bytes mean nothing: the version in the headers of TLS handshake records, or the very last ping.
            if (!ended()) expect(places).toHaveLength(sent.length);
            node.channels.close();
          }
        }),
        { numRuns: 25 },
      );
    },
  );

  test("that swaps two chunks costs the channel, and neither message arrives", async () => {
    const network = new Network();
    const [a, b] = keep(...startPair(network));
    say(a, b, "0");
    await until(() => b.received.length === 1);
    let held: Buffer | undefined;
    network.meddle = (chunk, direction) => {
      if (direction === "down") return [chunk];
      if (held === undefined) {
        held = chunk;
        return [];
      }
      return [chunk, held];
    };
    say(a, b, "1");
    await until(() => held !== undefined);
    say(a, b, "2");
    await until(() => b.ends().length === 1);
    expect(b.received.map(({ text }) => text)).toEqual(["0"]);
  });
});
