/**
 * The demonstration's records, read from a public-domain file; data/README.md says where it is from.
 *
 * Neutral, but for reading that file.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../terminal/package-root.ts";

export type DemoRecord = Readonly<{ id: number; message: string }>;

export const RECORDS_FILE = "cli/demo/data/unemployment-by-industry.csv";

/** One record a line, the header left out; ids count from 1. */
export function demoRecords(): readonly DemoRecord[] {
  const [, ...lines] = readFileSync(join(packageRoot(), RECORDS_FILE), "utf8").trimEnd().split("\n");
  return lines.map((message, at) => ({ id: at + 1, message }));
}
