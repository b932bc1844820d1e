/**
 * Lines between the hosts of validators: libp2p over TCP with Noise and yamux, as a pure relay.
 *
 * A node addresses its peers by the `host:port` that they publish (CCF's node-to-node address). Dialling needs no peer
 * id: libp2p's identities belong to hosts and authenticate nothing that matters, because the enclaves attest each other
 * inside the streams. So a host makes a new key at each start unless it is given one. With a kept key, operators may
 * list the peer ids that may connect (`allow`); that keeps strangers out before the enclave spends anything on them.
 *
 * There is one connection per dialled address and one stream per line the enclave asks for. Nothing is retried here and
 * no peer is looked for: the enclave knows who its peers are and dials again.
 *
 * Untrusted.
 */
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";

import { type Multiaddr, multiaddr } from "@multiformats/multiaddr";
import { createLibp2p, type Libp2p } from "libp2p";
import { Fault } from "../../protocol/check.ts";
import { coalescingTcp } from "./coalescing-tcp.ts";
import { type RelayStream, relayDuplex } from "./relay-duplex.ts";

export type RelayFault = { code: "RelayAddressInvalid" | "RelayListenFailed"; address: string };

export type RelayParts = Readonly<{
  /** `host:port` to listen on; port 0 lets the system choose. */
  listen: string;
  /** This host's key, from `makeRelayKey`. Absent: a fresh one, known to nobody. */
  key?: Uint8Array;
  /** Peer ids that may connect and be connected to. Absent: everyone, as the enclave decides anyway. */
  allow?: readonly string[];
  /** A peer's host opened a stream. `from` is its address, a hint. */
  onStream(stream: Duplex, from: string): void;
}>;

export interface Relay {
  /** `host:port` that is listened on, with the real port. */
  readonly address: string;
  readonly peerId: string;
  /** A stream to the host at a node-to-node address. Rejects with what could not be reached and why. */
  dial(address: string): Promise<Duplex>;
  stop(): Promise<void>;
}

type Connection = Awaited<ReturnType<Libp2p["dial"]>>;

const PROTOCOL = "/camerata/channel/1";
const DIAL_TIMEOUT_MS = 5_000;
/** A peer keeps one line each way; more only while it replaces them. */
const STREAMS_PER_CONNECTION_MAX = 64;
/** Enough for 40 MB/s over a line of 100 ms; yamux would go to 16 MiB. */
const WINDOW_BYTES_MAX = 4 * 1024 * 1024;
const CONNECTIONS_MAX = 1024;
/** Connections a second from one address: consortiums restart behind one NAT, so more than libp2p's 5. */
const CONNECTIONS_PER_SECOND_MAX = 100;

/** A key for `RelayParts.key`, to be kept in a file of the host's. */
export async function makeRelayKey(): Promise<Uint8Array> {
  return privateKeyToProtobuf(await generateKeyPair("Ed25519"));
}

