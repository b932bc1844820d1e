/**
 * Builds what runs: the enclave package, and the host and the command line as one file each.
 *
 *   dist/enclave/   enclave.mjs, quickjs.wasm, enclave.json    measured and signed as one
 *   dist/host.mjs   the host process
 *   dist/cli.mjs    the command line
 *
 * A bundle is made only when something that went into it has changed: beside the outputs lies a record of the digests of
 * all inputs. The same sources, runtime and options give the same unique id on every machine; only the signature, which
 * is not part of it, differs.
 *
 * Neutral.
 */
import { hash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileStamp, runtimeDigest, runtimeRecord } from "../../node/host/enclave-package.ts";
import {
  type EnclaveProperties,
  PACKAGE_FILES,
  propertiesText,
  runtimeFlags,
  uniqueIdOf,
} from "../../protocol/enclave-properties.ts";
import { type Bundle, bundle } from "./bundle.ts";
import { signEnclave } from "./sign.ts";

export type BuildOptions = Readonly<{
  /** The project's directory. */
  root: string;
  /** Where to; `dist` in the root if absent. */
  out?: string;
  /** Build although nothing changed. */
  force?: boolean;
  /** A debug enclave says so in its evidence, and the default join policy refuses it. */
  debug?: boolean;
  productId?: number;
  securityVersion?: number;
  heapMib?: number;
  threads?: number;
  /** The Node binary that will run the enclave; this one if absent. */
  runtime?: string;
  /** The author's key; a development key in `out`, made on the spot, if absent. */
  signerKeyFile?: string;
  /** The enclave's program, for tests. */
  modules?: readonly string[];
  /** The guest worker's program, for tests. */
  guestModules?: readonly string[];
}>;

export type BuildReport = Readonly<{
  /** Names of what was made: `enclave`, `host`, `cli`. */
  built: readonly string[];
  /** Names of what was as it should be. */
  unchanged: readonly string[];
  packageDirectory: string;
  properties: EnclaveProperties;
}>;

const ENCLAVE_MODULES = ["enclave-app/confine-workers.ts", "enclave-app/main.ts"];
const GUEST_MODULES = ["enclave-app/confine-workers.ts", "enclave-app/guest-worker.ts"];
const HEAP_MIB = 1024;
const THREADS = 2;
const WASM = "@jitl/quickjs-wasmfile-release-sync/wasm";

/** Native code and what finds it; esbuild itself, which the command line needs only to build. */
const HOST_EXTERNAL = ["classic-level"];
const CLI_EXTERNAL = ["classic-level", "esbuild"];

/** Builds all that is out of date. */
export async function buildAll(options: BuildOptions): Promise<BuildReport> {
  const out = options.out ?? join(options.root, "dist");
  const enclave = await buildEnclave(options);
  const built = enclave.built ? ["enclave"] : [];
  const unchanged = enclave.built ? [] : ["enclave"];
  const programs = [
    { name: "host", module: "node/host/main.ts", external: HOST_EXTERNAL },
    { name: "cli", module: "cli/main.ts", external: CLI_EXTERNAL },
  ];
  for (const { name, module, external } of programs) {
    const file = join(out, `${name}.mjs`);
    const record = new Record(options.root, join(out, ".build", `${name}.json`), { module, external });
    if (!options.force && record.isFresh([file])) unchanged.push(name);
    else {
      const made = await bundle({ root: options.root, modules: [module], external, minify: true });
      write(file, made.text);
      record.save(made, [file]);
      built.push(name);
    }
  }
  return { built, unchanged, packageDirectory: enclave.packageDirectory, properties: enclave.properties };
}

