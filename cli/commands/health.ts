/**
 * `camerata health`: is a node alive, is it ready? For probes and health checks, so it says little and exits 0 or not.
 *
 * Two levels of ready, because what waits differs: a node that orders others to start after it needs `joined`, and must
 * not wait for the members to open the service; a load balancer needs `open`.
 *
 * Neutral.
 */
import type { Session } from "../client/session.ts";
import { CliError, usageError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import type { Declare } from "./group.ts";

type Options = { live?: boolean; ready?: string };

export const declare: Declare = (command, act) => {
  command
    .option("--live", "the node answers")
    .option("--ready <level>", "joined: it takes part in the network; open: it serves users")
    .action(act(health));
};

async function health(session: Session, _: readonly string[], options: Options): Promise<void> {
  const level = options.live === true ? "live" : (options.ready ?? "open");
  if (!["live", "joined", "open"].includes(level))
    throw usageError(`--ready "${level}" is not known`, "use joined or open");
  const client = await session.client();
  const { state } = await client.get<{ state: string }>("/node/state");
  const open =
    level === "open" ? (await client.send({ method: "GET", path: "/node/ready/app" })).status === 204 : undefined;
  const well = level === "live" || (level === "joined" ? state === "PartOfNetwork" : open === true);
  session.output.record({ node: await session.address(), state, [level]: well }, "state");
  if (!well)
    throw new CliError({
      id: "E-NOT-READY",
      exit: EXIT.state,
      headline: `the node is not ${level === "open" ? "open to users" : "part of the network"} yet`,
      why: `its state is ${state}`,
      fix:
        level === "open"
          ? "the members open the service: camerata service open"
          : "the members trust the node: camerata node trust ID",
    });
}
