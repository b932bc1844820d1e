/**
 * One end of the boundary: typed messages over one byte stream.
 *
 * What is sent within one turn of the event loop leaves in one write: a system call costs more than the frame it
 * carries (eight times at sixteen frames a write). The turn ends with `setImmediate`, not with the current callback,
 * so that answers made in promise jobs of the same turn travel along.
 *
 * The first thing that is wrong ends the port: too long, undecodable, unknown, malformed, cut off, closed. `onFault`
 * gets it once and nothing after it. Inside the enclave that is a fail-stop; whoever sends garbage over the descriptor
 * owns the machine, and there is nothing to negotiate.
 *
 * Neutral: used at both ends. It owns no resource but the stream it was given.
 */
import type { Duplex } from "node:stream";
import { assert, Fault } from "../../protocol/check.ts";
import { type CodecFault, createCodec, LENGTH_BYTES } from "./codec.ts";
import { FRAME_BYTES_MAX } from "./messages.ts";
import type { Direction, MessageOf } from "./schema.ts";

export type PortFault =
  | CodecFault
  | { code: "FrameTooLong"; sizeBytes: number }
  | { code: "FrameCut"; haveBytes: number }
  | { code: "PortClosed" };

export type PortParts<S extends Direction, R extends Direction> = Readonly<{
  stream: Duplex;
  send: S;
  receive: R;
  /** Called for each message in the order it was sent. Bytes in it are views; keep a copy of what must stay small. */
  onMessage(message: MessageOf<R>): void;
  /** The port is dead. Called at most once, never after `close`. */
  onFault(fault: Fault<PortFault>): void;
  /** Sees all bytes as they cross, either way: for an audit of what the other side gets to see. */
  observe?(bytes: Uint8Array): void;
}>;

export interface Port<S extends Direction> {
  /** Sends a message with this turn's others. Never blocks; a sender with bulk data watches `writable`. */
  send(message: MessageOf<S>): void;
  /** False while more than `BUFFERED_BYTES_MAX` wait to be taken by the other process. */
  readonly writable: boolean;
  /** Called whenever the port has become writable again. */
  onDrain(listener: () => void): void;
  /** Sends what waits and ends the stream. Nothing is reported afterwards. */
  close(): void;
}

export const BUFFERED_BYTES_MAX = 1024 * 1024;

/** Frames of one turn up to this size are joined by copying; more are handed over as a vector. */
const JOIN_BYTES_MAX = 64 * 1024;
/** A turn that produced this much does not wait for its end. */
const FLUSH_BYTES = 256 * 1024;

export function openPort<S extends Direction, R extends Direction>(parts: PortParts<S, R>): Port<S> {
  const { stream } = parts;
  const outgoing = createCodec(parts.send);
  const incoming = createCodec(parts.receive);
  const drainListeners: Array<() => void> = [];

  let turn: Buffer[] = [];
  let turnBytes = 0;
  let scheduled = false;
  let full = false;
  let closed = false;

  const reader = new FrameReader((bytes, start, end) => {
    if (closed) return;
    const message = incoming.decode(bytes, start, end);
    parts.onMessage(message);
  });

  stream.on("data", (chunk: Buffer) => {
    if (closed) return;
    parts.observe?.(chunk);
    try {
      reader.push(chunk);
    } catch (error) {
      // Only faults of frames are the other side's; what a handler throws is ours and goes up.
      if (!(error instanceof Fault) || !FRAME_FAULTS.has(error.detail.code)) throw error;
      fail(error as Fault<PortFault>);
    }
  });
  stream.on("drain", () => {
    if (!closed) announceDrain();
  });
  stream.on("end", () => fail(endOf(reader)));
  stream.on("close", () => fail(endOf(reader)));
  stream.on("error", (error) =>
    fail(new Fault<PortFault>({ code: "PortClosed" }, "the boundary broke off", { cause: error })),
  );

  function fail(fault: Fault<PortFault>): void {
    if (closed) return;
    closed = true;
    turn = [];
    stream.destroy();
    parts.onFault(fault);
  }

  function flush(): void {
    scheduled = false;
    if (turn.length === 0 || stream.destroyed) return;
    const frames = turn;
    const sizeBytes = turnBytes;
    turn = [];
    turnBytes = 0;
    if (frames.length === 1) stream.write(frames[0]!);
    else if (sizeBytes <= JOIN_BYTES_MAX) stream.write(Buffer.concat(frames, sizeBytes));
    else {
      stream.cork();
      for (const frame of frames) stream.write(frame);
      stream.uncork();
    }
    // Below the stream's own mark no "drain" will come, so a port that was full until now must say so itself.
    if (full && !stream.writableNeedDrain) announceDrain();
  }

  function announceDrain(): void {
    if (!full || turnBytes + stream.writableLength >= BUFFERED_BYTES_MAX) return;
    full = false;
    for (const listener of drainListeners) listener();
  }

  return {
    send(message) {
      if (closed) return;
      const frame = outgoing.encode(message);
      parts.observe?.(frame);
      assert(frame.length - LENGTH_BYTES <= FRAME_BYTES_MAX, "a message sent fits one frame");
      turn.push(frame);
      turnBytes += frame.length;
      if (turnBytes >= FLUSH_BYTES) flush();
      else if (!scheduled) {
        scheduled = true;
        setImmediate(flush);
      }
    },
    get writable() {
      if (closed) return false;
      if (turnBytes + stream.writableLength < BUFFERED_BYTES_MAX) return true;
      full = true;
      return false;
    },
    onDrain(listener) {
      drainListeners.push(listener);
    },
    close() {
      if (closed) return;
      flush();
      closed = true;
      stream.end();
    },
  };
}

