/**
 * `camerata enclave`: the package that runs inside, built, signed, measured.
 *
 * A builder's or an auditor's machine: the same sources give the same unique id everywhere, which is what members compare
 * before they vote for a measurement.
 */
import { join } from "node:path";
import type { Session } from "../client/session.ts";
import { buildAll } from "../enclave-package/build.ts";
import { inspectEnclave, measureEnclave } from "../enclave-package/measure.ts";
import { signEnclave } from "../enclave-package/sign.ts";
import { CliError, usageError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { packageRoot } from "../terminal/package-root.ts";
import type { Declare } from "./group.ts";

type BuildCommandOptions = {
  out?: string;
  force?: boolean;
  debug?: boolean;
  productId?: string;
  securityVersion?: string;
  signKey?: string;
};

export const declare: Declare = (group, act) => {
  group
    .command("build")
    .description("build the enclave package, the host and the command line, where something changed")
    .option("--out <directory>", "where to", "dist")
    .option("--force", "build although nothing changed")
    .option("--debug", "a debug enclave; the default join policy refuses it")
    .option("--product-id <number>", "of the package's identity")
    .option("--security-version <number>", "of the package's identity")
    .option("--sign-key <file>", "the author's key; a development key in dist if absent")
    .action(act(build));
  group
    .command("sign")
    .description("sign a package as its author")
    .argument("[directory]", "of the package", "dist/enclave")
    .requiredOption("--sign-key <file>", "ECDSA P-256 private key, PEM")
    .action(act(sign));
  group
    .command("measure")
    .description("compute the unique id of a package and compare it with what the package claims; exit 6 if it differs")
    .argument("[directory]", "of the package", "dist/enclave")
    .action(act(measure));
  group
    .command("inspect")
    .description("everything that a package says about itself, and whether it is true")
    .argument("[directory]", "of the package", "dist/enclave")
    .action(act(inspect));
};

async function build(session: Session, _: readonly string[], options: BuildCommandOptions): Promise<void> {
  const report = await buildAll({
    root: packageRoot(),
    ...(options.out !== undefined && options.out !== "dist" && { out: options.out }),
    ...(options.force === true && { force: true }),
    ...(options.debug === true && { debug: true }),
    ...(options.productId !== undefined && { productId: wholeNumber("--product-id", options.productId) }),
    ...(options.securityVersion !== undefined && {
      securityVersion: wholeNumber("--security-version", options.securityVersion),
    }),
    ...(options.signKey !== undefined && { signerKeyFile: options.signKey }),
  });
  session.output.record(
    {
      unique_id: report.properties.unique_id,
      author_id: report.properties.author_id,
      debug: report.properties.debug,
      package: report.packageDirectory,
      built: report.built.join(", ") || "nothing: all is as it should be",
    },
    "unique_id",
  );
}

async function sign(session: Session, args: readonly string[], options: { signKey: string }): Promise<void> {
  const properties = signEnclave({ packageDirectory: packageDirectory(args), keyFile: options.signKey });
  session.output.say(`signed, as its author, the enclave with unique id ${properties.unique_id}`);
  session.output.record({ unique_id: properties.unique_id, author_id: properties.author_id }, "author_id");
}

async function measure(session: Session, args: readonly string[]): Promise<void> {
  const directory = packageDirectory(args);
  const found = await measureEnclave(directory);
  session.output.record(
    { unique_id: found.unique_id, claimed: found.claimed_unique_id, matches: found.matches },
    "unique_id",
  );
  if (!found.matches)
    throw new CliError({
      id: "E-ENCLAVE-CHANGED",
      exit: EXIT.verification,
      headline: `the package in ${directory} is not what it claims to be`,
      why:
        found.changed_files.length > 0
          ? `changed since it was measured: ${found.changed_files.join(", ")}`
          : "its properties were changed",
      fix: "build it again from sources that you trust: camerata enclave build",
    });
}

async function inspect(session: Session, args: readonly string[]): Promise<void> {
  const { properties, measurement, signature } = await inspectEnclave(packageDirectory(args));
  session.output.record({ ...properties, matches: measurement.matches, signature_is: signature }, "unique_id");
}

function packageDirectory(args: readonly string[]): string {
  const given = args[0];
  return given === undefined || given === "dist/enclave" ? join(packageRoot(), "dist", "enclave") : given;
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw usageError(`${name} "${text}" is not a whole number`, "use 0 or more");
  return value;
}
