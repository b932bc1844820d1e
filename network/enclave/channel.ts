/**
 * One attested channel: a TLS 1.3 session between two enclaves over a stream that the enemy relays.
 *
 * Three things are proven before a message flows. The peer holds the key of a certificate that the service signed (TLS and
 * `issuedByService`); this service counts that node among its peers now (`isPeer`); and that key lives in an enclave that the
 * join policy accepts, and is an end of *this* session: evidence goes both ways right after the handshake, with the TLS
 * exporter in its report data (attestation/report-data.ts). An end that is in doubt says nothing but its own hello.
 *
 * Whatever goes wrong - a changed, lost or repeated byte, a malformed frame, silence - ends the channel with a reason and
 * nothing else; who wants to talk again dials again. Frames of one turn of the event loop leave in one write: OpenSSL then
 * makes full records, and small messages cost little more than their bytes.
 *
 * Trusted.
 */
import { X509Certificate } from "node:crypto";
import type { Duplex } from "node:stream";
import { connect, TLSSocket } from "node:tls";
import type { EvidenceFault } from "../../protocol/attestation/evidence.ts";
import {
  CHANNEL_PURPOSE,
  EXPORTER_BYTES,
  nodeIdOf,
  type SessionRole,
  sessionReportData,
} from "../../protocol/attestation/report-data.ts";
import { assert, Broken, Fault, unreachable } from "../../protocol/check.ts";
import type { NodeId } from "../../protocol/ids.ts";
import {
  encodeHello,
  encodeMessageHeader,
  encodePing,
  type FrameFault,
  FrameReader,
  type Hello,
  MESSAGE_HEADER_BYTES,
} from "../../protocol/wire/channel.ts";
import { issuedByService, publicKeyOf } from "./certificates.ts";
import type { ChannelCredentials, ChannelParts } from "./channel-types.ts";

/** While this many bytes wait for a peer, no further message is taken; one of any size is taken while fewer do. */
export const QUEUE_BYTES_MAX = 8 * 1024 * 1024;
/** From the opening of the stream until both sides have accepted each other's evidence. */
export const ATTEST_TIMEOUT_MS = 5_000;
/** Intervals of `tick` without a byte from the peer after which it counts as gone. */
export const SILENT_TICKS_MAX = 4;

const ALPN = "camerata-channel/1";
const GRACE_MS = 1_000;
const NO_CONTEXT = Buffer.alloc(0);

export type ChannelFault =
  | {
      code:
        | "StreamEnded"
        | "StreamFailed"
        | "ProtocolNotAgreed"
        | "PeerWithoutCertificate"
        | "PeerNotOfService"
        | "PeerIsSelf"
        | "PeerSilent"
        | "RoleWrong"
        | "NotAttestedInTime"
        | "Replaced"
        | "Stopped";
    }
  | { code: "PeerUnknown"; peer: NodeId }
  | { code: "PeerUnexpected"; peer: NodeId; expected: NodeId };

export type ChannelEnd = Fault<ChannelFault | FrameFault | EvidenceFault | { code: string }>;

export type ChannelEvents = Readonly<{
  /** Both sides' evidence has been judged here: messages may flow. */
  established(channel: Channel, peer: NodeId): void;
  message(from: NodeId, counter: number, body: Uint8Array): void;
  /** Called once, whatever the cause. */
  closed(channel: Channel, why: ChannelEnd): void;
}>;

export class Channel {
  readonly role: SessionRole;
  readonly #parts: Pick<ChannelParts, "self" | "evidence" | "verifyEvidence" | "isPeer">;
  readonly #events: ChannelEvents;
  readonly #credentials: ChannelCredentials;
  /** The node that was dialled. */
  readonly #expected: NodeId | undefined;
  readonly #stream: Duplex;
  readonly #tls: TLSSocket;
  readonly #reader = new FrameReader();
  readonly #deadline: NodeJS.Timeout;

  #state: "open" | "closed" = "open";
  /** The peer's id and key, once its certificate was accepted. */
  #peer: Readonly<{ id: NodeId; publicKey: Uint8Array; exporter: Uint8Array }> | undefined;
  #helloSent = false;
  #helloSeen = false;
  #accepted = false;

  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #flushScheduled = false;
  #silentTicks = 0;
  #sentSinceTick = false;