const FRAME_FAULTS: ReadonlySet<string> = new Set<PortFault["code"]>([
  "FrameTooLong",
  "FrameUndecodable",
  "MessageUnknown",
  "MessageMalformed",
]);

/** Finds frames in a stream of chunks. Copies only a frame that lies across chunks, and only that one. */
class FrameReader {
  readonly #onFrame: (bytes: Buffer, start: number, end: number) => void;
  /** The beginning of a frame, in pieces. */
  #parts: Buffer[] = [];
  #have = 0;
  /** How much of it must be there before there is anything new to see: its length, then all of it. */
  #need = LENGTH_BYTES;

  constructor(onFrame: (bytes: Buffer, start: number, end: number) => void) {
    this.#onFrame = onFrame;
  }

  get haveBytes(): number {
    return this.#have;
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (this.#have > 0) {
      const piece = chunk.subarray(at, at + this.#need - this.#have);
      at += piece.length;
      this.#parts.push(piece);
      this.#have += piece.length;
      if (this.#have < this.#need) return;

      const frame = Buffer.concat(this.#parts, this.#have);
      const sizeBytes = frameSize(frame, 0);
      this.#need = LENGTH_BYTES + sizeBytes;
      if (this.#have === this.#need) {
        this.#reset();
        this.#onFrame(frame, LENGTH_BYTES, frame.length);
      } else this.#parts = [frame];
    }

    while (chunk.length - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + frameSize(chunk, at);
      if (end > chunk.length) {
        this.#need = end - at;
        break;
      }
      this.#onFrame(chunk, at + LENGTH_BYTES, end);
      at = end;
    }
    if (at < chunk.length) {
      this.#parts = [chunk.subarray(at)];
      this.#have = chunk.length - at;
    }
  }

  #reset(): void {
    this.#parts = [];
    this.#have = 0;
    this.#need = LENGTH_BYTES;
  }
}

/** @throws Fault<PortFault> `FrameTooLong` */
function frameSize(bytes: Buffer, at: number): number {
  const sizeBytes = bytes.readUInt32LE(at);
  if (sizeBytes > FRAME_BYTES_MAX)
    throw new Fault<PortFault>({ code: "FrameTooLong", sizeBytes }, "a frame is longer than any message may be");
  return sizeBytes;
}

function endOf(reader: FrameReader): Fault<PortFault> {
  return reader.haveBytes > 0
    ? new Fault<PortFault>({ code: "FrameCut", haveBytes: reader.haveBytes }, "the boundary ended within a frame")
    : new Fault<PortFault>({ code: "PortClosed" }, "the process at the other end of the boundary is gone");
}
