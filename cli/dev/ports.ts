/**
 * Are the addresses free? Asked before anything starts, so that a clash is one sentence instead of a network half up.
 *
 * Untrusted, as the host is.
 */
import { createServer } from "node:net";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";

/** The loopback addresses of one node. */
export type NodeAddresses = Readonly<{ rpc: string; peer: string }>;

const PORT_MAX = 65_535;
/** Between a node's client port and its port for other nodes: 8000 and 9000, as in the examples. */
const PEER_PORT_OFFSET = 1000;

/** Node `index` of a network that begins at `port`. */
export function nodeAddresses(port: number, index: number): NodeAddresses {
  return { rpc: `127.0.0.1:${port + index}`, peer: `127.0.0.1:${port + PEER_PORT_OFFSET + index}` };
}

/** @throws CliError `E-PORT-IN-USE` naming every address that somebody listens on. */
export async function requireFree(port: number, nodes: number): Promise<void> {
  const ports = Array.from({ length: nodes }, (_, index) => [port + index, port + PEER_PORT_OFFSET + index]).flat();
  if (ports.some((one) => one > PORT_MAX))
    throw new CliError({
      id: "E-PORT",
      exit: EXIT.usage,
      headline: `--port ${port} leaves no room below ${PORT_MAX}`,
      why: `${nodes} nodes need ports ${port}.. for clients and ${port + PEER_PORT_OFFSET}.. for each other`,
      fix: "choose a smaller --port",
    });
  const taken: number[] = [];
  for (const one of ports) if (!(await isFree(one))) taken.push(one);
  if (taken.length > 0)
    throw new CliError({
      id: "E-PORT-IN-USE",
      exit: EXIT.state,
      headline: `port ${taken.join(", ")} on 127.0.0.1 is in use; nothing was started`,
      why: "another program, perhaps another camerata dev, listens there",
      fix: "stop it, or choose other ports with --port",
    });
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const probe = createServer();
  probe.once("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EADDRINUSE") resolve(false);
    else reject(error);
  });
  probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => probe.close(() => resolve(true)));
  return promise;
}
