/** The engine as the enclave has it: its worker's text from the enclave's own build, and the WebAssembly bytes. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { bundleGuestWorker } from "../../../cli/enclave-package/bundle.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const MODULES = ["enclave-app/confine-workers.ts", "enclave-app/guest-worker.ts"];

let text: Promise<string> | undefined;

export function guestWorkerText(): Promise<string> {
  text ??= bundleGuestWorker(root, MODULES).then((bundle) => bundle.text);
  return text;
}

export function quickjsWasm(): Uint8Array {
  return readFileSync(createRequire(import.meta.url).resolve("@jitl/quickjs-wasmfile-release-sync/wasm"));
}
