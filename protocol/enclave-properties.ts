/**
 * The properties file of an enclave package, the counterpart of Open Enclave's enclave configuration.
 *
 * `unique_id` is lower-case hex SHA-256 over a canonical text that names the digests of the bundle, of the wasm module
 * and of the runtime binary, the flags the runtime is started with, and the properties themselves; it is what the join
 * policy lists as a measurement. The signature is not part of it, so that anyone can reproduce it from source.
 *
 * Neutral. Pure.
 */
import { type Static, Type } from "typebox";

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
