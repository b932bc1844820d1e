/**
 * The properties file of an enclave package, the counterpart of Open Enclave's enclave configuration.
 *
 * `unique_id` is lower-case hex SHA-256 over a canonical text that names the digests of the bundle, of the wasm module
 * and of the runtime binary, the flags the runtime is started with, and the properties themselves; it is what the join
 * policy lists as a measurement. The signature is not part of it, so that anyone can reproduce it from source.
 *
 * Neutral. Pure.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { type Static, Type } from "typebox";
import { fromBase64, fromHex, toBase64 } from "./bytes.ts";
import { Fault } from "./check.ts";

const digest = Type.String({ pattern: "^[0-9a-f]{64}$" });

export const EnclaveProperties = Type.Object(
  {
    product_id: Type.Integer({ minimum: 0, maximum: 65535 }),
    security_version: Type.Integer({ minimum: 0, maximum: 65535 }),
    /** A debug enclave can be looked into; the default join policy refuses it. */
    debug: Type.Boolean(),
    /** Old-space limit of the enclave's main heap, in MiB. */
    heap_mib: Type.Integer({ minimum: 64, maximum: 65536 }),
    /** Guest worker threads at most. */
    threads: Type.Integer({ minimum: 1, maximum: 64 }),
    version: Type.String({ maxLength: 64 }),
    runtime: Type.Object({
      version: Type.String({ maxLength: 32 }),
      sha256: digest,
      flags: Type.Array(Type.String({ maxLength: 128 }), { maxItems: 32 }),
    }),
    files: Type.Record(Type.String({ maxLength: 128 }), digest, { maxProperties: 16 }),
    unique_id: digest,
    /** Hex SHA-256 of the DER public key of the signer, and base64 DER ECDSA signature (SHA-256) over the unique id's 32 bytes. */
    author_id: Type.Optional(digest),
    author_public_key: Type.Optional(Type.String({ maxLength: 4096 })),
    signature: Type.Optional(Type.String({ maxLength: 1024 })),
  },
  { additionalProperties: false },
);

export type EnclaveProperties = Static<typeof EnclaveProperties>;

export type PackageSignatureFault = { code: "PackageUnsigned" | "PackageSignatureWrong" };

/** In a flag: where the package lies on this machine, which is no part of what is measured. */
export const PACKAGE_PLACEHOLDER = "<package>";

/** Name of the properties file, of the program and of the engine in a package. */
export const PACKAGE_FILES = { properties: "enclave.json", program: "enclave.mjs", engine: "quickjs.wasm" } as const;

/** How the runtime is started for a package with these properties, in order; part of the measurement. */
export function runtimeFlags(properties: Readonly<{ heap_mib: number; debug: boolean }>): string[] {
  return [
    // No network, no files but the package's own, no children, no add-ons, no inspector.
    "--permission",
    `--allow-fs-read=${PACKAGE_PLACEHOLDER}`,
    // Guests run in worker threads that can be ended. Node warns that a worker could be given more rights; ours cannot,
    // see enclave-app/confine-workers.ts.
    "--allow-worker",
    "--disable-warning=SecurityWarning",
    `--max-old-space-size=${properties.heap_mib}`,
    "--disable-proto=throw",
    ...(properties.debug ? [] : ["--disable-sigusr1"]),
  ];
}

/**
 * The unique id: hex SHA-256 of lines of `name value` in this order: format, the properties, the runtime, its flags, the
 * files by name. Everything but the signature and the id itself.
 */
export function uniqueIdOf(properties: Omit<EnclaveProperties, "unique_id">): string {
  const lines = [
    "camerata-enclave 1",
    `product_id ${properties.product_id}`,
    `security_version ${properties.security_version}`,
    `debug ${properties.debug}`,
    `heap_mib ${properties.heap_mib}`,
    `threads ${properties.threads}`,
    `version ${JSON.stringify(properties.version)}`,
    `runtime ${JSON.stringify(properties.runtime.version)} ${properties.runtime.sha256}`,
    ...properties.runtime.flags.map((flag) => `flag ${JSON.stringify(flag)}`),
    ...Object.keys(properties.files)
      .sort()
      .map((name) => `file ${JSON.stringify(name)} ${properties.files[name]}`),
  ];
  return createHash("sha256")
    .update(`${lines.join("\n")}\n`)
    .digest("hex");
}

/** The properties with the author's signature over the unique id. `key`: a private ECDSA P-256 key. */
export function signProperties(properties: EnclaveProperties, key: KeyObject): EnclaveProperties {
  const publicKey = createPublicKey(key).export({ type: "spki", format: "der" });
  return {
    ...properties,
    author_id: createHash("sha256").update(publicKey).digest("hex"),
    author_public_key: toBase64(publicKey),
    signature: toBase64(sign("sha256", fromHex(properties.unique_id), key)),
  };
}

/**
 * Checks the author's signature.
 * @throws Fault<PackageSignatureFault>, or Fault<BytesFault> when a field is not base64
 */
export function checkSignature(properties: EnclaveProperties): void {
  const { author_id, author_public_key, signature } = properties;
  if (author_id === undefined || author_public_key === undefined || signature === undefined)
    throw new Fault<PackageSignatureFault>({ code: "PackageUnsigned" }, "the enclave package is not signed");
  const der = fromBase64(author_public_key);
  const right = createHash("sha256").update(der).digest("hex") === author_id && verifies(der, properties, signature);
  if (!right)
    throw new Fault<PackageSignatureFault>(
      { code: "PackageSignatureWrong" },
      "the signature of the enclave package does not fit its unique id and author",
    );
}

function verifies(der: Buffer, properties: EnclaveProperties, signature: string): boolean {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: der, type: "spki", format: "der" });
  } catch {
    return false; // not a key at all
  }
  const isP256 = key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1";
  return isP256 && verify("sha256", fromHex(properties.unique_id), key, fromBase64(signature));
}

/** The properties file as text: sorted names, so that equal properties are equal files. */
export function propertiesText(properties: EnclaveProperties): string {
  return `${JSON.stringify(sorted(properties), undefined, 2)}\n`;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value) || typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, inner]) => [name, sorted(inner)]));
}
