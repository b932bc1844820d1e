/**
 * A libp2p stream as a Node Duplex, with back-pressure both ways.
 *
 * libp2p 3 streams are event targets: `send` says false when full, 'drain' when there may be room again; `pause` makes
 * yamux hold back its window. A Duplex says the same with `write`/'drain' and `push`/`_read`. The stream's `onDrain()`
 * is of no use here: in @libp2p/utils 7.4.1 its promise is made once and stays resolved ever after.
 *
 * Untrusted.
 */
import { Duplex } from "node:stream";
import type { Libp2p } from "libp2p";

/** libp2p's own name for this type is in a package that is not a dependency of ours. */
export type RelayStream = Awaited<ReturnType<Libp2p["dialProtocol"]>>;

const BUFFER_BYTES = 256 * 1024;

export function relayDuplex(stream: RelayStream): Duplex {
  return new RelayDuplex(stream);
}

class RelayDuplex extends Duplex {
  readonly #stream: RelayStream;
  #remoteEnded = false;
  #onSent: ((error?: Error | null) => void) | undefined;

  constructor(stream: RelayStream) {
    super({ allowHalfOpen: true, readableHighWaterMark: BUFFER_BYTES, writableHighWaterMark: BUFFER_BYTES });
    this.#stream = stream;
    // A peer breaks streams when it likes; an unheard 'error' would end this process.
    this.on("error", () => {});
    stream.addEventListener("message", (event) => {
      const bytes = event.data.subarray();
      if (!this.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))) this.#pause();
    });
    // The stream sends its own queue in a microtask of this event, and may be full again after it.
    stream.addEventListener("drain", () => queueMicrotask(() => this.#drained()));
    stream.addEventListener("remoteCloseWrite", () => this.#endRead());
    stream.addEventListener("close", (event) => {
      if (event.error === undefined && this.#remoteEnded) return;
      if (event.error === undefined && this.writableFinished) this.#endRead();
      else this.destroy(event.error ?? new Error("the connection to the other node closed"));
    });
  }

  override _read(): void {
    if (this.#stream.readStatus === "paused") this.#stream.resume();
    if (this.#remoteEnded && this.#stream.readBufferLength === 0) this.push(null);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      if (this.#stream.send(chunk)) return done();
    } catch (error) {
      return done(error as Error);
    }
    this.#onSent = done;
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.close().then(() => done(), done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const over = this.#remoteEnded && this.writableFinished;
    if (!over) this.#stream.abort(error ?? new Error("closed"));
    done(error);
  }

  #drained(): void {
    if (this.#stream.writableNeedsDrain) return;
    const done = this.#onSent;
    this.#onSent = undefined;
    done?.();
  }

  #pause(): void {
    if (this.#stream.readStatus === "readable") this.#stream.pause();
  }

  /** The remote sends no more; what is buffered because of a pause comes first. */
  #endRead(): void {
    if (this.#remoteEnded) return;
    this.#remoteEnded = true;
    if (this.#stream.readBufferLength === 0) this.push(null);
  }
}
