/**
 * Runs many seeds and prints what fails, with the command that replays it.
 *
 *   node test/sim/soak.ts --seeds 20000 [--from 1] [--events 2500] [--mutation name] [--all]
 *
 * Ends at the first failure, unless `--all` is given.
 */
import { parseArgs } from "node:util";
import { SimulationFailed, simulate } from "./world.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    events: { type: "string", default: "2500" },
    mutation: { type: "string" },
    all: { type: "boolean", default: false },
  },
});
const from = Number(values.from);
const seeds = Number(values.seeds);
const events = Number(values.events);
const startedMs = performance.now();
let done = 0;
let failed = 0;
let happened = 0;
let committed = 0;
const coverage: Record<string, number> = {};

for (let seed = from; seed < from + seeds && (failed === 0 || values.all); seed++) {
  try {
    const result = simulate({
      seed,
      events,
      ...(values.mutation !== undefined && { mutations: { [values.mutation]: true } }),
    });
    happened += result.events;
    committed += result.committed;
    for (const [what, count] of Object.entries(result.coverage)) coverage[what] = (coverage[what] ?? 0) + count;
  } catch (error) {
    if (!(error instanceof SimulationFailed)) throw error;
    failed += 1;
    process.stdout.write(`FAILED ${error.message}\n`);
  }
  done += 1;
}
const seconds = (performance.now() - startedMs) / 1000;
process.stdout.write(
  `${done} seeds, ${failed} failed, ${happened} events, ${committed} entries committed, ${seconds.toFixed(1)} s: ` +
    `${(done / seconds).toFixed(1)} seeds/s, ${Math.round(happened / seconds)} events/s\n`,
);
process.stdout.write(
  `${Object.entries(coverage)
    .map(([what, count]) => `${count} ${what}`)
    .join(", ")}\n`,
);
process.exitCode = failed === 0 ? 0 : 1;
