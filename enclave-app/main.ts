/**
 * The enclave program.
 *
 * It puts the floors together: the node, its governance, its app, its JavaScript engine, and starts them on the one
 * descriptor that it inherited. It reads its own package and nothing else: the process has no network, no other files,
 * no children.
 *
 * Trusted.
 */

import guestWorker from "camerata:guest-worker";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { Compile } from "typebox/compile";
import { governanceEndpoints } from "../governance/enclave/governance-api.ts";
import { createShares } from "../governance/enclave/shares.ts";
import { runEnclave } from "../node/enclave/enclave.ts";
import { createVirtualPlatform } from "../node/enclave/service/platform-virtual.ts";
import { Broken } from "../protocol/check.ts";
import { EnclaveProperties } from "../protocol/enclave-properties.ts";
import { loggingEndpoints } from "./apps/logging.ts";
import { createInterpreter } from "./interpreter.ts";

/** Where the host puts its end of the boundary. */
const BOUNDARY_FD = 3;

const here = (name: string) => readFileSync(new URL(name, import.meta.url));

function readProperties(): EnclaveProperties {
  const value: unknown = JSON.parse(here("enclave.json").toString("utf8"));
  if (!Compile(EnclaveProperties).Check(value)) throw new Broken("an enclave package has a properties file");
  return value;
}

const properties = readProperties();
const platform = createVirtualPlatform({
  measurement: properties.unique_id,
  // On SNP the host data is the digest of the launch policy; here, of how the runtime was started.
  hostData: createHash("sha256").update(JSON.stringify(properties.runtime.flags)).digest("hex"),
  debug: properties.debug,
  ...(properties.author_id !== undefined && { authorId: properties.author_id }),
  productId: properties.product_id,
  securityVersion: properties.security_version,
});
const shares = createShares();

const uncaught = runEnclave({
  stream: new Socket({ fd: BOUNDARY_FD, readable: true, writable: true }),
  platform,
  version: properties.version,
  shares,
  app: loggingEndpoints,
  governance: (operations, transactions) =>
    governanceEndpoints({
      operations,
      transactions,
      interpreter: createInterpreter({
        operations,
        workerText: guestWorker,
        wasm: here("quickjs.wasm"),
        threads: properties.threads,
      }),
    }),
  exit: (code) => process.exit(code),
});
process.on("uncaughtException", uncaught);
process.on("unhandledRejection", uncaught);
