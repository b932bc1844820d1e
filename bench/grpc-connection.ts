/**
 * As much of gRPC over HTTP/2 as etcd needs: unary calls, many at once on one connection.
 *
 * Node's own HTTP/2 client would cost the generator several times as much per call, and the peer would pay for it: both
 * run on the same cores. Header blocks are sent as constant literals (RFC 7541 6.2.2) and never decoded on the way back:
 * a call has succeeded when a message arrived before the stream ended, because an error answer carries none.
 */
import { connect, type TLSSocket } from "node:tls";
import type { TlsFiles } from "./http-connection.ts";

type Callback = (error: Error | undefined, message?: Buffer) => void;
type Call = { message: Buffer; callback: Callback };

const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
const FLAG = { endStream: 1, ack: 1, endHeaders: 4 } as const;
const HEAD_BYTES = 9;
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const SETTING_INITIAL_WINDOW = 4;
const STREAM_WINDOW = 4 * 1024 * 1024;
/** Received bytes are paid back to the peer in portions of this size. */
const CREDIT_BYTES = 8 * 1024 * 1024;
const CONNECTION_WINDOW_START = 65_535;
/** gRPC's prefix of a message: compressed flag and length. */
const PREFIX_BYTES = 5;

export class GrpcConnection {
  readonly ready: Promise<void>;
  readonly #authority: string;
  readonly #socket: TLSSocket;
  readonly #headers = new Map<string, Buffer>();
  readonly #calls = new Map<number, Call>();
  readonly #waiting: Buffer[] = [];
  #nextStream = 1;
  #sendWindow = CONNECTION_WINDOW_START;
  #unpaid = 0;
  #received: Buffer = Buffer.alloc(0);
  #out: Buffer[] = [];

  constructor(address: string, tls: TlsFiles) {
    const [host, port] = address.split(":");
    this.#authority = address;
    this.#socket = connect({ host, port: Number(port), ALPNProtocols: ["h2"], minVersion: "TLSv1.3", ...tls });
    this.#socket.setNoDelay(true);
    this.ready = new Promise((resolve, reject) => {
      this.#socket.once("error", reject);
      this.#socket.once("secureConnect", () => {
        const settings = Buffer.alloc(6);
        settings.writeUInt16BE(SETTING_INITIAL_WINDOW, 0);
        settings.writeUInt32BE(STREAM_WINDOW, 2);
        this.#socket.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0, settings), credit(2 * CREDIT_BYTES)]));
        resolve();
      });
    });
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("close", () => this.#fail(new Error("connection closed")));
    this.#socket.on("error", (error) => this.#fail(error));
  }

  /** Calls a method with an encoded protobuf message. */
  call(method: string, message: Uint8Array, callback: Callback): void {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    this.#calls.set(stream, { message: Buffer.alloc(0), callback });
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(message.length, 1);
    this.#write(frame(FRAME.headers, FLAG.endHeaders, stream, this.#headersFor(method)));
    this.#waiting.push(frame(FRAME.data, FLAG.endStream, stream, Buffer.concat([prefix, message])));
    this.#writeWaiting();
  }

  close(): void {
    this.#calls.clear();
    this.#socket.destroy();
  }

  #headersFor(method: string): Buffer {
    let block = this.#headers.get(method);
    if (block === undefined) {
      block = Buffer.concat(
        Object.entries({
          ":method": "POST",
          ":scheme": "https",
          ":path": method,
          ":authority": this.#authority,
          "content-type": "application/grpc",
          te: "trailers",
        }).map(([name, value]) => Buffer.concat([Buffer.from([0]), literal(name), literal(value)])),
      );
      this.#headers.set(method, block);
    }
    return block;
  }

  #writeWaiting(): void {
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined || next.length - HEAD_BYTES > this.#sendWindow) return;
      this.#waiting.shift();
      this.#sendWindow -= next.length - HEAD_BYTES;
      this.#write(next);
    }
  }

  /** What one turn of the event loop produces goes out as one TLS record. */
  #write(bytes: Buffer): void {
    if (this.#out.push(bytes) > 1) return;
    process.nextTick(() => {
      const out = this.#out;
      this.#out = [];
      this.#socket.write(Buffer.concat(out));
    });
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    let at = 0;
    while (bytes.length - at >= HEAD_BYTES) {
      const length = bytes.readUIntBE(at, 3);
      if (bytes.length - at - HEAD_BYTES < length) break;
      const stream = bytes.readUInt32BE(at + 5) & 0x7fffffff;
      const start = at + HEAD_BYTES;
      this.#frame(bytes[at + 3]!, bytes[at + 4]!, stream, bytes.subarray(start, start + length));
      at = start + length;
    }
    this.#received = bytes.subarray(at);
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    const call = this.#calls.get(stream);
    switch (type) {
      case FRAME.data:
        if (call !== undefined) call.message = Buffer.concat([call.message, payload]);
        this.#unpaid += payload.length;
        if (this.#unpaid >= CREDIT_BYTES) {
          this.#write(credit(this.#unpaid));
          this.#unpaid = 0;
        }
        if (flags & FLAG.endStream) this.#end(stream);
        return;
      case FRAME.headers:
        if (flags & FLAG.endStream) this.#end(stream);
        return;
      case FRAME.settings:
        if (!(flags & FLAG.ack)) this.#write(frame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)));
        return;
      case FRAME.ping:
        if (!(flags & FLAG.ack)) this.#write(frame(FRAME.ping, FLAG.ack, 0, payload));
        return;
      case FRAME.windowUpdate:
        if (stream === 0) this.#sendWindow += payload.readUInt32BE(0) & 0x7fffffff;
        return this.#writeWaiting();
      case FRAME.reset:
        this.#calls.delete(stream);
        return call?.callback(new Error("stream reset"));
      case FRAME.goAway:
        return void this.#socket.destroy();
    }
  }

  #end(stream: number): void {
    const call = this.#calls.get(stream);
    this.#calls.delete(stream);
    if (call === undefined) return;
    if (call.message.length < PREFIX_BYTES) call.callback(new Error("the server answered with an error status"));
    else call.callback(undefined, call.message.subarray(PREFIX_BYTES));
  }

  #fail(error: Error): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.callback(error);
  }
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

function credit(bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes, 0);
  return frame(FRAME.windowUpdate, 0, 0, payload);
}

/** A string literal without Huffman coding; all of ours are shorter than 127 bytes. */
function literal(text: string): Buffer {
  return Buffer.concat([Buffer.from([text.length]), Buffer.from(text, "latin1")]);
}
