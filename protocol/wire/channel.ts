/**
 * Frames on the TLS session between two enclaves.
 *
 *   offset  size  field    meaning
 *   ------  ----  -------  -----------------------------------------------------------------
 *   0       4     length   u32 LE, bytes of the payload
 *   4       1     kind     1 hello, 2 message, 3 ping
 *   5       n     payload
 *
 *   hello    u8 version (1) ‖ u8 role (1 initiator, 2 responder) ‖ evidence. First, once, in each direction; the evidence
 *            (attestation/quote-info.ts) has as report data `sessionReportData(CHANNEL_PURPOSE, ...)` of its sender.
 *   message  u64 LE counter ‖ body. A sender counts its messages up from 1, over all peers and channels of its life; the
 *            receiver drops what does not exceed the last counter of that sender. TLS keeps the order within one channel,
 *            the counter keeps it across two. Gaps mean nothing, or losses, which consensus expects.
 *   ping     empty. Says that the sender lives, and, after a hello, that it has accepted the receiver's.
 *
 * The initiator is the end that opened the stream: the TLS client.
 *
 * Neutral. Pure.
 */
import { EVIDENCE_BYTES_MAX } from "../attestation/quote-info.ts";
import type { SessionRole } from "../attestation/report-data.ts";
import { view } from "../bytes.ts";
import { assert, Fault } from "../check.ts";

export const FRAME_HEADER_BYTES = 5;
/** Header and counter. */
export const MESSAGE_HEADER_BYTES = FRAME_HEADER_BYTES + 8;
/** Bytes of a message's body: one ledger entry of the largest size, and room around it. */
export const MESSAGE_BYTES_MAX = 33 * 1024 * 1024;

const VERSION = 1;
const HELLO_HEADER_BYTES = 2;
const KINDS = { hello: 1, message: 2, ping: 3 } as const;
const ROLES = { initiator: 1, responder: 2 } as const;

export type Hello = Readonly<{ kind: "hello"; role: SessionRole; evidence: Uint8Array }>;
export type ChannelFrame = Hello | Readonly<{ kind: "message"; counter: number; body: Uint8Array }> | { kind: "ping" };

export type FrameFault =
  | { code: "FrameKindUnknown"; kind: number }
  | { code: "FrameTooLong"; kind: number; length: number }
  | { code: "FrameMalformed"; kind: number }
  | { code: "ProtocolVersionUnknown"; version: number };

export function encodeHello(role: SessionRole, evidence: Uint8Array): Buffer {
  assert(evidence.length <= EVIDENCE_BYTES_MAX, "own evidence has a size that peers accept");
  const head = Buffer.from([0, 0, 0, 0, KINDS.hello, VERSION, ROLES[role]]);
  head.writeUInt32LE(HELLO_HEADER_BYTES + evidence.length);
  return Buffer.concat([head, evidence]);
}

/** What comes before the body of a message. */
export function encodeMessageHeader(counter: number, bodyBytes: number): Buffer {
  assert(bodyBytes <= MESSAGE_BYTES_MAX, "a message fits into a frame");
  const head = Buffer.allocUnsafe(MESSAGE_HEADER_BYTES);
  head.writeUInt32LE(8 + bodyBytes);
  head[4] = KINDS.message;
  head.writeUInt32LE(counter % 2 ** 32, 5);
  head.writeUInt32LE(Math.floor(counter / 2 ** 32), 9);
  return head;
}

export function encodePing(): Buffer {
  return Buffer.from([0, 0, 0, 0, KINDS.ping]);
}

/**
 * Cuts a stream of chunks into frames. Bodies are views of the chunks given in wherever a frame lies within one chunk,
 * and copies where it does not; the chunks must not be changed afterwards.
 *
 * Until `attested` is set, only a hello may come: an unproven peer can make us keep `EVIDENCE_BYTES_MAX`, not 33 MiB.
 */
