/**
 * All channels of a node: whom to dial, over which channel to send, what waits.
 *
 * A message goes over the channel that this node dialled, else over the newest one that the peer dialled, else this node
 * dials. What is sent while a dial is under way waits, bounded; after a failed dial everything waiting is dropped and
 * nothing is tried for a while: consensus sends again, and an old message is worth less than a new one. Messages carry one
 * counter over all channels, so that a message that was overtaken on another channel is dropped, never delivered late.
 *
 * The peers' hosts decide who may knock; nothing here trusts that. A host may open streams as it likes: at most
 * `UNPROVEN_MAX` that have proven nothing stand at a time, each for `ATTEST_TIMEOUT_MS` at most.
 *
 * Trusted.
 */
import { randomInt } from "node:crypto";
import type { Duplex } from "node:stream";
import { Fault } from "../../protocol/check.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { Channel, type ChannelEnd, type ChannelEvents, QUEUE_BYTES_MAX, totalBytes } from "./channel.ts";
import type { ChannelParts, Channels } from "./channel-types.ts";
import { limitLog } from "./log-limit.ts";

/** Accepted streams whose peer has not proven itself yet. */
export const UNPROVEN_MAX = 64;
/** How often a channel shows that it lives. */
export const TICK_MS = 2_000;
const BACKOFF_MIN_MS = 100;
/** Short against an election timeout: a joiner that was just trusted must be reached before its leader loses patience. */
const BACKOFF_MAX_MS = 500;

/** What this node has to do with one other node. */
type Link = {
  /** Where the node can be dialled, once consensus has said so. */
  address: string | undefined;
  dialled: Channel | undefined;
  inbound: Channel | undefined;
  /** What waits for the channel being dialled. */
  waiting: (readonly Uint8Array[])[];
  waitingBytes: number;
  /** Dials that failed in a row, and when the next may be made (`performance.now`). */
  failures: number;
  dialAfterMs: number;
  /** Counter of the last message delivered. */
  received: number;
};

export function openChannels(parts: ChannelParts): Channels {
  return new ChannelSet(parts);
}

class ChannelSet implements Channels {
  readonly #parts: ChannelParts;
  readonly #log: ChannelParts["log"];
  readonly #links = new Map<NodeId, Link>();
  readonly #unproven = new Set<Channel>();
  readonly #ticker: NodeJS.Timeout;
  #sent = 0;
  #closed = false;

  constructor(parts: ChannelParts) {
    this.#parts = parts;
    this.#log = limitLog(parts.log);
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
  }

