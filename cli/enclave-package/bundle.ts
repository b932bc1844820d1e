/**
 * Bundles one program into one file, the same bytes for the same sources on every machine.
 *
 * Nothing of the machine gets in: paths are relative to the project, there is no source map, no legal comment, no date.
 * The enclave's bundle stays readable (not minified), because people are to audit it.
 *
 * Neutral; reads sources, writes nothing.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Plugin } from "esbuild";

export type Bundle = Readonly<{
  text: string;
  /** Every file that went in, relative to the root. */
  inputs: readonly string[];
}>;

export type BundleParts = Readonly<{
  /** The project's directory. */
  root: string;
  /** Modules to run, in order, relative to the root. */
  modules: readonly string[];
  /** Packages that stay outside: native code, which cannot be bundled. */
  external?: readonly string[];
  minify?: boolean;
  /** The enclave: msgpackr without its native part, and the guest worker's text as a module. */
  trusted?: Readonly<{ guestWorker?: readonly string[] }>;
}>;

const TARGET = "node26";
const GUEST_WORKER = "camerata:guest-worker";

/** CommonJS packages in the bundle call `require`. Packages declare `createRequire` themselves, hence the odd name. */
const BANNER =
  'import { createRequire as camerataCreateRequire } from "node:module";\n' +
  "const require = camerataCreateRequire(import.meta.url);";

export async function bundle(parts: BundleParts): Promise<Bundle> {
  const inputs = new Set<string>();
  const result = await (await esbuild()).build({
    ...common(parts),
    format: "esm",
    banner: { js: BANNER },
    minify: parts.minify ?? false,
    external: [...(parts.external ?? [])],
    plugins: parts.trusted ? [plainMsgpackr(parts.root), guestText(parts, inputs)] : [],
  });
  for (const input of inputsOf(result)) inputs.add(input);
  return { text: result.outputFiles[0]!.text, inputs: [...inputs].sort() };
}

/** The guest worker as CommonJS text, which is what `new Worker(text, { eval: true })` runs. */
export async function bundleGuestWorker(root: string, modules: readonly string[]): Promise<Bundle> {
  const result = await (await esbuild()).build({
    ...common({ root, modules }),
    format: "cjs",
    // The engine's loader for browsers is the one that opens no file; it gets its module handed in.
    conditions: ["browser"],
    define: { "import.meta.url": '"guest"' },
  });
  return { text: result.outputFiles[0]!.text, inputs: inputsOf(result) };
}

function common(parts: Pick<BundleParts, "root" | "modules">) {
  return {
    stdin: {
      contents: parts.modules.map((module) => `import ${JSON.stringify(`./${module}`)};`).join("\n"),
      resolveDir: parts.root,
      sourcefile: "program.ts",
      loader: "ts",
    },
    absWorkingDir: parts.root,
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    target: TARGET,
    charset: "utf8",
    legalComments: "none",
    sourcemap: false,
    logLevel: "silent",
    // The project's own settings are for the type checker; a stray one elsewhere must not change the bundle.
    tsconfigRaw: { compilerOptions: { target: "es2024", verbatimModuleSyntax: true } },
  } as const;
}

function plainMsgpackr(root: string): Plugin {
  return {
    name: "plain-msgpackr",
    setup(builder) {
      const file = createRequire(join(root, "package.json"))
        .resolve("msgpackr")
        .replace(/dist[\\/]node\.cjs$/, "index.js");
      builder.onResolve({ filter: /^msgpackr$/ }, () => ({ path: file }));
    },
  };
}

function guestText(parts: BundleParts, inputs: Set<string>): Plugin {
  return {
    name: "guest-text",
    setup(builder) {
      builder.onResolve({ filter: new RegExp(`^${GUEST_WORKER}$`) }, () => ({
        path: GUEST_WORKER,
        namespace: "guest",
      }));
      builder.onLoad({ filter: /.*/, namespace: "guest" }, async () => {
        const guest = await bundleGuestWorker(parts.root, parts.trusted?.guestWorker ?? []);
        for (const input of guest.inputs) inputs.add(input);
        return { contents: guest.text, loader: "text" };
      });
    },
  };
}

function inputsOf(result: { metafile: { inputs: Record<string, unknown> } }): string[] {
  // Names with a colon or brackets are not files: the entry text and the guest's.
  return Object.keys(result.metafile.inputs).filter((name) => !/[<:]/.test(name) && name !== "program.ts");
}

/** Loaded when something is built and not before: where a package only runs, it is not installed. */
function esbuild() {
  return import("esbuild");
}
