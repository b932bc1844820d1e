/** May a development network begin here, and what may it remove? */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { prepareDirectory } from "../../../../cli/dev/directory.ts";
import type { CliError } from "../../../../cli/terminal/errors.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "camerata-dev-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const refusal = (reset: boolean) => {
  try {
    prepareDirectory(directory, reset);
  } catch (error) {
    return (error as CliError).parts;
  }
  return undefined;
};

function leaveOldState() {
  mkdirSync(join(directory, "nodes", "node0", "ledger"), { recursive: true });
  for (const name of [
    "service_cert.pem",
    "ready.json",
    "member0_cert.pem",
    "member0_enc_privk.pem",
    "user12_privk.pem",
  ])
    writeFileSync(join(directory, name), "old");
}

test.each([false, true])("a new or empty directory is taken (reset %s)", (reset) => {
  expect(refusal(reset)).toBeUndefined();
  rmSync(directory, { recursive: true });
  expect(refusal(reset)).toBeUndefined();
});

test("old state is refused, with the reason and the remedy, and left as it is", () => {
  leaveOldState();
  const before = readdirSync(directory);
  expect(refusal(false)).toMatchObject({ id: "E-OLD-STATE", exit: 5 });
  expect(refusal(false)?.why).toContain("recovery");
  expect(refusal(false)?.fix).toContain("--reset");
  expect(readdirSync(directory)).toEqual(before);
});

test("reset removes what a network wrote and nothing else", () => {
  leaveOldState();
  for (const name of ["notes.txt", "alice_privk.pem", "member0_cert.pem.backup"])
    writeFileSync(join(directory, name), "mine");
  expect(refusal(true)).toBeUndefined();
  expect(readdirSync(directory).sort()).toEqual(["alice_privk.pem", "member0_cert.pem.backup", "notes.txt"]);
});

test("somebody else's directory is refused even with reset", () => {
  writeFileSync(join(directory, "thesis.tex"), "mine");
  expect(refusal(true)).toMatchObject({ id: "E-DIRECTORY-FOREIGN", exit: 5 });
  expect(existsSync(join(directory, "thesis.tex"))).toBe(true);
});

test("a process of another program with a number from an old ready.json does not count as running", () => {
  leaveOldState();
  writeFileSync(join(directory, "ready.json"), JSON.stringify({ nodes: [{ host_pid: process.pid }] }));
  expect(refusal(true)).toBeUndefined();
});
