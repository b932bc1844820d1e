/**
 * Nodes with channels in one process, and between them a relay that a test can turn against them.
 */
import { type Duplex, duplexPair } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import type { ChannelParts, Channels } from "../../../../network/enclave/channel-types.ts";
import { openChannels } from "../../../../network/enclave/channels.ts";
import { encodeEvidence } from "../../../../protocol/attestation/quote-info.ts";
import { CHANNEL_PURPOSE, type SessionRole, sessionReportData } from "../../../../protocol/attestation/report-data.ts";
import { verifySessionEvidence } from "../../../../protocol/attestation/verify.ts";
import { virtualQuote } from "../../../../protocol/attestation/virtual.ts";
import type { NodeId } from "../../../../protocol/ids.ts";
import { type Identity, makeNode, makeService } from "./identities.ts";

export const service = makeService();
export const trusted = (): Identity => makeNode({ name: "service", service });

/** Sees each chunk that the relay carries; what it returns goes on. `up` is from the dialler. */
export type Meddler = (chunk: Buffer, direction: "up" | "down") => readonly Buffer[] | "cut";

export class Network {
  readonly #nodes = new Map<string, Channels>();
  readonly dials: string[] = [];
  meddle: Meddler = (chunk) => [chunk];
  /** New streams are opened but carry nothing. */
  stalled = false;
  readonly #flows = new Set<Duplex>();
  readonly #open = new Set<Duplex>();

  add(address: string, channels: Channels): void {
    this.#nodes.set(address, channels);
  }

  remove(address: string): void {
    this.#nodes.delete(address);
  }

  dial(address: string): Duplex {
    this.dials.push(address);
    const [near, relayNear] = duplexPair();
    const target = this.#nodes.get(address);
    if (target === undefined) {
      setImmediate(() => near.destroy(new Error("connection refused")));
      return near;
    }
    const [relayFar, far] = duplexPair();
    if (!this.stalled) {
      this.#carry(relayNear, relayFar, "up");
      this.#carry(relayFar, relayNear, "down");
    }
    for (const end of [relayNear, relayFar]) this.#open.add(end);
    target.accept(far, "relay");
    return near;
  }

  /** The relay reads nothing, on any stream, so that writers feel it. */
  set blocked(blocked: boolean) {
    for (const flow of this.#flows)
      if (blocked) flow.pause();
      else flow.resume();
  }

  /** Ends every stream, as a host that dies does. */
  cut(): void {
    for (const end of this.#open) end.destroy();
    this.#open.clear();
  }

  #carry(from: Duplex, to: Duplex, direction: "up" | "down"): void {
    from.on("data", (chunk: Buffer) => {
      const out = this.meddle(chunk, direction);
      if (out === "cut") {
        from.destroy();
        to.destroy();
      } else for (const part of out) if (to.writable) to.write(part);
    });
    this.#flows.add(from);
    from.on("end", () => to.end());
    from.on("close", () => to.destroy());
    from.on("error", () => to.destroy());
  }
}

export type TestNode = Readonly<{
  identity: Identity;
  channels: Channels;
  /** `from` and text of each message delivered. */
  received: { from: NodeId; text: string }[];
  log: string[];
  /** Fault codes in the log, in order. */
  ends(): string[];
}>;

export const evidenceOf = (reportData: Uint8Array): Uint8Array =>
  encodeEvidence(
    virtualQuote(
      { measurement: "ab".repeat(32), hostData: "00".repeat(32), debug: false, productId: 1, securityVersion: 1 },
      reportData,
    ),
  );

export function startNode(network: Network, address: string, more: Partial<ChannelParts> = {}, identity = trusted()) {
  const received: TestNode["received"] = [];
  const log: string[] = [];
  const channels = openChannels({
    self: identity.id,
    dial: (to) => network.dial(to),
    credentials: () => credentialsOf(identity),
    evidence: async (reportData) => evidenceOf(reportData),
    verifyEvidence: async (evidence, reportData) => void (await verifySessionEvidence(evidence, reportData)),
    isPeer: () => true,
    deliver: (from, message) => received.push({ from, text: Buffer.from(message).toString() }),
    log: (_level, line) => log.push(line),
    ...more,
  });
  network.add(address, channels);
  const ends = () => log.flatMap((line) => / ended: (\w+):/.exec(line)?.[1] ?? []);
  return { identity, channels, received, log, ends } satisfies TestNode;
}

export function credentialsOf(identity: Identity) {
  return {
    certificate: identity.certificate,
    privateKey: identity.privateKey,
    serviceCertificate: service.certificate,
  };
}

/** Two nodes that know each other. */
export function startPair(network: Network, a: Partial<ChannelParts> = {}, b: Partial<ChannelParts> = {}) {
  const one = startNode(network, "a:1", a);
  const two = startNode(network, "b:1", b);
  one.channels.setPeers(new Map([[two.identity.id, "b:1"]]));
  two.channels.setPeers(new Map([[one.identity.id, "a:1"]]));
  return [one, two] as const;
}

export const say = (node: TestNode, to: TestNode, text: string): boolean =>
  node.channels.send(to.identity.id, [Buffer.from(text)]);

/** Lets the event loop turn until something holds. The test runner's timeout is the bound. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A hand-made TLS client on a stream of its own to a node: an attacker with whatever keys it was given. */
export async function intrude(node: TestNode, keys: { key?: string; cert?: string }): Promise<TLSSocket> {
  const [near, far] = duplexPair();
  node.channels.accept(far, "intruder");
  return secured(connect({ socket: near, ...keys, ...TLS_OPTIONS, checkServerIdentity: () => undefined }));
}

export async function secured(socket: TLSSocket): Promise<TLSSocket> {
  socket.on("error", () => undefined);
  await new Promise((resolve) => socket.once("secureConnect", resolve).once("secure", resolve).once("close", resolve));
  return socket;
}

export const TLS_OPTIONS = {
  ALPNProtocols: ["camerata-channel/1"],
  minVersion: "TLSv1.3",
  rejectUnauthorized: false,
} as const;

/** The report data that a node expects of the end with these properties. */
export function reportData(socket: TLSSocket, role: SessionRole, publicKey: Uint8Array): Uint8Array {
  const exporter = socket.exportKeyingMaterial(32, CHANNEL_PURPOSE.exporterLabel, Buffer.alloc(0));
  return sessionReportData(CHANNEL_PURPOSE, { role, exporter, publicKey });
}