export class FrameReader {
  attested = false;
  #chunks: Buffer[] = [];
  #bytes = 0;

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(view(chunk));
    this.#bytes += chunk.length;
  }

  /** The next complete frame, if there is one. @throws Fault<FrameFault> after which the stream is useless */
  next(): ChannelFrame | undefined {
    if (this.#bytes < FRAME_HEADER_BYTES) return undefined;
    const head = this.#head();
    const length = head.readUInt32LE(0);
    const kind = head[4] ?? 0;
    this.#admit(kind, length);
    if (this.#bytes < FRAME_HEADER_BYTES + length) return undefined;
    const frame = this.#take(FRAME_HEADER_BYTES + length);
    return parse(kind, frame.subarray(FRAME_HEADER_BYTES));
  }

  /** Refuses a frame by its header, before its payload is waited for. */
  #admit(kind: number, length: number): void {
    const max = this.attested ? MAX_ATTESTED[kind] : MAX_UNPROVEN[kind];
    if (max === undefined)
      throw new Fault<FrameFault>({ code: "FrameKindUnknown", kind }, `a frame of kind ${kind} has no place here`);
    if (length > max)
      throw new Fault<FrameFault>(
        { code: "FrameTooLong", kind, length },
        `a frame of kind ${kind} has ${length} bytes; at most ${max} are accepted`,
      );
  }

  /** At least the header's bytes, in one piece. */
  #head(): Buffer {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= FRAME_HEADER_BYTES) return first;
    this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #take(length: number): Buffer {
    this.#bytes -= length;
    const first = this.#chunks[0];
    assert(first !== undefined, "bytes counted are bytes kept");
    if (first.length > length) {
      this.#chunks[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    if (first.length === length) {
      this.#chunks.shift();
      return first;
    }
    const frame = Buffer.allocUnsafe(length);
    let filled = 0;
    let used = 0;
    for (const chunk of this.#chunks) {
      const part = chunk.subarray(0, length - filled);
      frame.set(part, filled);
      filled += part.length;
      if (part.length < chunk.length) {
        this.#chunks[used] = chunk.subarray(part.length);
        break;
      }
      used++;
    }
    this.#chunks.splice(0, used);
    return frame;
  }
}

const MAX_UNPROVEN: Readonly<Record<number, number>> = { [KINDS.hello]: HELLO_HEADER_BYTES + EVIDENCE_BYTES_MAX };
const MAX_ATTESTED: Readonly<Record<number, number>> = { [KINDS.message]: 8 + MESSAGE_BYTES_MAX, [KINDS.ping]: 0 };

function parse(kind: number, payload: Buffer): ChannelFrame {
  switch (kind) {
    case KINDS.hello:
      return parseHello(payload);
    case KINDS.message:
      return parseMessage(payload);
    default:
      assert(kind === KINDS.ping, "unknown kinds were refused by their header");
      return { kind: "ping" };
  }
}

function parseHello(payload: Buffer): Hello {
  const [version, code] = payload;
  if (version === undefined || code === undefined) throw malformed(KINDS.hello, "a hello is cut short");
  if (version !== VERSION)
    throw new Fault<FrameFault>(
      { code: "ProtocolVersionUnknown", version },
      `the peer speaks version ${version} of the channel protocol, this node version ${VERSION}`,
    );
  const role = code === ROLES.initiator ? "initiator" : code === ROLES.responder ? "responder" : undefined;
  if (role === undefined) throw malformed(KINDS.hello, "a hello names no known role");
  return { kind: "hello", role, evidence: payload.subarray(HELLO_HEADER_BYTES) };
}

function parseMessage(payload: Buffer): ChannelFrame {
  if (payload.length < 8) throw malformed(KINDS.message, "a message is cut short");
  const high = payload.readUInt32LE(4);
  if (high > 0x1fffff) throw malformed(KINDS.message, "a message's counter is beyond 2^53");
  return { kind: "message", counter: high * 2 ** 32 + payload.readUInt32LE(0), body: payload.subarray(8) };
}

function malformed(kind: number, message: string): Fault<FrameFault> {
  return new Fault<FrameFault>({ code: "FrameMalformed", kind }, message);
}
