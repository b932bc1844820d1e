/** The command line as a whole, without a service: help, usage errors, exit codes. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { main } from "../../../cli/program.ts";

let stdout = "";
let stderr = "";
beforeEach(() => {
  stdout = stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    stdout += String(chunk);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((chunk) => {
    stderr += String(chunk);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

test("help lists every group on stdout and exits 0", async () => {
  expect(await main(["--help"])).toBe(0);
  for (const group of [
    "dev",
    "call",
    "tx",
    "member",
    "user",
    "proposal",
    "node",
    "service",
    "ledger",
    "enclave",
    "health",
  ])
    expect(stdout).toMatch(new RegExp(`^ {2}${group}\\b`, "m"));
});

test.each([
  ["dev"],
  ["call"],
  ["tx", "wait"],
  ["member", "add"],
  ["user", "keygen"],
  ["proposal", "vote"],
  ["node", "start"],
  ["node", "config", "validate"],
  ["service", "open"],
  ["ledger", "verify"],
  ["enclave", "measure"],
  ["health"],
])("%s %s explains itself", async (...words) => {
  expect(await main([...words, "--help"])).toBe(0);
  expect(stdout).toContain(`Usage: camerata ${words.join(" ")}`);
});

test.each([
  [["nonsense"], "unknown command"],
  [["dev", "--nonsense"], "unknown option"],
  [["dev", "--nodes", "0"], "from 1 to 9"],
  [["dev", "--app", "bundle"], "native:logging"],
  [["tx", "status"], "missing required argument"],
  [["tx", "status", "1-2"], "<view>.<seqno>"],
  [["-o", "yaml", "version"], "Allowed choices"],
  [["proposal", "new"], "--file"],
  [["user", "keygen", "../escape"], "letters"],
])("%j is refused with exit 2", async (argv, words) => {
  expect(await main(argv)).toBe(2);
  expect(stderr).toContain(words);
});

test("the name of a context that is also the name of a group is not mistaken for a command", async () => {
  expect(await main(["--context", "dev", "tx", "status", "x"])).toBe(2);
  expect(stderr).toContain("<view>.<seqno>");
});

test("a node that nobody runs is unreachable: exit 8", async () => {
  vi.stubEnv("CAMERATA_CA", new URL("../../../package.json", import.meta.url).pathname);
  vi.stubEnv("CAMERATA_URL", "https://127.0.0.1:1");
  expect(await main(["tx", "status", "2.1"])).toBe(8);
  vi.unstubAllEnvs();
});