  /** Takes over `stream`. `expected` is the node that was dialled; without it this end is the responder. */
  constructor(
    parts: Pick<ChannelParts, "self" | "evidence" | "verifyEvidence" | "isPeer">,
    credentials: ChannelCredentials,
    stream: Duplex,
    expected: NodeId | undefined,
    events: ChannelEvents,
  ) {
    this.#parts = parts;
    this.#credentials = credentials;
    this.#stream = stream;
    this.#expected = expected;
    this.#events = events;
    this.role = expected === undefined ? "responder" : "initiator";
    this.#deadline = setTimeout(
      () => this.#end("NotAttestedInTime", `the peer proved nothing within ${ATTEST_TIMEOUT_MS} ms`),
      ATTEST_TIMEOUT_MS,
    );
    stream.on("error", (error) => this.#end("StreamFailed", `the stream failed: ${error.message}`));
    stream.on("close", () => this.#end("StreamEnded", "the stream ended"));

    const options = {
      cert: credentials.certificate,
      key: credentials.privateKey,
      minVersion: "TLSv1.3",
      ALPNProtocols: [ALPN],
      // The chain is judged in #secured, by the service's key alone.
      rejectUnauthorized: false,
    } as const;
    this.#tls =
      this.role === "initiator"
        ? connect({ ...options, socket: stream, checkServerIdentity: () => undefined })
        : new TLSSocket(stream, { ...options, isServer: true, requestCert: true });
    this.#tls.on("error", (error) => this.#end("StreamFailed", `TLS failed: ${error.message}`));
    this.#tls.on("end", () => this.#end("StreamEnded", "the peer ended the channel"));
    this.#tls.on("close", () => this.#end("StreamEnded", "the channel's stream ended"));
    this.#tls.once(this.role === "initiator" ? "secureConnect" : "secure", () => this.#guard(() => this.#secured()));
    this.#tls.on("data", (chunk: Buffer) => {
      this.#silentTicks = 0;
      this.#reader.push(chunk);
      this.#guard(() => this.#read());
    });
  }

  /** The peer, once its certificate was accepted. */
  get peer(): NodeId | undefined {
    return this.#peer?.id;
  }

  /** Messages may be sent and are delivered. */
  get established(): boolean {
    return this.#state === "open" && this.#helloSent && this.#reader.attested;
  }

  /** The peer has shown that it accepts this node too. */
  get accepted(): boolean {
    return this.#accepted;
  }

  /** Puts a message on its way; the parts must not be changed afterwards. False: too much is waiting, nothing was taken. */
  send(counter: number, body: readonly Uint8Array[]): boolean {
    assert(this.established, "messages go over an established channel");
    const bodyBytes = totalBytes(body);
    const frameBytes = MESSAGE_HEADER_BYTES + bodyBytes;
    if (this.#pendingBytes + this.#tls.writableLength >= QUEUE_BYTES_MAX) return false;
    this.#pending.push(encodeMessageHeader(counter, bodyBytes), ...body);
    this.#pendingBytes += frameBytes;
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => this.#flush());
    }
    return true;
  }

  /** Time passed: shows the peer that we live, and looks for signs that it does and still belongs to the service. */
  tick(): void {
    if (!this.established || this.#peer === undefined) return;
    if (!this.#parts.isPeer(this.#peer.id)) return this.close("PeerUnknown");
    if (++this.#silentTicks > SILENT_TICKS_MAX) return this.#end("PeerSilent", "the peer has been silent for too long");
    if (!this.#sentSinceTick) this.#write(encodePing());
    this.#sentSinceTick = false;
  }

  /** Ends the channel. What was sent before is still given to the stream, for a moment. */
  close(code: "PeerUnknown" | "Replaced" | "Stopped"): void {
    if (this.#state === "closed") return;
    this.#flush();
    const last = setTimeout(() => this.#destroy(), GRACE_MS);
    this.#stream.once("close", () => clearTimeout(last));
    const peer = this.#peer?.id ?? "";
    this.#finish(
      code === "PeerUnknown"
        ? unknownPeer(peer)
        : fault(code, code === "Replaced" ? "the peer opened a newer channel" : "this node closes its channels"),
    );
    if (this.#helloSent) this.#tls.end(() => this.#stream.end());
    else this.#destroy();
  }

  /** The TLS handshake is done: judges the certificate, then shows our evidence. */
  #secured(): void {
    const tls = this.#tls;
    if (tls.getProtocol() !== "TLSv1.3" || tls.alpnProtocol !== ALPN)
      throw fault("ProtocolNotAgreed", `the peer does not speak ${ALPN} over TLS 1.3`);
    const certificate = tls.getPeerX509Certificate();
    if (certificate === undefined) throw fault("PeerWithoutCertificate", "the peer showed no certificate");
    if (!issuedByService(certificate, this.#credentials.serviceCertificate))
      throw fault("PeerNotOfService", "the peer's certificate is not signed by this service");
    const publicKey = publicKeyOf(certificate);
    const id = nodeIdOf(publicKey);
    if (id === this.#parts.self) throw fault("PeerIsSelf", "the stream leads back to this node");
    if (this.#expected !== undefined && id !== this.#expected)
      throw new Fault<ChannelFault>(
        { code: "PeerUnexpected", peer: id, expected: this.#expected },
        `the stream leads to node ${id}, not to ${this.#expected}`,
      );
    if (!this.#parts.isPeer(id)) throw unknownPeer(id);
    const exporter = tls.exportKeyingMaterial(EXPORTER_BYTES, CHANNEL_PURPOSE.exporterLabel, NO_CONTEXT);
    this.#peer = { id, publicKey, exporter };
    void this.#introduce(exporter);
  }

  async #introduce(exporter: Uint8Array): Promise<void> {
    await this.#guardAsync(async () => {
      const publicKey = publicKeyOf(new X509Certificate(this.#credentials.certificate));
      const reportData = sessionReportData(CHANNEL_PURPOSE, { role: this.role, exporter, publicKey });
      const evidence = await this.#parts.evidence(reportData);
      if (this.#state === "closed") return;
      this.#write(encodeHello(this.role, evidence));
      this.#helloSent = true;
      this.#checkEstablished();
    });
  }

  #read(): void {
    while (this.#state === "open") {
      // While its evidence is being verified, a peer is read no further.
      if (this.#helloSeen && !this.#reader.attested) return;
      const frame = this.#reader.next();
      if (frame === undefined) return;
      switch (frame.kind) {
        case "hello":
          this.#helloSeen = true;
          this.#tls.pause();
          void this.#verify(frame);
          break;
        case "message":
          this.#accepted = true;
          this.#deliver(frame.counter, frame.body);
          break;
        case "ping":
          this.#accepted = true;
          break;
        default:
          unreachable(frame);
      }
    }
  }

  async #verify(hello: Hello): Promise<void> {
    await this.#guardAsync(async () => {
      const peer = this.#peer;
      assert(peer !== undefined, "no frame is read before the certificate was judged");
      const role = this.role === "initiator" ? "responder" : "initiator";
      if (hello.role !== role) throw fault("RoleWrong", `the peer claims to be the ${hello.role}, which this end is`);
      const reportData = sessionReportData(CHANNEL_PURPOSE, {
        role,
        exporter: peer.exporter,
        publicKey: peer.publicKey,
      });
      await this.#parts.verifyEvidence(hello.evidence, reportData);
      if (this.#state === "closed") return;
      this.#reader.attested = true;
      this.#tls.resume();
      this.#checkEstablished();
      this.#read();
    });
  }

  #checkEstablished(): void {
    if (!this.established || this.#peer === undefined) return;
    clearTimeout(this.#deadline);
    // Tells the peer that its evidence was accepted.
    this.#write(encodePing());
    this.#events.established(this, this.#peer.id);
  }

  #deliver(counter: number, body: Uint8Array): void {
    assert(this.#peer !== undefined, "messages come from a peer whose evidence was accepted");
    const { id } = this.#peer;
    if (!this.#parts.isPeer(id)) throw unknownPeer(id);
    this.#events.message(id, counter, body);
  }

  #flush(): void {
    this.#flushScheduled = false;
    if (this.#state === "closed" || this.#pendingBytes === 0) return;
    const bytes = Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#write(bytes);
  }

  #write(bytes: Uint8Array): void {
    this.#sentSinceTick = true;
    this.#tls.write(bytes);
  }

  /** Runs what handles the peer's input. */
  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#failed(error);
    }
  }

  async #guardAsync(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * A fault ends the channel; anything else is our bug and ends the enclave, except that a handshake may also fail in ways
   * that OpenSSL and the platform have no codes for.
   */
  #failed(error: unknown): void {
    if (error instanceof Fault) this.#finish(error);
    else if (error instanceof Broken || this.#reader.attested || !(error instanceof Error)) throw error;
    else this.#finish(fault("StreamFailed", `the handshake failed: ${error.message}`));
    this.#destroy();
  }

  #end(code: Exclude<ChannelFault["code"], "PeerUnknown" | "PeerUnexpected">, message: string): void {
    this.#finish(fault(code, message));
    this.#destroy();
  }

  #finish(why: ChannelEnd): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    clearTimeout(this.#deadline);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#events.closed(this, why);
  }

  #destroy(): void {
    this.#tls.destroy();
    this.#stream.destroy();
  }
}

export function totalBytes(parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) sum += part.length;
  return sum;
}

function unknownPeer(peer: NodeId): Fault<ChannelFault> {
  return new Fault<ChannelFault>({ code: "PeerUnknown", peer }, `node ${peer} is not a peer in this service (now)`);
}

function fault(
  code: Exclude<ChannelFault["code"], "PeerUnknown" | "PeerUnexpected">,
  message: string,
): Fault<ChannelFault> {
  return new Fault<ChannelFault>({ code }, message);
}
