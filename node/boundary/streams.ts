/**
 * The enclave's end of the boundary's streams, as ordinary Node Duplexes.
 *
 * TLS and the channels know nothing of the boundary: they get a Duplex and treat it like a socket. Reading gives credit
 * back as the reader takes bytes; a write's callback comes when the bytes are on their way to the host. `end()` followed
 * by `destroy()` still delivers what was written, as with a socket; `destroy()` alone drops it.
 *
 * The host decides when a stream breaks, so an 'error' without a listener must not be able to stop the enclave: every
 * Duplex has one that does nothing.
 *
 * Neutral: pure apart from the port it is given. Used inside the enclave and by tests.
 */
import { Duplex } from "node:stream";
import { unreachable } from "../../protocol/check.ts";
import { STREAMS_MAX, type toEnclave, type toHost } from "./messages.ts";
import type { Port } from "./port.ts";
import type { MessageOf } from "./schema.ts";
import { type BoundaryStream, createStreamTable, type StreamEvents, type StreamTable } from "./stream-table.ts";

export type StreamProtocol = "rpc" | "peer";

/** What the host says about a stream it opened. `from` is a hint for logs. */
export type Opened = Readonly<{ protocol: StreamProtocol; interface: string; from: string }>;

export type StreamMessage = Extract<
  MessageOf<typeof toEnclave>,
  { kind: "streamOpened" | "streamConnected" | "streamData" | "streamCredit" | "streamEnded" }
>;

export type StreamsParts = Readonly<{
  port: Port<typeof toHost>;
  /** The host opened a stream. */
  onOpened(opened: Opened, stream: Duplex): void;
  streamsMax?: number;
}>;

export interface Streams {
  readonly size: number;
  /**
   * A stream to an RPC address of another node, or to the host of a peer. It takes bytes at once; 'connect' is emitted
   * when the host says that it stands. Over the limit of streams it is destroyed with an error right away.
   */
  open(protocol: StreamProtocol, address: string): Duplex;
  /** Takes what the host says about streams. @throws Fault<StreamFault> when it makes no sense: fail-stop. */
  receive(message: StreamMessage): void;
  close(reason: string): void;
}

const READ_BUFFER_BYTES = 64 * 1024;
/** Small pieces of one write are joined into one message up to this size. */
const JOIN_BYTES_MAX = 32 * 1024;

export function createStreams(parts: StreamsParts): Streams {
  const { port } = parts;
  const connecting = new Map<number, Duplex>();
  const table: StreamTable = createStreamTable({
    side: "enclave",
    streamsMax: parts.streamsMax ?? STREAMS_MAX,
    wire: {
      data: (stream, data) => port.send({ kind: "streamData", stream, data }),
      credit: (stream, bytes) => port.send({ kind: "streamCredit", stream, bytes }),
      end: (stream) => port.send({ kind: "streamEnd", stream, abort: false }),
      abort: (stream) => port.send({ kind: "streamEnd", stream, abort: true }),
      writable: () => port.writable,
    },
  });

  port.onDrain(() => table.portDrained());

  return {
    get size() {
      return table.size;
    },
    open(protocol, address) {
      const duplex = new BoundaryDuplex();
      const stream = table.open((opened) => {
        port.send({ kind: "streamOpen", stream: opened.number, protocol, address });
        return duplex.attach(opened);
      });
      if (stream === undefined) duplex.destroy(new Error("too many streams are open"));
      else {
        connecting.set(stream.number, duplex);
        duplex.once("close", () => connecting.delete(stream.number));
      }
      return duplex;
    },
    receive(message: StreamMessage): void {
      switch (message.kind) {
        case "streamOpened": {
          const duplex = new BoundaryDuplex();
          const stream = table.opened(message.stream, (opened) => duplex.attach(opened));
          if (stream !== undefined) parts.onOpened(message, duplex);
          return;
        }
        case "streamConnected": {
          const duplex = connecting.get(message.stream);
          connecting.delete(message.stream);
          duplex?.emit("connect");
          return;
        }
        case "streamData":
          table.received(message.stream, message.data);
          return;
        case "streamCredit":
          table.credited(message.stream, message.bytes);
          return;
        case "streamEnded":
          if (message.error === "") table.ended(message.stream);
          else table.aborted(message.stream, message.error);
          return;
        default:
          return unreachable(message);
      }
    },
    close(reason) {
      table.close(reason);
    },
  };
}

class BoundaryDuplex extends Duplex {
  #stream: BoundaryStream | undefined;
  /** Bytes pushed whose credit was not given back. */
  #held = 0;
  #onSent: ((error?: Error | null) => void) | undefined;

  constructor() {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: READ_BUFFER_BYTES,
      writableHighWaterMark: READ_BUFFER_BYTES,
    });
    this.on("error", () => {});
  }

  attach(stream: BoundaryStream): StreamEvents {
    this.#stream = stream;
    return {
      data: (bytes) => {
        this.#held += bytes.length;
        this.push(bytes);
        this.#giveBack();
      },
      drain: () => this.#sent(null),
      ended: () => this.push(null),
      closed: (error) => {
        this.#stream = undefined;
        if (error !== undefined && !this.destroyed) this.destroy(new Error(error));
        else this.#sent(null);
      },
    };
  }

  override _read(): void {
    this.#giveBack();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#stream === undefined) done(gone());
    else if (this.#stream.send(chunk)) done();
    else this.#onSent = done;
  }

  override _writev(chunks: Array<{ chunk: Buffer }>, done: (error?: Error | null) => void): void {
    if (this.#stream === undefined) return done(gone());
    let sizeBytes = 0;
    for (const { chunk } of chunks) sizeBytes += chunk.length;
    let sent = true;
    if (sizeBytes <= JOIN_BYTES_MAX) sent = this.#stream.send(Buffer.concat(chunks.map(({ chunk }) => chunk)));
    else for (const { chunk } of chunks) sent = this.#stream.send(chunk);
    if (sent) done();
    else this.#onSent = done;
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream?.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stream?.abort(error?.message ?? "closed");
    this.#sent(error ?? gone());
    done(error);
  }

  #sent(error: Error | null): void {
    const done = this.#onSent;
    this.#onSent = undefined;
    done?.(error);
  }

  #giveBack(): void {
    const sizeBytes = this.#held - this.readableLength;
    if (sizeBytes <= 0) return;
    this.#held -= sizeBytes;
    this.#stream?.used(sizeBytes);
  }
}

function gone(): Error {
  return new Error("the stream is over");
}
