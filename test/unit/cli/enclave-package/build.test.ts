/** The enclave package: the same sources give the same id anywhere, and every change of it shows. */
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuildOptions, buildEnclave } from "../../../../cli/enclave-package/build.ts";
import { bundleGuestWorker } from "../../../../cli/enclave-package/bundle.ts";
import { inspectEnclave, measureEnclave } from "../../../../cli/enclave-package/measure.ts";
import { signEnclave } from "../../../../cli/enclave-package/sign.ts";
import { checkSignature, runtimeFlags, uniqueIdOf } from "../../../../protocol/enclave-properties.ts";

const root = join(import.meta.dirname, "../../../..");
const modules = ["enclave-app/confine-workers.ts", "test/unit/cli/enclave-package/small-enclave.ts"];
const guestModules = ["enclave-app/confine-workers.ts"];
let base: string;
let count = 0;

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "package-"));
});
afterAll(() => rmSync(base, { recursive: true }));

/** A small file stands for the runtime, which takes long to read. */
const fresh = () => join(base, `${count++}`);
const build = (more: Partial<BuildOptions> = {}) =>
  buildEnclave({ root, out: fresh(), modules, guestModules, runtime: "/bin/sh", ...more });

test("a package holds the program, the engine and its properties, and nothing of the machine", async () => {
  const { packageDirectory, properties } = await build();
  expect(readdirSync(packageDirectory).sort()).toEqual(["enclave.json", "enclave.mjs", "quickjs.wasm"]);
  const program = readFileSync(join(packageDirectory, "enclave.mjs"), "utf8");
  expect(program).not.toContain(root);
  expect(program).not.toContain(base);
  expect(program).not.toMatch(/sourceMappingURL/);
  expect(uniqueIdOf(properties)).toBe(properties.unique_id);
  expect(() => checkSignature(properties)).not.toThrow();
  expect(properties).toMatchObject({
    debug: false,
    runtime: { version: process.versions.node, flags: runtimeFlags(properties) },
  });
});

