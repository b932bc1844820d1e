/**
 * TCP for the RPC interfaces: listens, counts, hands sockets on; connects where the enclave asks.
 *
 * The host takes no part in TLS or HTTP. What it can do early it does: above an interface's hard limit a connection is
 * dropped before the enclave hears of it.
 *
 * Untrusted.
 */
import { createServer, connect as netConnect, type Server, type Socket } from "node:net";
import { Fault } from "../../protocol/check.ts";

export type SocketFault = { code: "ListenFailed" | "AddressInvalid"; address: string };

export type RpcInterface = Readonly<{ name: string; bindAddress: string; maxOpenSessions: number }>;

export interface Listeners {
  /** `host:port` by interface, with the real ports. */
  readonly addresses: Readonly<Record<string, string>>;
  /** Open connections by interface. */
  sessions(): Readonly<Record<string, number>>;
  /** Accepts no more; what is open stays. */
  close(): void;
}

const CONNECT_TIMEOUT_MS = 5000;

/**
 * Listens on every interface. @throws Fault<SocketFault> with the address and the remedy; then nothing is left listening.
 * @param onConnection gets an accepted socket; `from` is the client's address
 */
export async function listenRpc(
  interfaces: readonly RpcInterface[],
  onConnection: (socket: Socket, name: string, from: string) => void,
): Promise<Listeners> {
  const servers: Server[] = [];
  const addresses: Record<string, string> = {};
  const sessions: Record<string, number> = {};
  try {
    for (const { name, bindAddress, maxOpenSessions } of interfaces) {
      sessions[name] = 0;
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        if (sessions[name]! >= maxOpenSessions) return void socket.destroy();
        sessions[name]! += 1;
        socket.once("close", () => (sessions[name]! -= 1));
        socket.on("error", () => {});
        onConnection(socket, name, `${socket.remoteAddress}:${socket.remotePort}`);
      });
      servers.push(server);
      addresses[name] = await listen(server, bindAddress, `network.rpc_interfaces.${name}.bind_address`);
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return {
    addresses,
    sessions: () => ({ ...sessions }),
    close: () => {
      for (const server of servers) server.close();
    },
  };
}

/** A connection to an RPC address of another node. Rejects with what could not be reached and why. */
export function connectRpc(address: string): Promise<Socket> {
  const { host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    const socket = netConnect({ host, port, allowHalfOpen: true, noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error("no answer")), CONNECT_TIMEOUT_MS);
    const failed = (error: Error) => {
      clearTimeout(timer);
      reject(new Error(`cannot reach ${address}: ${error.message}`, { cause: error }));
    };
    socket.once("error", failed);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.off("error", failed);
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** Listens on `host:port`; gives back the same with the real port. @throws Fault<SocketFault> */
export function listen(server: Server, address: string, key: string): Promise<string> {
  const { host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        new Fault<SocketFault>(
          { code: "ListenFailed", address },
          `cannot listen on ${address}: ${advice(error, key)}`,
          {
            cause: error,
          },
        ),
      ),
    );
    server.listen({ host, port }, () => {
      const bound = server.address();
      const real = typeof bound === "object" && bound !== null ? bound.port : port;
      resolve(host.includes(":") ? `[${host}]:${real}` : `${host}:${real}`);
    });
  });
}

/** @throws Fault<SocketFault> */
export function parseAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]+)):([0-9]{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535)
    throw new Fault<SocketFault>(
      { code: "AddressInvalid", address },
      `${address} is not an address; it should look like 127.0.0.1:8000`,
    );
  return { host, port };
}

function advice(error: NodeJS.ErrnoException, key: string): string {
  switch (error.code) {
    case "EADDRINUSE":
      return `another process listens there already; stop it or change ${key}`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `this machine has no such address; change ${key}`;
    case "EACCES":
      return `ports below 1024 need privileges; change ${key}`;
    default:
      return `${error.message}; change ${key}`;
  }
}
