/**
 * Opens an enclave package for starting it: properties, program and engine must be what was measured and signed.
 *
 * The host is not trusted by anybody, so this protects only its own operator: from a half-finished build, a changed file,
 * another runtime. Whether the enclave is the right one is decided by its peers, from its evidence.
 *
 * Untrusted.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { Compile } from "typebox/compile";
import { Fault } from "../../protocol/check.ts";
import {
  checkSignature,
  EnclaveProperties,
  PACKAGE_FILES,
  PACKAGE_PLACEHOLDER,
  runtimeFlags,
  uniqueIdOf,
} from "../../protocol/enclave-properties.ts";

export type PackageFault =
  | { code: "PackageMissing"; directory: string }
  | { code: "PackagePropertiesInvalid" }
  | { code: "PackageFilesChanged"; files: readonly string[] }
  | { code: "PackageIdWrong" }
  | { code: "PackageRuntimeOther"; expected: string; actual: string };

export type EnclavePackage = Readonly<{
  directory: string;
  properties: EnclaveProperties;
  /** Arguments for the runtime: flags, then the program. */
  args: readonly string[];
}>;

const PROPERTIES_BYTES_MAX = 64 * 1024;
const check = Compile(EnclaveProperties);

/**
 * Opens a package and checks all of it against its own measurement, its signature and the runtime that is to run it.
 * An unsigned package is accepted only if it says that it is a debug package.
 * @throws Fault<PackageFault | PackageSignatureFault>
 */
export async function openEnclavePackage(directory: string, runtime: string): Promise<EnclavePackage> {
  const properties = await readProperties(directory);
  const changed = await changedFiles(directory, properties);
  if (changed.length > 0)
    throw new Fault<PackageFault>(
      { code: "PackageFilesChanged", files: changed },
      `${changed.join(", ")} in ${directory} is not what was measured; build the enclave again`,
    );
  const flags = runtimeFlags(properties);
  const ownFlags = JSON.stringify(flags) === JSON.stringify(properties.runtime.flags);
  if (!ownFlags || uniqueIdOf(properties) !== properties.unique_id)
    throw new Fault<PackageFault>(
      { code: "PackageIdWrong" },
      `the unique id in ${join(directory, PACKAGE_FILES.properties)} is not that of its content; build the enclave again`,
    );
  if (!properties.debug || properties.signature !== undefined) checkSignature(properties);

  const actual = await runtimeDigest(runtime, runtimeRecord(directory));
  if (actual !== properties.runtime.sha256)
    throw new Fault<PackageFault>(
      { code: "PackageRuntimeOther", expected: properties.runtime.sha256, actual },
      `the enclave was built for another Node binary (version ${properties.runtime.version}) than ${runtime}; ` +
        "build it again with this one, or start it with the one it names",
    );

  // Node compares real paths, and a package may well be reached through a link.
  const place = await realpath(directory);
  return {
    directory: place,
    properties,
    args: [...flags.map((flag) => flag.replace(PACKAGE_PLACEHOLDER, place)), join(place, PACKAGE_FILES.program)],
  };
}

/** @throws Fault<PackageFault> */
export async function readProperties(directory: string): Promise<EnclaveProperties> {
  const file = join(directory, PACKAGE_FILES.properties);
  let text: string;
  try {
    if ((await stat(file)).size > PROPERTIES_BYTES_MAX) throw new Error("the file is too large");
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new Fault<PackageFault>(
      { code: "PackageMissing", directory },
      `there is no enclave package in ${directory} (${(error as Error).message}); build one with "camerata enclave build"`,
      { cause: error },
    );
  }
  const value = parse(text);
  if (!check.Check(value))
    throw new Fault<PackageFault>(
      { code: "PackagePropertiesInvalid" },
      `${file} is not a properties file of this version; build the enclave again`,
    );
  return value;
}

/** Names of files that are not what the properties say, are missing, or have no business in the package. */
export async function changedFiles(directory: string, properties: EnclaveProperties): Promise<string[]> {
  const present = await readdir(directory);
  const extra = present.filter((name) => name !== PACKAGE_FILES.properties && !Object.hasOwn(properties.files, name));
  const changed: string[] = [];
  for (const [name, digest] of Object.entries(properties.files))
    if (!present.includes(name) || (await fileDigest(join(directory, name))) !== digest) changed.push(name);
  return [...changed, ...extra].sort();
}

/** Where the build keeps the runtime's digest, beside the package. */
export function runtimeRecord(packageDirectory: string): string {
  return join(packageDirectory, "..", ".build", "runtime.json");
}

/** What identifies a file without reading its 120 MB: enough against mistakes, which is all the host's check is for. */
export async function fileStamp(file: string): Promise<string> {
  const place = await realpath(file);
  const { size, mtimeMs } = await stat(place);
  return `${place} ${size} ${mtimeMs}`;
}

/** The digest of a runtime binary, from the record if it is about this very file. */
export async function runtimeDigest(runtime: string, record: string): Promise<string> {
  const known = parse(await readFile(record, "utf8").catch(() => "")) as
    | { stamp?: unknown; sha256?: unknown }
    | undefined;
  if (typeof known?.sha256 === "string" && known.stamp === (await fileStamp(runtime))) return known.sha256;
  return fileDigest(runtime);
}

/** Hex SHA-256 of a file. */
export async function fileDigest(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest("hex");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // refused with the same words as any other wrong content
  }
}
