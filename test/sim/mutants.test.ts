/**
 * The simulator is measured: each defect put back into the core is found within a bounded number of seeds.
 */
import { expect, test } from "vitest";
import { MUTATIONS, type Mutation } from "../../node/enclave/consensus/mutations.ts";
import { SimulationFailed, simulate } from "./world.ts";

const EVENTS = 2500;
const SEEDS_MAX = 600;
const TIMEOUT_MS = 300_000;

test.each(Object.keys(MUTATIONS) as Mutation[])(
  "%s is found",
  (mutation) => {
    const failure = firstFailure(mutation);
    expect(failure?.message).toContain("replay: node test/sim/run.ts --seed");
    expect(failure?.message).toContain(`--mutation ${mutation}`);
  },
  TIMEOUT_MS,
);

function firstFailure(mutation: Mutation): SimulationFailed | undefined {
  for (let seed = 1; seed <= SEEDS_MAX; seed++) {
    try {
      simulate({ seed, events: EVENTS, mutations: { [mutation]: true } });
    } catch (error) {
      if (error instanceof SimulationFailed) return error;
      throw error;
    }
  }
  return undefined;
}
