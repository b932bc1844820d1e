/**
 * Channels between enclaves: what the rest of the enclave sees of them.
 *
 * Trusted.
 */
import type { Duplex } from "node:stream";
import type { NodeId } from "../../protocol/ids.ts";

export type ChannelCredentials = Readonly<{ certificate: string; privateKey: string; serviceCertificate: string }>;

/** What the channels need. The composition root hands it in; nothing here reaches for it. */
export type ChannelParts = Readonly<{
  self: NodeId;
  /** Opens a relayed stream to the host at a node-to-node address. The bytes go through enemy hands. */
  dial(address: string): Duplex;
  /**
   * PEM of this node's service-endorsed certificate and its key, and PEM of the service certificate, as of now; undefined
   * while the service has not endorsed this node.
   */
  credentials(): ChannelCredentials | undefined;
  /** Evidence about this enclave with these 32 bytes of report data, as bytes to send (`encodeEvidence`). */
  evidence(reportData: Uint8Array): Promise<Uint8Array>;
  /**
   * Checks a peer's evidence for these 32 bytes of report data (`verifySessionEvidence`) against the join policy.
   * @throws Fault<EvidenceFault>
   */
  verifyEvidence(evidence: Uint8Array, reportData: Uint8Array): Promise<void>;
  /** True while this service counts the node among its peers; a retired node loses its channels. */
  isPeer(node: NodeId): boolean;
  /**
   * Called once for each message that proved to come from `from`, in the order it was sent; messages may be missing.
   * `message` is the receiver's to keep. A `Fault` thrown here ends the channel.
   */
  deliver(from: NodeId, message: Uint8Array): void;
  /** A line for the operator; never holds a secret. */
  log(level: "info" | "warn", message: string): void;
}>;

export interface Channels {
  /** Where peers are now, complete: closes the channels of nodes that are no longer there. */
  setPeers(peers: ReadonlyMap<NodeId, string>): void;
  /**
   * Sends a message over the attested channel to a peer. While the channel is being made, or while the peer does not
   * take what was sent, `QUEUE_BYTES_MAX` may wait; beyond, `false` comes back and the message is dropped. It is dropped as
   * well, with false, for a while after a failed dial, and without a word when the channel breaks. The parts must not be
   * changed afterwards.
   */
  send(to: NodeId, message: readonly Uint8Array[]): boolean;
  /** A stream that a peer's host opened to ours. */
  accept(stream: Duplex, from: string): void;
  /** The nodes with which a channel stands, both directions counted once. */
  connected(): readonly NodeId[];
  close(): void;
}
