/**
 * The host's end of the boundary's streams: sockets and libp2p streams are pumped to and from the enclave.
 *
 * The host sees ciphertext only, so there is nothing here to understand, only to move: bytes, ends and breaks, with
 * back-pressure both ways. Node's own `pipe` would put two more stream objects between a socket and the port for each
 * connection; this is the hottest path of the host.
 *
 * Untrusted.
 */
import type { Duplex } from "node:stream";
import { unreachable } from "../../protocol/check.ts";
import { STREAMS_MAX, type toEnclave, type toHost } from "../boundary/messages.ts";
import type { Port } from "../boundary/port.ts";
import type { MessageOf } from "../boundary/schema.ts";
import { type BoundaryStream, createStreamTable, type StreamEvents } from "../boundary/stream-table.ts";

export type StreamMessage = Extract<
  MessageOf<typeof toHost>,
  { kind: "streamOpen" | "streamData" | "streamCredit" | "streamEnd" }
>;

export type HostStreamsParts = Readonly<{
  port: Port<typeof toEnclave>;
  /** The enclave wants a connection. Rejects with an error that says what cannot be reached and why. */
  connect(protocol: "rpc" | "peer", address: string): Promise<Duplex>;
}>;

export interface HostStreams {
  readonly size: number;
  /** Tells the enclave of a connection and pumps it from now on. */
  accepted(socket: Duplex, opened: Readonly<{ protocol: "rpc" | "peer"; interface: string; from: string }>): void;
  /** Takes what the enclave says about streams. @throws Fault<StreamFault>: the enclave is broken. */
  receive(message: StreamMessage): void;
  /** The enclave is gone: breaks every connection. */
  close(): void;
}

/** How long a socket may take to deliver what was written before it is cut, and to read what nobody wants any more. */
const LINGER_MS = 10_000;
const TEXT_MAX = 256;

export function createHostStreams(parts: HostStreamsParts): HostStreams {
  const { port } = parts;
  const table = createStreamTable({
    side: "host",
    streamsMax: STREAMS_MAX,
    wire: {
      data: (stream, data) => port.send({ kind: "streamData", stream, data }),
      credit: (stream, bytes) => port.send({ kind: "streamCredit", stream, bytes }),
      end: (stream) => port.send({ kind: "streamEnded", stream, error: "" }),
      abort: (stream, error) => port.send({ kind: "streamEnded", stream, error: clip(error) || "closed" }),
      writable: () => port.writable,
    },
  });

  function connect(stream: BoundaryStream, protocol: "rpc" | "peer", address: string): StreamEvents {
    const socket = Promise.resolve().then(() => parts.connect(protocol, address));
    const waiting: Uint8Array[] = [];
    let events: StreamEvents | undefined;
    let ended = false;
    let over = false;
    socket.then(
      (connected) => {
        if (over) return void connected.destroy();
        port.send({ kind: "streamConnected", stream: stream.number });
        events = pump(stream, connected);
        for (const bytes of waiting) events.data(bytes);
        if (ended) events.ended();
      },
      (error: Error) => stream.abort(error.message),
    );
    return {
      data: (bytes) => (events ? events.data(bytes) : waiting.push(bytes)),
      drain: () => events?.drain(),
      ended: () => {
        ended = true;
        events?.ended();
      },
      closed: (error) => {
        over = true;
        events?.closed(error);
      },
    };
  }

  port.onDrain(() => table.portDrained());

  return {
    get size() {
      return table.size;
    },
    accepted(socket, opened) {
      const stream = table.open((made) => {
        port.send({ kind: "streamOpened", stream: made.number, ...opened, from: clip(opened.from) });
        return pump(made, socket);
      });
      if (stream === undefined) socket.destroy();
    },
    receive(message: StreamMessage): void {
      switch (message.kind) {
        case "streamOpen":
          table.opened(message.stream, (stream) => connect(stream, message.protocol, message.address));
          return;
        case "streamData":
          table.received(message.stream, message.data);
          return;
        case "streamCredit":
          table.credited(message.stream, message.bytes);
          return;
        case "streamEnd":
          if (message.abort) table.aborted(message.stream, "closed");
          else table.ended(message.stream);
          return;
        default:
          return unreachable(message);
      }
    },
    close: () => table.close("the enclave is gone"),
  };
}

/** Connects a socket with a boundary stream until both are over. */
function pump(stream: BoundaryStream, socket: Duplex): StreamEvents {
  let owedBytes = 0;
  let ended = false;

  socket.on("data", (bytes: Buffer) => {
    if (!stream.send(bytes)) socket.pause();
  });
  socket.on("drain", () => {
    const sizeBytes = owedBytes;
    owedBytes = 0;
    stream.used(sizeBytes);
  });
  socket.on("end", () => stream.end());
  socket.on("error", (error) => stream.abort(error.message));
  socket.on("close", () => stream.abort("closed"));

  return {
    data(bytes) {
      if (socket.destroyed) return;
      if (socket.write(bytes)) stream.used(bytes.length);
      else owedBytes += bytes.length;
    },
    drain() {
      socket.resume();
    },
    ended() {
      ended = true;
      socket.end();
    },
    closed() {
      if (!ended) return void socket.destroy();
      // Destroying a socket with unread input resets the connection, and the reset overtakes the last answer.
      socket.removeAllListeners("data");
      socket.resume();
      const cut = setTimeout(() => socket.destroy(), LINGER_MS);
      cut.unref();
      socket.once("close", () => clearTimeout(cut));
    },
  };
}

function clip(text: string): string {
  return text.slice(0, TEXT_MAX);
}
