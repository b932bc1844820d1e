/**
 * Measures an enclave package: computes its unique id from what is there, and compares.
 *
 * This is what members do before they vote for a measurement: build from source, measure, compare with what a node's
 * evidence says.
 *
 * Neutral.
 */
import { join } from "node:path";
import { changedFiles, fileDigest, readProperties } from "../../node/host/enclave-package.ts";
import { isFault } from "../../protocol/check.ts";
import { checkSignature, type EnclaveProperties, uniqueIdOf } from "../../protocol/enclave-properties.ts";

export type Measurement = Readonly<{
  /** The id of the files that are there, with the properties that are claimed. */
  unique_id: string;
  /** What the properties file claims. */
  claimed_unique_id: string;
  /** The claim is true: nothing was changed after measuring. */
  matches: boolean;
  /** Files that differ from what was measured, are missing, or do not belong. */
  changed_files: readonly string[];
}>;

/** @throws Fault<PackageFault> when there is no readable package. */
export async function measureEnclave(directory: string): Promise<Measurement> {
  const properties = await readProperties(directory);
  const changed = await changedFiles(directory, properties);
  const files: EnclaveProperties["files"] = {};
  for (const name of Object.keys(properties.files))
    files[name] = await fileDigest(join(directory, name)).catch(() => "0".repeat(64));
  const actual = uniqueIdOf({ ...properties, files });
  return {
    unique_id: actual,
    claimed_unique_id: properties.unique_id,
    matches: actual === properties.unique_id && changed.length === 0,
    changed_files: changed,
  };
}

export type SignatureState = "valid" | "wrong" | "none";

/** All that a package says about itself, and whether it is true. @throws Fault<PackageFault> */
export async function inspectEnclave(
  directory: string,
): Promise<Readonly<{ properties: EnclaveProperties; measurement: Measurement; signature: SignatureState }>> {
  const properties = await readProperties(directory);
  return { properties, measurement: await measureEnclave(directory), signature: signatureState(properties) };
}

function signatureState(properties: EnclaveProperties): SignatureState {
  try {
    checkSignature(properties);
    return "valid";
  } catch (error) {
    if (isFault(error, "PackageUnsigned")) return "none";
    if (isFault(error, "PackageSignatureWrong") || isFault(error, "NotBase64")) return "wrong";
    throw error;
  }
}
