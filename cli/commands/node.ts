/**
 * `camerata node`: validators. Starting one is the operator's; trusting and removing one is the members'.
 *
 * An operator's or a member's machine.
 */
import { pathToFileURL } from "node:url";
import { governancePath } from "../../governance/member/request.ts";
import { readConfig } from "../../node/host/config.ts";
import { Fault } from "../../protocol/check.ts";
import type { Session } from "../client/session.ts";
import { CliError, usageError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { hostProgram } from "../terminal/package-root.ts";
import { argument, type Declare } from "./group.ts";
import { type ProposeOptions, propose, withProposalOptions } from "./proposing.ts";

type NodeSummary = {
  node_id: string;
  status: string;
  primary: boolean;
  rpc_interfaces: Record<string, { published_address?: string }>;
};
type StartOptions = { config: string };
type TrustOptions = ProposeOptions & { days?: string };

export const declare: Declare = (group, act) => {
  for (const [name, description] of [
    ["start", "run a node that founds a service, in the foreground"],
    ["join", "run a node that joins a service, in the foreground"],
  ] as const)
    group
      .command(name)
      .description(description)
      .requiredOption("--config <file>", "configuration, in CCF's form; see docs/configuration.md")
      .action(act(start(name)));
  group
    .command("ls")
    .description("the nodes of the service")
    .option("--status <status>", "only those that are Pending, Trusted or Retired")
    .action(act(list));
  group
    .command("show")
    .description("one node, with its evidence")
    .argument("<id>", "node id, or the beginning of one")
    .action(act(show));
  withProposalOptions(
    group
      .command("trust")
      .description("propose to trust a node that asked to join")
      .argument("<id>", "node id, or the beginning of one")
      .option("--days <days>", "how long its certificate is valid; default: as long as the service allows"),
  ).action(act(trust));
  withProposalOptions(
    group.command("rm").description("propose to remove a node").argument("<id>", "node id, or the beginning of one"),
  ).action(act(remove));
  const config = group.command("config").description("configuration files");
  config
    .command("validate")
    .description("check a configuration and the files it names, and start nothing")
    .argument("<file>")
    .action(act(validate));
};

const start =
  (name: "start" | "join") =>
  async (_: Session, __: readonly string[], options: StartOptions): Promise<void> => {
    const config = checked(options.config);
    const wanted = name === "start" ? "Start" : "Join";
    const found = config.enclave.command.type;
    if (found !== wanted)
      throw usageError(
        `${options.config} is the configuration of a node that is to ${found.toLowerCase()}`,
        `camerata node ${found.toLowerCase()} --config ${options.config}`,
      );
    // This process becomes the host: no second Node stays in memory for as long as the node runs.
    const program = hostProgram();
    process.argv.splice(1, process.argv.length, program, "start", "--config", options.config);
    await import(pathToFileURL(program).href);
  };

async function list(session: Session, _: readonly string[], options: { status?: string }): Promise<void> {
  const { status } = options;
  if (status !== undefined && !["Pending", "Trusted", "Retired"].includes(status))
    throw usageError(`--status "${status}" is not known`, "use Pending, Trusted or Retired");
  const nodes = (await allNodes(session)).filter((node) => status === undefined || node.status === status);
  session.output.list(
    nodes.map((node) => ({
      node: node.node_id,
      status: node.status,
      role: node.status === "Trusted" ? (node.primary ? "primary" : "backup") : undefined,
      address: addressOf(node),
    })),
    ["node", "status", "role", "address"],
    "node",
  );
}

async function show(session: Session, args: readonly string[]): Promise<void> {
  const node = await nodeById(session, argument(args, 0));
  const found = await (await session.client()).get<object>(governancePath(`/service/nodes/${node.node_id}`));
  session.output.record({ ...found, primary: node.primary }, "nodeId");
}

async function trust(session: Session, args: readonly string[], options: TrustOptions): Promise<void> {
  const node = await nodeById(session, argument(args, 0));
  const period = options.days === undefined ? {} : { validity_period_days: Number(options.days) };
  const action = { node_id: node.node_id, valid_from: new Date().toISOString(), ...period };
  await propose(session, [{ name: "transition_node_to_trusted", args: action }], options);
}

async function remove(session: Session, args: readonly string[], options: ProposeOptions): Promise<void> {
  const node = await nodeById(session, argument(args, 0));
  await propose(session, [{ name: "remove_node", args: { node_id: node.node_id } }], options);
}

async function validate(session: Session, args: readonly string[]): Promise<void> {
  const file = argument(args, 0);
  const config = checked(file);
  session.output.record({ file, valid: true, command: config.enclave.command.type }, "file");
}

/** @throws CliError `E-CONFIG` with every problem */
function checked(file: string) {
  try {
    return readConfig(file);
  } catch (error) {
    if (!(error instanceof Fault) || error.detail.code !== "ConfigInvalid") throw error;
    const { problems } = error.detail as unknown as { problems: readonly string[] };
    throw new CliError(
      {
        id: "E-CONFIG",
        exit: EXIT.usage,
        headline: `${file} cannot be used`,
        what: problems.join("\n"),
        fix: "correct these; docs/configuration.md lists every key",
      },
      { cause: error },
    );
  }
}

async function allNodes(session: Session): Promise<readonly NodeSummary[]> {
  const client = await session.client();
  return (await client.get<{ nodes: readonly NodeSummary[] }>("/node/network/nodes")).nodes;
}

async function nodeById(session: Session, text: string): Promise<NodeSummary> {
  const found = (await allNodes(session)).filter((node) => node.node_id.startsWith(text));
  if (found.length === 1) return found[0]!;
  throw usageError(`"${text}" is the beginning of ${found.length} node ids`, "give more of it; see camerata node ls");
}

function addressOf(node: NodeSummary): string | undefined {
  return Object.values(node.rpc_interfaces)[0]?.published_address;
}
