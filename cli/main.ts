/**
 * Runs the command line: `camerata` with the arguments of this process.
 *
 * Apart from `program.ts`, so that a test can load that without running anything.
 */
import { main } from "./program.ts";

process.exitCode = await main(process.argv.slice(2));
