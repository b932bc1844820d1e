/**
 * The host process's program: `start --config FILE`, or with `--check` only the check of that file.
 *
 * Writes its log to standard error and nothing to standard output. Exit codes: 0 stopped when asked to, 1 the enclave
 * refused to go on (the last line says why), 2 the configuration or the arguments, 5 the state of this machine (port in
 * use, ledger locked or not empty, disk), 6 the enclave package is not what was measured, 7 did not stop in time,
 * 70 the enclave died or our bug, 143 ended by a second signal.
 *
 * Untrusted.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Fault } from "../../protocol/check.ts";
import { readConfig } from "./config.ts";
import { createLog, type Log } from "./log.ts";
import { type HostEnd, startHost } from "./supervisor.ts";

const EXIT = { stopped: 0, refused: 1, failed: 70, killed: 7, signal: 143, usage: 2, state: 5, package: 6 } as const;
const USAGE = "usage: start --config FILE [--check]";

const print = (line: string) => void process.stderr.write(line);

async function main(): Promise<number> {
  const options = argumentsOf();
  if (options === undefined) {
    print(`${USAGE}\n`);
    return EXIT.usage;
  }
  let log = createLog("Text", print);
  try {
    const config = readConfig(options.config);
    if (options.check) return EXIT.stopped;
    log = createLog(config.logFormat, print);
    const host = await startHost(config, {
      log,
      enclaveDirectory: config.enclaveDirectory ?? builtEnclave(),
      runtime: process.execPath,
    });
    let signals = 0;
    const onSignal = () => {
      signals += 1;
      host.stop();
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
    return exitOf(await host.ended, signals, log);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    log("error", error.message);
    return exitOfFault(error);
  }
}

function exitOf(end: HostEnd, signals: number, log: Log): number {
  if (end.outcome === "stopped") log("info", "stopped");
  else log("error", end.why);
  return end.outcome === "killed" && signals > 1 ? EXIT.signal : EXIT[end.outcome];
}

function exitOfFault(fault: Fault): number {
  if (fault.detail.code === "ConfigInvalid") return EXIT.usage;
  return fault.detail.code.startsWith("Package") ? EXIT.package : EXIT.state;
}

function argumentsOf(): { config: string; check: boolean } | undefined {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { config: { type: "string", short: "c" }, check: { type: "boolean", default: false } },
    });
    if (positionals.length !== 1 || positionals[0] !== "start" || values.config === undefined) return undefined;
    return { config: values.config, check: values.check };
  } catch {
    return undefined; // an unknown option: the usage says what there is
  }
}

/** Beside the bundle in `dist`, or in `dist` of the project when run from source. */
function builtEnclave(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.endsWith(join("node", "host")) ? join(here, "..", "..", "dist", "enclave") : join(here, "enclave");
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    print(`internal error: ${error.stack ?? error.message}\n`);
    process.exit(EXIT.failed);
  },
);
