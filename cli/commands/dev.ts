/**
 * `camerata dev`: a consortium on this machine, in the foreground, until Ctrl-C.
 *
 * A member's machine and a host's at once, which only a development network is.
 */
import { InvalidArgumentError, Option } from "commander";
import type { Session } from "../client/session.ts";
import { story } from "../demo/story.ts";
import { prepareDirectory } from "../dev/directory.ts";
import { DEV_DIRECTORY } from "../dev/layout.ts";
import { DevNetwork, type NetworkOptions, short } from "../dev/network.ts";
import { requireFree } from "../dev/ports.ts";
import { showNetwork } from "../dev/summary.ts";
import { type BuildReport, buildAll } from "../enclave-package/build.ts";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { packageRoot } from "../terminal/package-root.ts";
import type { Declare } from "./group.ts";

type Options = Omit<NetworkOptions, "directory"> & {
  dir: string;
  app: string;
  reset?: boolean;
  demo?: boolean;
  exit?: boolean;
  build: boolean;
};

const NODES_MAX = 9;
const PEOPLE_MAX = 100;

export const declare: Declare = (command, act) => {
  command
    .option("--nodes <count>", "validators", counted(1, NODES_MAX), 3)
    .option("--members <count>", "members", counted(1, PEOPLE_MAX), 3)
    .option("--users <count>", "users", counted(0, PEOPLE_MAX), 2)
    .option("--port <port>", "node i listens on 127.0.0.1 at this port + i", counted(1, 65_535), 8000)
    .option("--dir <directory>", "keys, certificates, ledgers, logs", DEV_DIRECTORY)
    .option("--app <app>", "native:logging", "native:logging")
    .option("--constitution <files...>", "in place of the default one", [])
    .addOption(new Option("--consensus <protocol>", "how nodes agree").choices(["cft"]).default("cft"))
    .option("--reset", "remove the state and the keys of an earlier network first")
    .option("--no-respawn", "a node that dies is not replaced by a new one")
    .option("--no-build", "use the enclave package as it lies in dist")
    .option("--demo", "tell the whole story: vote, confidential records, commit, removal")
    .option("--exit", "with --demo: end after the summary")
    .addHelpText(
      "after",
      `
The platform is virtual: the same code without hardware protection. It is NOT confidential.
ready.json appears in the directory once the service is open and every node trusted.`,
    )
    .action(act(dev));
};

async function dev(session: Session, _: readonly string[], options: Options): Promise<void> {
  const { output } = session;
  if (options.app !== "native:logging")
    throw new CliError({
      id: "E-APP",
      exit: EXIT.usage,
      headline: `"${options.app}" is not an application of this release`,
      why: "only native:logging is built in; bundles of JavaScript come later",
      fix: "leave --app out, or write --app native:logging",
    });
  await requireFree(options.port, options.nodes);
  prepareDirectory(options.dir, options.reset === true);
  const root = packageRoot();
  output.say(
    `${output.paint("bold", "camerata")} · platform ${output.paint("yellow", "virtual: NOT confidential, for development only")}`,
  );
  const network = new DevNetwork(
    { ...options, directory: options.dir, users: options.demo === true ? 0 : options.users },
    output,
  );
  const making = output.step("enclave package and keys");
  const [report] = await Promise.all([options.build ? buildAll({ root }) : undefined, network.createKeys()]);
  const enclave = report === undefined ? "" : ` · enclave ${short(report.properties.unique_id)} ${builtOrNot(report)}`;
  const { members, users } = network;
  making.done(`keys for ${members.length} members, ${users.length} users${enclave}`);

  const stopped = untilSignal(() => network.kill());
  let failed: unknown;
  try {
    await Promise.race([run(network, session, options), stopped.promise, network.failed]);
    if (options.exit !== true) await Promise.race([stopped.promise, network.failed]);
  } catch (error) {
    failed = error;
  }
  const stopping = output.step("stopping");
  await network.stop();
  stopping.done(`stopped; state is kept in ${options.dir}`);
  stopped.forget();
  if (failed !== undefined) throw failed;
}

function builtOrNot({ built }: BuildReport): string {
  return built.includes("enclave") ? "built and measured" : "up to date";
}

async function run(network: DevNetwork, session: Session, options: Options): Promise<void> {
  const { output } = session;
  const start = performance.now();
  await network.start();
  if (options.demo === true) await story(network, output, start, options.exit !== true);
  else await showNetwork(network, output);
  if (options.exit !== true) output.say(`\n${output.paint("dim", "Ctrl-C stops the network; its state is kept")}`);
}

/** Resolves at the first SIGINT, SIGTERM or SIGHUP. A second one must not wait for anybody: `hurry` is called. */
function untilSignal(hurry: () => void): { promise: Promise<void>; forget(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let seen = 0;
  const onSignal = () => {
    seen += 1;
    if (seen > 1) hurry();
    resolve();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return {
    promise,
    forget: () => {
      for (const signal of signals) process.off(signal, onSignal);
    },
  };
}

function counted(min: number, max: number) {
  return (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(`a whole number from ${min} to ${max} is needed`);
    return value;
  };
}
