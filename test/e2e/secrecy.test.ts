/**
 * What the host of a validator gets to see: the enclave's process has nothing but the line to its host, and neither the
 * host's memory nor anything on its disk holds a private record or a key.
 */
import { createPrivateKey } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Consortium, endAll, readPem, startConsortium, storedEntries } from "./consortium.ts";
import { settled, User } from "./load.ts";
import {
  children,
  descriptors,
  environment,
  hasProcessFiles,
  memoryHolds,
  networkSockets,
  workingDirectory,
  writableMappings,
} from "./process-files.ts";
import { isAlive } from "./processes.ts";

const PRIVATE = "the plaintext of a private record, 4f1c";
const PUBLIC = "the plaintext of a public record, 9a7e";
const PEOPLE = ["member0", "member1", "member2", "user0"] as const;

let consortium: Consortium;
let hosts: number[];
let enclaves: number[];
let stores: string[];
beforeAll(async () => {
  consortium = await startConsortium({ users: 1 });
  const { nodes } = await consortium.ready();
  hosts = nodes.map((node) => node.host_pid);
  enclaves = nodes.map((node) => node.enclave_pid);
  stores = nodes.map((node) => node.ledger);
  const user = new User(consortium);
  const primary = await consortium.primary();
  for (const [path, msg] of [
    ["private", PRIVATE],
    ["public", PUBLIC],
  ] as const) {
    const answer = await user.send(primary, "POST", `/app/log/${path}`, { id: 1, msg }, true);
    expect(answer.status).toBe(200);
  }
  await settled(consortium, [0, 1, 2]);
  for (const node of [0, 1, 2]) expect((await user.read(node, 1)).body).toContain(PRIVATE);
  user.close();
});
afterAll(endAll);

describe.runIf(hasProcessFiles)("the process of an enclave", () => {
  test("has no network socket: only the line to its host and what a dying runtime prints", () => {
    for (const pid of enclaves) {
      const network = networkSockets(pid);
      const sockets = descriptors(pid).filter(({ target }) => target.startsWith("socket:"));
      expect(sockets.map(({ number }) => number)).toEqual([1, 2, 3]);
      for (const { target } of sockets) expect(network.has(/\d+/.exec(target)?.[0] ?? "")).toBe(false);
    }
    // The search finds what is there: hosts do listen.
    const network = networkSockets(hosts[0]!);
    const listening = descriptors(hosts[0]!).filter(({ target }) => network.has(/\d+/.exec(target)?.[0] ?? ""));
    expect(listening.length).toBeGreaterThan(0);
  });

  test("has no file open, and none mapped that it could write", () => {
    for (const pid of enclaves) {
      const files = descriptors(pid).filter(({ target }) => target.startsWith("/"));
      expect(files.filter(({ target }) => target !== "/dev/null")).toEqual([]);
      expect(writableMappings(pid)).toEqual([]);
    }
  });

  test("has no environment, no children, and its own package as its working directory", () => {
    for (const pid of enclaves) {
      expect(environment(pid)).toBe("");
      expect(children(pid)).toEqual([]);
      expect(workingDirectory(pid)).toMatch(/\/dist\/enclave$/);
    }
  });

  test("holds the private record in its memory, and no host does", () => {
    const secrets = [PRIVATE, "PRIVATE KEY-----\n"].map((text) => Buffer.from(text));
    // The virtual platform protects no memory, which is what makes this search believable.
    for (const pid of enclaves) expect(memoryHolds(pid, secrets)[0]).toBe(true);
    for (const pid of hosts) expect(memoryHolds(pid, secrets)).toEqual([false, false]);
  });
});

describe("what stays on the disk", () => {
  beforeAll(async () => {
    expect(await consortium.stop()).toEqual({ code: 0, signal: null });
    for (const pid of [...hosts, ...enclaves]) expect(isAlive(pid)).toBe(false);
  });

  test("no file holds the private record or a private key, but the participants' own", async () => {
    const keys = PEOPLE.map((person) => createPrivateKey(readPem(consortium.keys(person).privateKey)));
    const secrets = [
      ...spellings(Buffer.from(PRIVATE)),
      Buffer.from("PRIVATE KEY"),
      ...keys.flatMap((key) => spellings(Buffer.from(key.export({ format: "jwk" }).d ?? "", "base64url"))),
    ];
    const files = readdirSync(consortium.directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.endsWith("_privk.pem"))
      .map((entry) => join(entry.parentPath, entry.name));
    expect(files.some((file) => basename(file) === "host.log")).toBe(true);
    for (const file of files) {
      const content = readFileSync(file);
      for (const secret of secrets) expect(content.includes(secret), `${secret} in ${file}`).toBe(false);
    }
  });

  test("the stored ledgers hold the public record in clear, and the private one not", async () => {
    // Files of a store may be compressed, so entries are looked at as they are.
    for (const ledger of stores) {
      const entries = Buffer.concat(await storedEntries(ledger));
      expect(entries.includes(PUBLIC)).toBe(true);
      expect(entries.includes("public:records")).toBe(true);
      for (const spelling of spellings(Buffer.from(PRIVATE))) expect(entries.includes(spelling)).toBe(false);
    }
  });

  test("what camerata dev and the nodes have said holds no secret", () => {
    expect(consortium.log).not.toContain(PRIVATE);
    expect(consortium.log).not.toContain("PRIVATE KEY");
  });
});

/** The forms in which bytes could hide. */
function spellings(secret: Buffer): Buffer[] {
  const base64 = secret.toString("base64").replace(/=+$/, "");
  // The last digit of base64 depends on what follows.
  return [secret, Buffer.from(secret.toString("hex")), Buffer.from(base64.slice(0, -1))];
}
