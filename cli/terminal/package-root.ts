/**
 * Where this package lies, and its programs: the command line runs from source and from a bundle, at different depths.
 *
 * Neutral, but for one look at the file system.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { Broken } from "../../protocol/check.ts";

/** The directory with package.json and governance/constitution, from this file upwards. */
export function packageRoot(): string {
  for (let at = import.meta.dirname; ; at = dirname(at)) {
    if (existsSync(join(at, "package.json")) && existsSync(join(at, "governance", "constitution"))) return at;
    if (dirname(at) === at) throw new Broken("the command line lies in its package");
  }
}

/** The host's program: bundled where there is a bundle, else from source. */
export function hostProgram(): string {
  const root = packageRoot();
  const bundle = join(root, "dist", "host.mjs");
  return existsSync(bundle) ? bundle : join(root, "node", "host", "main.ts");
}
