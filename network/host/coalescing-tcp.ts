/**
 * libp2p's TCP transport, writing once a turn.
 *
 * Noise and yamux give every piece of a frame to the socket by itself: a length, a ciphertext, a tag, a header. With
 * Nagle's algorithm off (and with it on, a delayed acknowledgement would cost 40 ms) each piece is a system call here and
 * a packet and a wake-up there: 22 writes for one commit on a primary with two peers, counted with strace. So the socket
 * is corked at the first write of a turn of the event loop and uncorked at its end.
 *
 * The transport makes its sockets itself and shows them to the upgrader alone, which is where they are caught.
 *
 * Untrusted.
 */
import { Socket } from "node:net";
import { type TCPOptions, tcp } from "@libp2p/tcp";

type TransportOf = ReturnType<typeof tcp>;
type Tcp = ReturnType<TransportOf>;
type DialOptions = Parameters<Tcp["dial"]>[1];
type Upgrader = DialOptions["upgrader"];

export function coalescingTcp(options: TCPOptions): TransportOf {
  const make = tcp(options);
  return (components) => {
    const transport = make(components);
    const dial = transport.dial.bind(transport);
    const createListener = transport.createListener.bind(transport);
    transport.dial = (address, given) => dial(address, { ...given, upgrader: catching(given.upgrader) });
    transport.createListener = (given) => createListener({ ...given, upgrader: catching(given.upgrader) });
    return transport;
  };
}

/** The upgrader, seeing every connection's socket before anything is written to it. */
function catching(upgrader: Upgrader): Upgrader {
  return new Proxy(upgrader, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (name !== "upgradeInbound" && name !== "upgradeOutbound") return value.bind(target);
      return (connection: object, ...rest: unknown[]) => {
        // Were libp2p to keep its socket elsewhere, it would only be slower.
        if ("socket" in connection && connection.socket instanceof Socket) coalesce(connection.socket);
        return value.call(target, connection, ...rest);
      };
    },
  });
}

/** Makes one write of all that is written to a socket in one turn of the event loop. */
export function coalesce(socket: Socket): void {
  const write = socket.write;
  let corked = false;
  socket.write = function (this: Socket, ...args: unknown[]): boolean {
    if (!corked) {
      corked = true;
      this.cork();
      setImmediate(() => {
        corked = false;
        this.uncork();
      });
    }
    return Reflect.apply(write, this, args);
  } as Socket["write"];
}
