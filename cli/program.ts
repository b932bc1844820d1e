/**
 * The command line, `camerata`.
 *
 * Finds out which group of commands is meant, loads only that one, and turns whatever goes wrong into an error in four
 * parts and an exit code. The commands are in `commands/`, one file a group.
 *
 * The roof: it starts hosts, signs for members, and never loads anything of the enclave.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { Session, type SessionOptions } from "./client/session.ts";
import type { Act, Declare } from "./commands/group.ts";
import { asCliError, errorLines } from "./terminal/errors.ts";
import { EXIT } from "./terminal/exit-codes.ts";
import { createOutput, FORMATS, type Format } from "./terminal/output.ts";
import { packageRoot } from "./terminal/package-root.ts";

type Group = Readonly<{ description: string; load(): Promise<{ declare: Declare }> }>;

/** In the order in which `--help` lists them. */
const GROUPS: Readonly<Record<string, Group>> = {
  dev: { description: "run a consortium on this machine", load: () => import("./commands/dev.ts") },
  call: { description: "send a request to the application", load: () => import("./commands/call.ts") },
  tx: { description: "what became of a transaction", load: () => import("./commands/tx.ts") },
  member: {
    description: "members: list, add, acknowledge, remove, make keys",
    load: () => import("./commands/member.ts"),
  },
  user: { description: "users: list, add, remove, make keys", load: () => import("./commands/user.ts") },
  proposal: { description: "propose, vote, withdraw, wait", load: () => import("./commands/proposal.ts") },
  node: { description: "validators: run, list, trust, remove", load: () => import("./commands/node.ts") },
  service: { description: "the service as a whole", load: () => import("./commands/service.ts") },
  ledger: { description: "verify and export a ledger, offline", load: () => import("./commands/ledger.ts") },
  enclave: { description: "build, sign and measure the enclave package", load: () => import("./commands/enclave.ts") },
  health: { description: "is a node alive, is it ready", load: () => import("./commands/health.ts") },
};

/** Global options that take a value: needed to find the group before anything is parsed. */
const VALUED = [
  "--context",
  "--url",
  "--ca",
  "--cert",
  "--key",
  "--keys",
  "--as",
  "--node",
  "--output",
  "-o",
  "--timeout",
];

type Globals = SessionOptions & { output: Format; quiet?: boolean; verbose?: boolean; color: boolean; timeout: number };

/** Runs one command line. @returns the exit code */
export async function main(argv: readonly string[]): Promise<number> {
  for (const stream of [process.stdout, process.stderr]) stream.off("error", onOutputError).on("error", onOutputError);
  const program = createProgram();
  const named = groupIn(argv);
  for (const [name, { description, load }] of Object.entries(GROUPS)) {
    const group = quieted(program.command(name).description(description));
    if (name === named) (await load()).declare(group, act);
  }
  program
    .command("version")
    .description("of the command line, its runtime and its enclave package")
    .action(act(version));
  for (const command of program.commands) inherit(command);
  try {
    await program.parseAsync(argv as string[], { from: "user" });
    return EXIT.ok;
  } catch (error) {
    return report(error, argv);
  }
}

function createProgram(): Command {
  const program = quieted(new Command("camerata"));
  return program
    .description("A confidential consortium: run it, govern it, use it, audit it.")
    .option("--context <name>", "a service in contexts.json, or the directory of a development network")
    .option("--url <url>", "of a node, https://HOST:PORT")
    .option("--ca <file>", "the service's certificate")
    .option("--cert <file>", "act with this certificate")
    .option("--key <file>", "and this private key")
    .option("--keys <directory>", "where NAME_cert.pem and NAME_privk.pem lie; else the context says")
    .option("--as <name>", "act as NAME of that directory, such as user0 or member1")
    .option("--node <node>", "talk to this node: its index, or HOST:PORT")
    .addOption(new Option("-o, --output <format>", "on stdout").choices(FORMATS).default("table"))
    .option("--timeout <seconds>", "for one request, or for what is waited for", seconds, 30)
    .option("-q, --quiet", "nothing but data and errors")
    .option("-v, --verbose", "where an error came from")
    .option("--no-color", "no colour")
    .addHelpText(
      "after",
      `
Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 refused, 2 usage, 3 not found,
4 authentication, 5 state, 6 verification failed, 7 unknown outcome or timeout, 8 unreachable, 70 a bug.

  camerata dev                                                a consortium of three, here
  camerata call POST /app/log/private id=1 msg=hello --wait commit
  camerata proposal new set_user cert=@user7_cert.pem --vote`,
    )
    .showHelpAfterError(false);
}

const act: Act =
  (work) =>
  async (...parameters) => {
    const command = parameters.at(-1) as Command;
    const options = command.optsWithGlobals<Globals>();
    const session = new Session({
      options: { ...options, timeoutMs: options.timeout * 1000 },
      output: createOutput({
        stdout: process.stdout,
        stderr: process.stderr,
        format: options.output,
        quiet: options.quiet === true,
        noColour: !options.color,
        environment: process.env,
        clock: () => performance.now(),
      }),
      environment: process.env,
      workingDirectory: process.cwd(),
    });
    try {
      // biome-ignore lint/suspicious/noExplicitAny: each command declares the shape of its own options
      await work(session, command.processedArgs, options as any);
    } finally {
      session.close();
    }
  };

function report(error: unknown, argv: readonly string[]): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const found = asCliError(error);
  const verbose = argv.includes("-v") || argv.includes("--verbose") || found.parts.exit === EXIT.bug;
  const colour = process.stderr.isTTY && (process.env["NO_COLOR"] ?? "") === "" && !argv.includes("--no-color");
  process.stderr.write(`${errorLines(found, verbose, (text) => (colour ? `\u001b[31m${text}\u001b[39m` : text))}\n`);
  return found.parts.exit;
}

/** Who reads us may leave (`| head`). What runs goes on, and ends as it would: a network must not be left without its master. */
function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}

async function version(session: Session): Promise<void> {
  const root = packageRoot();
  const { version: own } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const properties = join(root, "dist", "enclave", "enclave.json");
  const enclave = existsSync(properties)
    ? (JSON.parse(readFileSync(properties, "utf8")) as { unique_id: string }).unique_id
    : undefined;
  session.output.record(
    { camerata: own, node: process.versions.node, enclave, governance_api: "2024-07-01" },
    "camerata",
  );
}

/** The first word that is neither an option nor the value of one. */
function groupIn(argv: readonly string[]): string | undefined {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!;
    if (VALUED.includes(word)) at += 1;
    else if (!word.startsWith("-")) return word === "help" ? argv[at + 1] : word;
  }
  return undefined;
}

/** Errors of the parser are thrown, and printed in our form. */
function quieted(command: Command): Command {
  return command
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`${text.trimEnd()}  [E-USAGE]\n`) });
}

function inherit(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inherit(child);
  }
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 86_400)) throw new InvalidArgumentError("a number of seconds is needed");
  return value;
}
