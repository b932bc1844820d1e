/**
 * Runs one seed, with a line for everything that happens where `--verbose` is given.
 *
 *   node test/sim/run.ts --seed 7 [--events 2500] [--mutation name] [--verbose]
 */
import { parseArgs } from "node:util";
import { MUTATIONS } from "../../node/enclave/consensus/mutations.ts";
import { SimulationFailed, simulate } from "./world.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    events: { type: "string", default: "2500" },
    mutation: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});
if (values.mutation !== undefined && !Object.hasOwn(MUTATIONS, values.mutation))
  throw new Error(`unknown mutation; there are: ${Object.keys(MUTATIONS).join(", ")}`);
try {
  const result = simulate({
    seed: Number(values.seed),
    events: Number(values.events),
    ...(values.mutation !== undefined && { mutations: { [values.mutation]: true } }),
    ...(values.verbose && { log: (line: string) => process.stdout.write(`${line}\n`) }),
  });
  process.stdout.write(`${JSON.stringify(result)}\n`);
} catch (error) {
  if (!(error instanceof SimulationFailed)) throw error;
  process.stdout.write(`FAILED ${error.message}\n`);
  process.exitCode = 1;
}
