/**
 * What a person needs once a development network is up: where it listens, where the keys lie, what to try.
 *
 * Neutral.
 */
import { relative } from "node:path";
import type { Output } from "../terminal/output.ts";
import type { DevNetwork } from "./network.ts";

/** Prints addresses, keys and lines to copy, for a network that stays up. */
export async function showNetwork(network: DevNetwork, output: Output): Promise<void> {
  const primary = await network.primaryId();
  const row = (name: string, text: string) => output.say(`  ${output.paint("bold", name.padEnd(8))} ${text}`);
  output.say();
  for (const [at, { process, nodeId }] of network.nodes.entries())
    row(at === 0 ? "Nodes" : "", `https://${process.addresses.rpc}${nodeId === primary ? "  primary" : ""}`);
  row("Keys", `${relative(".", network.directory) || "."}/`);
  const [first, ...rest] = tryLines(network);
  if (first !== undefined) row("Try", first);
  for (const line of rest) row("", line);
}

/** Lines that work when they are pasted into another terminal in the same directory. */
export function tryLines(network: DevNetwork): string[] {
  const user = network.users[0];
  const directory = relative(".", network.directory) || ".";
  const [node, other] = [network.nodes[0], network.nodes.at(-1)];
  if (user === undefined || node === undefined || other === undefined) return [];
  const identity = `--cacert ${directory}/service_cert.pem --cert ${directory}/${user.name}_cert.pem --key ${directory}/${user.name}_privk.pem`;
  return [
    `curl ${identity} -H 'content-type: application/json' -H 'x-camerata-wait: committed' -d '{"id":42,"msg":"hello"}' https://${node.process.addresses.rpc}/app/log/private`,
    `curl ${identity} 'https://${other.process.addresses.rpc}/app/log/private?id=42'`,
    "npx camerata call GET /app/log/private id=42 --node 1",
    "npx camerata member ls",
  ];
}
