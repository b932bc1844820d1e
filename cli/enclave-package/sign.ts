/**
 * Signs an enclave package: the author vouches for its unique id.
 *
 * The counterpart of Open Enclave's signing tool. The key is ECDSA P-256; for development it is made on the spot and kept
 * in a file that only its owner can read.
 *
 * Neutral.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fault } from "../../protocol/check.ts";
import {
  type EnclaveProperties,
  PACKAGE_FILES,
  propertiesText,
  signProperties,
  uniqueIdOf,
} from "../../protocol/enclave-properties.ts";

export type SignFault = { code: "SignerKeyUnusable"; file: string } | { code: "PackageIdWrong" };

export type SignOptions = Readonly<{
  packageDirectory: string;
  /** PEM of a private P-256 key. */
  keyFile: string;
  /** Make the key if there is none. */
  createKey?: boolean;
}>;

/** Signs the package in place. @throws Fault<SignFault> */
export function signEnclave(options: SignOptions): EnclaveProperties {
  const file = join(options.packageDirectory, PACKAGE_FILES.properties);
  const properties = JSON.parse(readFileSync(file, "utf8")) as EnclaveProperties;
  if (uniqueIdOf(properties) !== properties.unique_id)
    throw new Fault<SignFault>(
      { code: "PackageIdWrong" },
      "the unique id of the package is not that of its content; build it again before signing it",
    );
  const signed = signProperties(properties, signerKey(options.keyFile, options.createKey ?? false));
  writeFileSync(`${file}.new`, propertiesText(signed));
  renameSync(`${file}.new`, file);
  return signed;
}

function signerKey(file: string, create: boolean): KeyObject {
  if (create && !existsSync(file)) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    return privateKey;
  }
  try {
    const key = createPrivateKey(readFileSync(file));
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") throw new Error("it is not an ECDSA P-256 key");
    return key;
  } catch (error) {
    throw new Fault<SignFault>(
      { code: "SignerKeyUnusable", file },
      `${file} cannot be used for signing: ${(error as Error).message}`,
      { cause: error },
    );
  }
}