/** @throws Fault<RelayFault> when the address cannot be listened on. */
export async function startRelay(parts: RelayParts): Promise<Relay> {
  const privateKey = parts.key ? privateKeyFromProtobuf(parts.key) : await generateKeyPair("Ed25519");
  const allow = parts.allow && new Set(parts.allow);
  const deny = (peer: Libp2p["peerId"]) => allow !== undefined && !allow.has(peer.toString());
  const options = { noDelay: true, keepAlive: true };

  const node = await createLibp2p({
    privateKey,
    start: false,
    addresses: { listen: [toMultiaddr(parts.listen).toString()] },
    transports: [coalescingTcp({ dialOpts: options, listenOpts: options })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: WINDOW_BYTES_MAX } })],
    connectionGater: {
      // The default gater refuses private addresses in browsers; here every address was named by an operator or enclave.
      denyDialMultiaddr: () => false,
      denyInboundEncryptedConnection: deny,
      denyOutboundEncryptedConnection: deny,
    },
    connectionManager: {
      maxConnections: CONNECTIONS_MAX,
      inboundConnectionThreshold: CONNECTIONS_PER_SECOND_MAX,
      maxIncomingPendingConnections: CONNECTIONS_PER_SECOND_MAX,
      dialTimeout: DIAL_TIMEOUT_MS,
      reconnectRetries: 0,
    },
    connectionMonitor: { enabled: false },
  });

  const limits = {
    maxInboundStreams: STREAMS_PER_CONNECTION_MAX,
    maxOutboundStreams: STREAMS_PER_CONNECTION_MAX,
  };
  await node.handle(
    PROTOCOL,
    (stream, connection) => parts.onStream(relayDuplex(stream), hostAndPort(connection.remoteAddr)),
    limits,
  );
  try {
    await node.start();
  } catch (error) {
    throw new Fault<RelayFault>(
      { code: "RelayListenFailed", address: parts.listen },
      `cannot listen on ${parts.listen} for other nodes: ${listenReason(error)}; ` +
        "free the address or change network.node_to_node_interface.bind_address",
      { cause: error },
    );
  }

  const connections = new Map<string, Promise<Connection>>();

  /** The connection to an address; dials when there is none. Simultaneous callers share one dial. */
  function connect(address: string): Promise<Connection> {
    const known = connections.get(address);
    if (known !== undefined) return known;
    const dialled = node.dial(toMultiaddr(address), { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS), force: true });
    connections.set(address, dialled);
    const forget = () => {
      if (connections.get(address) === dialled) connections.delete(address);
    };
    dialled.then((connection) => connection.addEventListener("close", forget), forget);
    return dialled;
  }

  async function openStream(connection: Connection): Promise<RelayStream> {
    const signal = AbortSignal.timeout(DIAL_TIMEOUT_MS);
    try {
      return await connection.newStream(PROTOCOL, { ...limits, signal });
    } catch (error) {
      // A connection into a black hole looks open until TCP gives up; the next dial must not find it again.
      if (signal.aborted) connection.abort(new Error("the other host does not answer"));
      throw error;
    }
  }

  return {
    address: hostAndPort(node.getMultiaddrs()[0] ?? toMultiaddr(parts.listen)),
    peerId: node.peerId.toString(),
    async dial(address) {
      try {
        const connection = await connect(address);
        return relayDuplex(await openStream(connection));
      } catch (error) {
        if (error instanceof Fault) throw error;
        throw new Error(`cannot reach the node at ${address}: ${reason(error)}`, { cause: error });
      }
    },
    async stop() {
      await node.stop();
    },
  };
}

/** `host:port`, `[ipv6]:port` or `name:port` as libp2p writes it. @throws Fault<RelayFault> */
export function toMultiaddr(address: string): Multiaddr {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535 || (match?.[1] !== undefined && isIP(host) !== 6))
    throw new Fault<RelayFault>(
      { code: "RelayAddressInvalid", address },
      `${address} is not an address; it should look like 10.0.0.1:8001, [fd00::1]:8001 or node1.example.com:8001`,
    );
  const kind = isIP(host) === 4 ? "ip4" : isIP(host) === 6 ? "ip6" : "dns";
  return multiaddr(`/${kind}/${host}/tcp/${port}`);
}

function hostAndPort(address: Multiaddr): string {
  const [host, transport] = address.getComponents();
  return host?.name === "ip6" ? `[${host.value}]:${transport?.value}` : `${host?.value}:${transport?.value}`;
}

/** libp2p wraps what happened in several layers; the innermost says it best. */
function reason(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reason(error.errors[0]);
  if (error instanceof Error && error.cause instanceof Error) return reason(error.cause);
  return error instanceof Error ? error.message : String(error);
}

/** libp2p lists what went wrong at each address, with stacks. */
function listenReason(error: unknown): string {
  return /listen E[A-Z]+[^\n]*/.exec(reason(error))?.[0] ?? reason(error);
}
