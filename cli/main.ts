/**
 * Runs the command line: `camerata` with the arguments of this process.
 *
 * In a source tree there may be a bundle of it, which starts several times faster. It is taken if it was made of exactly
 * these sources: its record names every input with its digest (cli/enclave-package/build.ts). Apart from `program.ts`, so
 * that a test can load that without running anything.
 */
import { hash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const root = join(import.meta.dirname, "..");
const bundle = join(root, "dist", "cli.mjs");
const record = join(root, "dist", ".build", "cli.json");

function bundleIsOfTheseSources(): boolean {
  if (import.meta.filename === bundle || !existsSync(bundle) || !existsSync(record)) return false;
  const { inputs } = JSON.parse(readFileSync(record, "utf8")) as { inputs: Record<string, string> };
  return Object.entries(inputs).every(([name, digest]) => {
    const file = join(root, name);
    return existsSync(file) && hash("sha256", readFileSync(file)) === digest;
  });
}

if (bundleIsOfTheseSources()) await import(pathToFileURL(bundle).href);
else {
  const { main } = await import("./program.ts");
  process.exitCode = await main(process.argv.slice(2));
}
