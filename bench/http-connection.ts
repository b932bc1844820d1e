/**
 * One HTTP/1.1 keep-alive connection over TLS with one request outstanding: as little client as will do.
 *
 * The generator shares the machine with the servers it measures; what it spends they do not have.
 */
import { connect, type TLSSocket } from "node:tls";

export type TlsFiles = Readonly<{ ca: string; cert?: string; key?: string }>;
export type Answer = Readonly<{ status: number; head: string; body: Buffer }>;
type Callback = (error: Error | undefined, answer?: Answer) => void;

const HEAD_END = Buffer.from("\r\n\r\n");
const NOTHING: Buffer = Buffer.alloc(0);

export class HttpConnection {
  readonly #host: string;
  readonly #socket: TLSSocket;
  readonly ready: Promise<void>;
  #received: Buffer = NOTHING;
  #waiting: Callback | undefined;

  constructor(address: string, tls: TlsFiles) {
    const [host, port] = address.split(":");
    this.#host = address;
    this.#socket = connect({ host, port: Number(port), ALPNProtocols: ["http/1.1"], minVersion: "TLSv1.3", ...tls });
    this.#socket.setNoDelay(true);
    this.ready = new Promise((resolve, reject) => {
      this.#socket.once("secureConnect", resolve);
      this.#socket.once("error", reject);
    });
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("error", (error) => this.#settle(error));
    this.#socket.on("close", () => this.#settle(new Error("connection closed")));
  }

  /** `head`: request line target and extra header lines, each ended by CRLF. */
  request(method: string, path: string, headers: string, body: string | undefined, callback: Callback): void {
    this.#waiting = callback;
    const length =
      body === undefined ? "" : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`;
    this.#socket.write(`${method} ${path} HTTP/1.1\r\nhost: ${this.#host}\r\n${headers}${length}\r\n${body ?? ""}`);
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const end = bytes.indexOf(HEAD_END);
    if (end < 0) {
      this.#received = bytes;
      return;
    }
    const head = bytes.toString("latin1", 0, end);
    const length = Number(/\r\ncontent-length:\s*(\d+)/i.exec(head)?.[1] ?? 0);
    const bodyAt = end + HEAD_END.length;
    if (bytes.length < bodyAt + length) {
      this.#received = bytes;
      return;
    }
    this.#received = NOTHING;
    this.#settle(undefined, { status: Number(head.slice(9, 12)), head, body: bytes.subarray(bodyAt, bodyAt + length) });
  }

  #settle(error: Error | undefined, answer?: Answer): void {
    const callback = this.#waiting;
    this.#waiting = undefined;
    callback?.(error, answer);
  }
}