test("the same sources in another place, signed by another author, have the same unique id", async () => {
  const here = await build();
  const elsewhere = fresh();
  for (const name of ["package.json", "package-lock.json", "tsconfig.json", "enclave-app", "protocol", "test"])
    cpSync(join(root, name), join(elsewhere, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(elsewhere, "node_modules"));
  const there = await build({ root: elsewhere });
  expect(there.properties.files).toEqual(here.properties.files);
  expect(there.properties.unique_id).toBe(here.properties.unique_id);
  expect(there.properties.author_id).not.toBe(here.properties.author_id);
});

test("nothing is built again while nothing changed, and everything that changes is built again", async () => {
  const out = fresh();
  expect((await build({ out })).built).toBe(true);
  expect((await build({ out })).built).toBe(false);
  appendFileSync(join(out, "enclave", "quickjs.wasm"), "x");
  expect((await build({ out })).built).toBe(true);
  expect((await build({ out, debug: true })).built).toBe(true);
  expect((await build({ out, debug: true })).built).toBe(false);
  expect((await build({ out, debug: true, force: true })).built).toBe(true);
});

test("the runtime is measured once and known by its stamp after that", async () => {
  const out = fresh();
  const runtime = join(base, "runtime");
  writeFileSync(runtime, "one");
  const first = await build({ out, runtime });
  expect((await build({ out, runtime })).built).toBe(false);
  writeFileSync(runtime, "another");
  const second = await build({ out, runtime });
  expect(second.properties.runtime.sha256).not.toBe(first.properties.runtime.sha256);
});

test("every property is part of the unique id", async () => {
  const ids = new Set<string>();
  const variants: Partial<BuildOptions>[] = [
    {},
    { debug: true },
    { productId: 2 },
    { securityVersion: 2 },
    { heapMib: 512 },
    { threads: 3 },
    { modules: modules.slice(1) },
    { guestModules: [] },
    { runtime: "/bin/ls" },
  ];
  for (const variant of variants) ids.add((await build(variant)).properties.unique_id);
  expect(ids.size).toBe(variants.length);
});

test("only a debug package can be looked into while it runs", () => {
  expect(runtimeFlags({ heap_mib: 64, debug: false })).toContain("--disable-sigusr1");
  expect(runtimeFlags({ heap_mib: 64, debug: true })).not.toContain("--disable-sigusr1");
});

describe("measuring and inspecting", () => {
  test("an untouched package measures what it claims", async () => {
    const { packageDirectory, properties } = await build();
    expect(await measureEnclave(packageDirectory)).toEqual({
      unique_id: properties.unique_id,
      claimed_unique_id: properties.unique_id,
      matches: true,
      changed_files: [],
    });
    expect((await inspectEnclave(packageDirectory)).signature).toBe("valid");
  });

  test.each<[string, (directory: string) => void]>([
    ["changed", (directory) => appendFileSync(join(directory, "enclave.mjs"), "\n")],
    ["missing", (directory) => rmSync(join(directory, "enclave.mjs"))],
  ])("a %s program shows", async (_, change) => {
    const { packageDirectory, properties } = await build();
    change(packageDirectory);
    const measured = await measureEnclave(packageDirectory);
    expect(measured).toMatchObject({ matches: false, changed_files: ["enclave.mjs"] });
    expect(measured.unique_id).not.toBe(properties.unique_id);
  });

  test("a directory without a package is an error that says how to make one", async () => {
    await expect(measureEnclave(base)).rejects.toThrow(/camerata enclave build/);
  });
});

describe("signing", () => {
  test("the development key is made once, for its owner only", async () => {
    const out = fresh();
    const first = await build({ out });
    const key = join(out, "dev-signer.pem");
    expect(statSync(key).mode & 0o777).toBe(0o600);
    expect((await build({ out, force: true })).properties.author_id).toBe(first.properties.author_id);
  });

  test("another author's signature changes the author, not the unique id", async () => {
    const { packageDirectory, properties } = await build();
    const signed = signEnclave({ packageDirectory, keyFile: join(fresh(), "key.pem"), createKey: true });
    expect(signed.unique_id).toBe(properties.unique_id);
    expect(signed.author_id).not.toBe(properties.author_id);
    expect(() => checkSignature(signed)).not.toThrow();
  });

  test("openssl agrees with the signature", async () => {
    const { properties } = await build();
    const at = (name: string) => join(base, name);
    writeFileSync(at("key.der"), Buffer.from(properties.author_public_key!, "base64"));
    writeFileSync(at("signature"), Buffer.from(properties.signature!, "base64"));
    writeFileSync(at("id"), Buffer.from(properties.unique_id, "hex"));
    const args = [
      "dgst",
      "-sha256",
      "-verify",
      at("key.der"),
      "-keyform",
      "DER",
      "-signature",
      at("signature"),
      at("id"),
    ];
    expect(String(execFileSync("openssl", args))).toBe("Verified OK\n");
  });

  test.each<[string, string]>([
    ["no key at all", "not a key"],
    ["a key of another kind", String(execFileSync("openssl", ["genpkey", "-algorithm", "ed25519"]))],
  ])("%s is refused with the file's name", async (_, content) => {
    const { packageDirectory } = await build();
    const keyFile = join(base, "wrong.pem");
    writeFileSync(keyFile, content);
    expect(() => signEnclave({ packageDirectory, keyFile })).toThrow(/wrong\.pem cannot be used for signing/);
  });

  test("a package whose id is not its content's is not signed", async () => {
    const { packageDirectory } = await build();
    const file = join(packageDirectory, "enclave.json");
    writeFileSync(file, readFileSync(file, "utf8").replace('"threads": 2', '"threads": 5'));
    expect(() => signEnclave({ packageDirectory, keyFile: join(fresh(), "k.pem"), createKey: true })).toThrow(
      /build it again/,
    );
  });

  test.each(["author_id", "author_public_key", "signature"] as const)("a wrong %s does not verify", async (field) => {
    const { properties } = await build();
    const other = (await build()).properties;
    expect(() => checkSignature({ ...properties, [field]: other[field]! })).toThrow(/does not fit/);
  });
});

test("the guest worker's text is CommonJS that needs no file", async () => {
  const { text, inputs } = await bundleGuestWorker(root, ["enclave-app/guest-worker.ts"]);
  expect(inputs).toContain("enclave-app/guest-worker.ts");
  expect(text).not.toMatch(/^import /m);
  expect(text).not.toContain(root);
});
