/**
 * One client connection: who is at the other end, and whose turn it is.
 *
 * Requests that a client sends without waiting (pipelining) are executed one after the other in the order they arrived,
 * as if it had waited. Only the wait for commit is left out of the turn: the next request may run while the previous
 * one's transaction is on its way to the other nodes.
 *
 * Trusted.
 */
import type { TLSSocket } from "node:tls";
import type { View } from "../../../protocol/ids.ts";
import type { Session } from "./endpoint.ts";

const NO_CONTEXT = Buffer.alloc(0);

/** A place in the line of a session's requests. */
export type Turn = { run: (() => void) | undefined; started: boolean };

export class HttpSession implements Session {
  readonly id: number;
  readonly interface: string;
  /** Consensus view when this session's first request was executed. */
  view: View | undefined;
  readonly #socket: TLSSocket;
  readonly #line: Turn[] = [];
  /** Null until somebody asked. */
  #certificate: Uint8Array | null | undefined = null;

  constructor(id: number, interfaceName: string, socket: TLSSocket) {
    this.id = id;
    this.interface = interfaceName;
    this.#socket = socket;
  }

  get clientCertificate(): Uint8Array | undefined {
    if (this.#certificate === null) this.#certificate = this.#socket.getPeerX509Certificate()?.raw;
    return this.#certificate;
  }

  exportKey(label: string, length: number): Uint8Array {
    return this.#socket.exportKeyingMaterial(length, label, NO_CONTEXT);
  }

  /** Requests whose turn has not ended. */
  get waiting(): number {
    return this.#line.length;
  }

  /** A request begins to arrive. */
  arrive(): Turn {
    const turn: Turn = { run: undefined, started: false };
    this.#line.push(turn);
    return turn;
  }

  /** The request is complete: runs it as soon as those before it have had their turn. */
  ready(turn: Turn, run: () => void): void {
    turn.run = run;
    this.#advance();
  }

  /** The request was executed, or will never be. */
  leave(turn: Turn): void {
    const at = this.#line.indexOf(turn);
    if (at >= 0) this.#line.splice(at, 1);
    this.#advance();
  }

  #advance(): void {
    const first = this.#line[0];
    if (first?.run === undefined || first.started) return;
    first.started = true;
    first.run();
  }
}
