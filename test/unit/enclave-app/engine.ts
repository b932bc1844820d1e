/** The engine as the enclave has it: the worker's text bundled as the enclave build does, and the WebAssembly bytes. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const entry = fileURLToPath(new URL("../../../enclave-app/js/guest-worker.ts", import.meta.url));

let text: Promise<string> | undefined;

/** Bundled text of the guest worker: CommonJS, the engine's file-free loader, no source map. */
export function guestWorkerText(): Promise<string> {
  text ??= build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: "node",
    format: "cjs",
    target: "node26",
    conditions: ["browser"],
    define: { "import.meta.url": '"guest"' },
    logLevel: "error",
  }).then(({ outputFiles }) => outputFiles[0]?.text ?? "");
  return text;
}

export function quickjsWasm(): Uint8Array {
  return readFileSync(createRequire(import.meta.url).resolve("@jitl/quickjs-wasmfile-release-sync/wasm"));
}