  setPeers(peers: ReadonlyMap<NodeId, string>): void {
    for (const [node, link] of this.#links) {
      // A node that was never listed may be the one that helps us catch up with who is: `isPeer` decides about it.
      const gone = link.address === undefined ? !this.#parts.isPeer(node) : !peers.has(node);
      if (!gone) continue;
      this.#links.delete(node);
      link.dialled?.close("PeerUnknown");
      link.inbound?.close("PeerUnknown");
    }
    for (const [node, address] of peers) {
      if (node === this.#parts.self) continue;
      const link = this.#link(node);
      if (link.address !== undefined && link.address !== address) link.dialled?.close("Replaced");
      link.address = address;
    }
  }

  send(to: NodeId, message: readonly Uint8Array[]): boolean {
    const link = this.#links.get(to);
    if (link === undefined || this.#closed) return false;
    const channel = established(link);
    if (channel !== undefined) return channel.send(++this.#sent, message);
    if (link.dialled === undefined && !this.#dial(to, link)) return false;
    if (link.waitingBytes >= QUEUE_BYTES_MAX) return false;
    link.waiting.push(message);
    link.waitingBytes += totalBytes(message);
    return true;
  }

  accept(stream: Duplex, from: string): void {
    const credentials = this.#parts.credentials();
    const full = this.#unproven.size >= UNPROVEN_MAX;
    if (this.#closed || credentials === undefined || full) {
      if (full) this.#log("warn", `a channel from ${from.slice(0, 64)} is refused: too many streams prove nothing`);
      // A relayed stream may fail while it is thrown away; nobody is interested.
      stream.on("error", () => undefined);
      stream.destroy();
      return;
    }
    this.#unproven.add(new Channel(this.#parts, credentials, stream, undefined, this.#events(from.slice(0, 64))));
  }

  connected(): readonly NodeId[] {
    return [...this.#links].filter(([, link]) => established(link) !== undefined).map(([node]) => node);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#ticker);
    for (const channel of this.#channels()) channel.close("Stopped");
    this.#links.clear();
  }

  /** True if a dial is under way afterwards. */
  #dial(node: NodeId, link: Link): boolean {
    const credentials = this.#parts.credentials();
    if (credentials === undefined || link.address === undefined) return false;
    if (performance.now() < link.dialAfterMs || !this.#parts.isPeer(node)) return false;
    try {
      const stream = this.#parts.dial(link.address);
      link.dialled = new Channel(this.#parts, credentials, stream, node, this.#events(link.address));
      return true;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#log("warn", `node ${node} at ${link.address} cannot be dialled: ${error.message}`);
      backOff(link);
      return false;
    }
  }

  #events(address: string): ChannelEvents {
    return {
      established: (channel, peer) => this.#established(channel, peer),
      message: (from, counter, body) => this.#message(from, counter, body),
      closed: (channel, why) => this.#ended(channel, why, address),
    };
  }

  #established(channel: Channel, peer: NodeId): void {
    const link = this.#link(peer);
    if (channel.role === "responder") {
      this.#unproven.delete(channel);
      const older = link.inbound;
      link.inbound = channel;
      older?.close("Replaced");
    }
    const { waiting } = link;
    link.waiting = [];
    link.waitingBytes = 0;
    for (const message of waiting) channel.send(++this.#sent, message);
    this.#log("info", `channel with node ${peer} stands (${channel.role})`);
  }

  #message(from: NodeId, counter: number, body: Uint8Array): void {
    const link = this.#links.get(from);
    if (link === undefined || counter <= link.received) return;
    link.received = counter;
    this.#parts.deliver(from, body);
  }

  #ended(channel: Channel, why: ChannelEnd, address: string): void {
    this.#unproven.delete(channel);
    const [peer, link] = this.#linkOf(channel);
    if (link !== undefined && link.inbound === channel) link.inbound = undefined;
    if (link !== undefined && link.dialled === channel) this.#dialEnded(channel, link);
    const quiet = why.detail.code === "Stopped" || why.detail.code === "Replaced";
    const who = peer === undefined ? "a stranger" : `node ${peer}`;
    this.#log(quiet ? "info" : "warn", `channel with ${who} at ${address} ended: ${why.detail.code}: ${why.message}`);
  }

  #dialEnded(channel: Channel, link: Link): void {
    link.dialled = undefined;
    if (channel.accepted) {
      link.failures = 0;
      return;
    }
    link.waiting = [];
    link.waitingBytes = 0;
    backOff(link);
  }

  #tick(): void {
    for (const channel of this.#channels()) channel.tick();
  }

  #channels(): Channel[] {
    const ofLinks = [...this.#links.values()].flatMap((link) => [link.dialled, link.inbound]);
    return [...ofLinks.filter((channel) => channel !== undefined), ...this.#unproven];
  }

  #linkOf(channel: Channel): [NodeId | undefined, Link | undefined] {
    for (const [node, link] of this.#links)
      if (link.dialled === channel || link.inbound === channel) return [node, link];
    return [channel.peer, undefined];
  }

  #link(node: NodeId): Link {
    let link = this.#links.get(node);
    if (link === undefined) {
      link = {
        address: undefined,
        dialled: undefined,
        inbound: undefined,
        waiting: [],
        waitingBytes: 0,
        failures: 0,
        dialAfterMs: 0,
        received: 0,
      };
      this.#links.set(node, link);
    }
    return link;
  }
}

/** Puts off the next dial: longer after each failure, and half of it random, so that two nodes do not go on colliding. */
function backOff(link: Link): void {
  const delayMs = Math.min(BACKOFF_MIN_MS * 2 ** link.failures, BACKOFF_MAX_MS);
  link.failures++;
  link.dialAfterMs = performance.now() + delayMs / 2 + randomInt(delayMs / 2);
}

/** The channel to send over. */
function established(link: Link): Channel | undefined {
  if (link.dialled?.established === true) return link.dialled;
  return link.inbound?.established === true ? link.inbound : undefined;
}