/** Builds, measures and signs the enclave package if it is out of date. */
export async function buildEnclave(
  options: BuildOptions,
): Promise<Readonly<{ built: boolean; packageDirectory: string; properties: EnclaveProperties }>> {
  const { root } = options;
  const out = options.out ?? join(root, "dist");
  const directory = join(out, "enclave");
  const runtime = options.runtime ?? process.execPath;
  const chosen = {
    product_id: options.productId ?? 1,
    security_version: options.securityVersion ?? 1,
    debug: options.debug ?? false,
    heap_mib: options.heapMib ?? HEAP_MIB,
    threads: options.threads ?? THREADS,
    version: (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }).version,
  };
  const runtimeSha256 = await runtimeDigest(runtime, runtimeRecord(directory));
  write(runtimeRecord(directory), JSON.stringify({ stamp: await fileStamp(runtime), sha256: runtimeSha256 }));
  const modules = options.modules ?? ENCLAVE_MODULES;
  const guestWorker = options.guestModules ?? GUEST_MODULES;
  const signerKeyFile = options.signerKeyFile ?? join(out, "dev-signer.pem");

  const files = Object.values(PACKAGE_FILES).map((name) => join(directory, name));
  const inputs = { ...chosen, runtimeSha256, modules, guestWorker, signerKeyFile, flags: runtimeFlags(chosen) };
  const record = new Record(root, join(out, ".build", "enclave.json"), inputs);
  if (!options.force && existsSync(signerKeyFile) && record.isFresh(files)) {
    const properties = JSON.parse(readFileSync(join(directory, PACKAGE_FILES.properties), "utf8")) as EnclaveProperties;
    return { built: false, packageDirectory: directory, properties };
  }

  const program = await bundle({ root, modules, trusted: { guestWorker } });
  const wasmFile = createRequire(join(root, "package.json")).resolve(WASM);
  const wasm = readFileSync(wasmFile);
  const unmeasured = {
    ...chosen,
    runtime: { version: process.versions.node, sha256: runtimeSha256, flags: runtimeFlags(chosen) },
    files: {
      [PACKAGE_FILES.program]: hash("sha256", program.text),
      [PACKAGE_FILES.engine]: hash("sha256", wasm),
    },
  };
  rmSync(directory, { recursive: true, force: true });
  write(join(directory, PACKAGE_FILES.program), program.text);
  write(join(directory, PACKAGE_FILES.engine), wasm);
  const measured = { ...unmeasured, unique_id: uniqueIdOf(unmeasured) };
  write(join(directory, PACKAGE_FILES.properties), propertiesText(measured));
  const properties = signEnclave({ packageDirectory: directory, keyFile: signerKeyFile, createKey: true });
  record.save(program, files);
  return { built: true, packageDirectory: directory, properties };
}

/** What an output was made of, to tell whether it must be made again. */
class Record {
  readonly #root: string;
  readonly #file: string;
  readonly #options: string;

  constructor(root: string, file: string, options: object) {
    this.#root = root;
    this.#file = file;
    this.#options = JSON.stringify({ ...options, lock: digest(join(root, "package-lock.json")) });
  }

  isFresh(outputs: readonly string[]): boolean {
    if (!existsSync(this.#file)) return false;
    const known = JSON.parse(readFileSync(this.#file, "utf8")) as {
      options: string;
      inputs: { [name: string]: string };
      outputs: { [name: string]: string };
    };
    return (
      known.options === this.#options &&
      outputs.every((name) => known.outputs[name] !== undefined && known.outputs[name] === digest(name)) &&
      Object.entries(known.inputs).every(([name, value]) => digest(join(this.#root, name)) === value)
    );
  }

  save(made: Bundle, outputs: readonly string[]): void {
    const digests = (names: readonly string[], place: (name: string) => string) =>
      Object.fromEntries(names.map((name) => [name, digest(place(name))]));
    const known = {
      options: this.#options,
      inputs: digests(made.inputs, (name) => join(this.#root, name)),
      outputs: digests(outputs, (name) => name),
    };
    write(this.#file, JSON.stringify(known));
  }
}

function digest(file: string): string | undefined {
  return existsSync(file) ? hash("sha256", readFileSync(file)) : undefined;
}

/** Writes whole or not at all: a node may be starting from the old file just now. */
function write(file: string, content: string | Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, content);
  renameSync(`${file}.new`, file);
}
