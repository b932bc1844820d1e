/**
 * The plan of the house, checked against the house.
 *
 * PLAN has a row for every folder with code, top-down. A row names what the folder may import: folders (only ones further
 * down, so no circle can be written down), npm packages (each with its reason) and node: modules. What is not written
 * down fails, a folder without a row too. Beside the plan: the two sides of the line between host and enclave never
 * import each other, no file is part of a circle, pure places name no clock, no chance and no process, and a few habits
 * hold everywhere. Imports are read from the text: static, type-only and dynamic ones all count.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

type Row = Readonly<{
  /** Folders further down this list. */
  may: readonly string[];
  /** npm packages, each with the reason why this folder may load it. */
  packages?: Readonly<Record<string, string>>;
  /** node: modules without the prefix. */
  node?: readonly string[];
}>;

const PROTOCOL = ["protocol/wire", "protocol/attestation", "protocol/ledger", "protocol/crypto", "protocol"];
const TYPEBOX = { typebox: "schemas of what comes from outside, and their compiled checks" };

/** Top-down: a row may name only rows below it. */
const PLAN: Readonly<Record<string, Row>> = {
  cli: {
    may: ["cli/commands", "cli/client", "cli/terminal"],
    packages: { commander: "parses the command line" },
    node: ["crypto", "fs", "path", "url"],
  },
  "cli/commands": {
    may: [
      "cli/demo",
      "cli/dev",
      "cli/client",
      "cli/enclave-package",
      "cli/terminal",
      "governance/member",
      "node/host",
      ...PROTOCOL,
    ],
    packages: { commander: "declares the commands" },
    node: ["crypto", "fs", "path", "url"],
  },
  "cli/demo": {
    may: ["cli/dev", "cli/client", "cli/terminal", "governance/member", ...PROTOCOL],
    node: ["fs", "path"],
  },
  "cli/dev": {
    may: ["cli/client", "cli/enclave-package", "cli/terminal", "governance/member", "node/host", ...PROTOCOL],
    packages: TYPEBOX,
    node: ["child_process", "crypto", "fs", "net", "path", "timers/promises"],
  },
  "cli/client": {
    may: ["cli/terminal", "governance/member", ...PROTOCOL],
    packages: TYPEBOX,
    node: ["crypto", "fs", "path", "timers/promises", "tls"],
  },
  "cli/enclave-package": {
    may: ["node/host", "node/boundary", ...PROTOCOL],
    packages: { ...TYPEBOX, esbuild: "bundles the enclave into one file" },
    node: ["crypto", "fs", "module", "path"],
  },
  "cli/terminal": { may: ["governance/member", "protocol"], node: ["fs", "path", "stream"] },

  "enclave-app": {
    may: [
      "enclave-app/ccf",
      "enclave-app/apps",
      "enclave-app/js",
      "governance/enclave",
      "node/enclave",
      "node/enclave/service",
      "node/enclave/http",
      ...PROTOCOL,
    ],
    packages: { typebox: "the properties file is checked before it is believed" },
    node: ["crypto", "fs", "module", "net", "worker_threads"],
  },
  "enclave-app/ccf": {
    may: [
      "enclave-app/js",
      "governance/enclave",
      "node/enclave/service",
      "node/enclave/http",
      "node/enclave/consensus",
      "node/enclave/ledger",
      "node/enclave/kv",
      ...PROTOCOL,
    ],
    node: ["crypto"],
  },
  "enclave-app/apps": { may: ["node/enclave/http", "node/enclave/ledger", "node/enclave/kv", ...PROTOCOL] },
  "enclave-app/js": {
    may: ["governance/enclave", ...PROTOCOL],
    packages: {
      "quickjs-emscripten-core": "guest JavaScript runs in QuickJS",
      "@jitl/quickjs-wasmfile-release-sync": "its engine",
    },
    node: ["crypto", "worker_threads"],
  },
  "governance/enclave": {
    may: ["node/enclave/service", "node/enclave/http", "node/enclave/ledger", "node/enclave/kv", ...PROTOCOL],
    packages: TYPEBOX,
    node: ["crypto"],
  },
  "governance/member": { may: PROTOCOL, node: ["crypto", "http", "https", "timers/promises"] },
  "node/enclave": {
    may: [
      "node/enclave/service",
      "node/enclave/http",
      "node/enclave/consensus",
      "node/enclave/ledger",
      "node/enclave/kv",
      "node/boundary",
      "network/enclave",
      ...PROTOCOL,
    ],
    packages: TYPEBOX,
    node: ["crypto", "stream"],
  },
  "node/enclave/service": {
    may: [
      "node/enclave/http",
      "node/enclave/consensus",
      "node/enclave/ledger",
      "node/enclave/kv",
      "node/boundary",
      "network/enclave",
      ...PROTOCOL,
    ],
    packages: TYPEBOX,
    node: ["crypto", "http", "https", "stream", "timers/promises", "tls", "util"],
  },
  "node/enclave/http": {
    may: [
      "node/enclave/consensus",
      "node/enclave/ledger",
      "node/enclave/kv",
      "node/boundary",
      "network/enclave",
      ...PROTOCOL,
    ],
    packages: { fastify: "HTTP parsing, limits and life cycle", ...TYPEBOX },
    node: ["buffer", "crypto", "http", "net", "stream", "tls"],
  },
  "node/enclave/ledger": {
    may: ["node/enclave/consensus", "node/enclave/kv", "node/boundary", ...PROTOCOL],
    node: ["crypto"],
  },
  "node/enclave/consensus": { may: ["node/enclave/kv", ...PROTOCOL] },
  "node/enclave/kv": { may: PROTOCOL },
  "node/host": {
    may: ["node/boundary", "network/host", ...PROTOCOL],
    packages: { level: "the ledger store", ...TYPEBOX },
    node: [
      "child_process",
      "crypto",
      "events",
      "fs",
      "fs/promises",
      "http",
      "net",
      "os",
      "path",
      "stream",
      "stream/promises",
      "url",
      "util",
    ],
  },
  "node/boundary": {
    may: ["protocol"],
    packages: { msgpackr: "frames; nothing signed or hashed depends on its bytes", ...TYPEBOX },
    node: ["stream"],
  },
  "network/host": {
    may: PROTOCOL,
    packages: {
      libp2p: "streams between hosts",
      "@libp2p/tcp": "its transport",
      "@libp2p/crypto": "an ephemeral host identity",
      "@libp2p/interface": "types",
      "@chainsafe/libp2p-noise": "its encryption",
      "@chainsafe/libp2p-yamux": "its multiplexer",
      "@multiformats/multiaddr": "its addresses",
    },
    node: ["events", "net", "stream"],
  },
  "network/enclave": { may: PROTOCOL, node: ["crypto", "stream", "tls"] },
  "protocol/wire": { may: ["protocol/attestation", "protocol/ledger", "protocol/crypto", "protocol"] },
  "protocol/attestation": { may: ["protocol/crypto", "protocol"], packages: TYPEBOX, node: ["crypto"] },
  "protocol/ledger": { may: ["protocol/crypto", "protocol"], node: ["crypto"] },
  "protocol/crypto": { may: ["protocol"], node: ["crypto"] },
  protocol: { may: ["protocol/crypto", "protocol/ledger"], packages: TYPEBOX, node: ["crypto"] },
};

/** Arrows that a row may name although they point up. No file is part of a circle all the same. */
const UPWARD: Readonly<Record<string, string>> = {
  "protocol -> protocol/crypto": "whole formats (receipts, properties) are built of their own parts",
  "protocol -> protocol/ledger": "likewise",
};

/** Loaded nowhere in the enclave, whatever a row says. */
const NEVER_TRUSTED = [
  "libp2p",
  "@libp2p/",
  "@chainsafe/",
  "@multiformats/",
  "level",
  "commander",
  "esbuild",
  "vitest",
];

const ROOTS = ["cli", "enclave-app", "governance", "node", "network", "protocol"];
const FILES_MIN = 60;
const HEADER_CHARS_MIN = 20;

const root = fileURLToPath(new URL("..", import.meta.url));

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mts|cts|cjs|mjs|js)$/.test(entry.name) && !entry.name.endsWith(".d.ts"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

const text = new Map<string, string>();
function read(file: string): string {
  let found = text.get(file);
  if (found === undefined) {
    found = readFileSync(join(root, file), "utf8");
    text.set(file, found);
  }
  return found;
}

/** The file without comments, and with the insides of strings kept: enough to look for words in code. */
function code(file: string): string {
  return read(file).replaceAll(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, string) => string ?? " ",
  );
}

const IMPORT =
  /(?:^|[;\n}])\s*(?:import|export)\b[^;"'()]*?\bfrom\s*"([^"]+)"|(?:^|\n)\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"/g;
function imports(file: string): string[] {
  return [...code(file).matchAll(IMPORT)].map((match) => (match[1] ?? match[2] ?? match[3])!);
}
/** Files of this house, as paths from its root. */
const local = (file: string) =>
  imports(file)
    .filter((target) => target.startsWith("."))
    .map((target) => normalize(join(dirname(file), target)));
/** Packages and node: modules. `camerata:` names texts that the enclave build puts in. */
const bare = (file: string) =>
  imports(file).filter((target) => !target.startsWith(".") && !target.startsWith("camerata:"));

// Constitution files are scripts that members read and vote on; they are guests, not part of the house.
const files = ROOTS.flatMap(filesUnder).filter((file) => !file.startsWith("governance/constitution/"));
const modules = files.filter((file) => file.endsWith(".ts"));
const folders = Object.keys(PLAN);

/** Which side of the line a path is on. The command line is the roof: it starts hosts and signs for members. */
function side(path: string): "host" | "enclave" | "member" | "roof" | "neutral" {
  if (path.startsWith("cli/")) return "roof";
  if (path.startsWith("enclave-app/")) return "enclave";
  return (path.match(/(?:^|\/)(host|enclave|member)\//)?.[1] ?? "neutral") as "host" | "enclave" | "member" | "neutral";
}
const MAY_SEE: Readonly<Record<ReturnType<typeof side>, readonly string[]>> = {
  roof: ["roof", "host", "member", "neutral"],
  host: ["host", "neutral"],
  enclave: ["enclave", "neutral"],
  member: ["member", "neutral"],
  neutral: ["neutral"],
};

const packageOf = (target: string) =>
  target
    .split("/")
    .slice(0, target.startsWith("@") ? 2 : 1)
    .join("/");

/** Every breach of a rule in one list, so that a failing run shows all of them. */
function breaches(of: readonly string[], rule: (file: string) => readonly string[]): string[] {
  return of.flatMap((file) => rule(file).map((what) => `${file}: ${what}`));
}

test("enough files were read for the rest to mean something", () => {
  expect(modules.length).toBeGreaterThan(FILES_MIN);
  expect(modules.flatMap(imports).length).toBeGreaterThan(2 * modules.length);
});

test("the plan itself only points down", () => {
  const up = folders.flatMap((folder, floor) =>
    PLAN[folder]!.may.filter((below) => folders.indexOf(below) <= floor).map((below) => `${folder} -> ${below}`),
  );
  expect(up.filter((arrow) => UPWARD[arrow] === undefined)).toEqual([]);
});

test("every folder with code has a row", () => {
  expect([...new Set(modules.map((file) => dirname(file)))].filter((folder) => PLAN[folder] === undefined)).toEqual([]);
});

test("a file imports only from the folders its row names", () => {
  const found = breaches(modules, (file) => {
    const here = dirname(file);
    const may = PLAN[here]?.may ?? [];
    return local(file).filter((target) => dirname(target) !== here && !may.includes(dirname(target)));
  });
  expect(found).toEqual([]);
});

test("host and enclave never import each other, and neutral code only neutral code", () => {
  expect(
    breaches(modules, (file) => local(file).filter((target) => !MAY_SEE[side(file)].includes(side(target)))),
  ).toEqual([]);
});

test("a file loads only the packages and node: modules its row names", () => {
  const found = breaches(modules, (file) => {
    const row = PLAN[dirname(file)];
    return bare(file).filter((target) =>
      target.startsWith("node:")
        ? row?.node?.includes(target.slice("node:".length)) !== true
        : row?.packages?.[packageOf(target)] === undefined,
    );
  });
  expect(found).toEqual([]);
});

test("no row lets the enclave load the host's libraries or the tools", () => {
  const trusted = folders.filter((folder) => !["roof", "host", "member"].includes(side(`${folder}/`)));
  const found = trusted.flatMap((folder) =>
    Object.keys(PLAN[folder]!.packages ?? {}).filter((name) => NEVER_TRUSTED.some((banned) => name.startsWith(banned))),
  );
  expect(found).toEqual([]);
});

test("no file is part of a circle", () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    if (path.includes(file) || done.has(file) || !files.includes(file)) return;
    for (const target of local(file)) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of modules) visit(file, []);
  expect(circles).toEqual([]);
});

test("every relative import names a file that exists", () => {
  const known = new Set(files);
  expect(breaches(modules, (file) => local(file).filter((target) => !known.has(target)))).toEqual([]);
});

/** Their results depend on their arguments alone. */
const PURE = [
  /^protocol\//,
  /^node\/enclave\/(kv|consensus)\//,
  /^node\/enclave\/http\/errors\.ts$/,
  /^governance\/enclave\/proposals\.ts$/,
];
const AMBIENT =
  /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bset(?:Timeout|Interval|Immediate)\b|\bprocess\b|\bperformance\b|\bglobalThis\b/g;
const WAITING = /\bawait\b|\basync\b|\bPromise\b/g;
const wordsIn = (file: string, pattern: RegExp) =>
  code(file)
    .replaceAll(/"[^"\n]*"/g, '""')
    .match(pattern) ?? [];

test("pure places ask no clock, no chance and no process", () => {
  const pure = modules.filter((file) => PURE.some((place) => place.test(file)));
  expect(breaches(pure, (file) => wordsIn(file, AMBIENT))).toEqual([]);
});

test("consensus and state never wait", () => {
  const step = modules.filter((file) => /^node\/enclave\/(kv|consensus)\//.test(file));
  expect(breaches(step, (file) => wordsIn(file, WAITING))).toEqual([]);
});

test("every file says in its header what it is", () => {
  const found = breaches(modules, (file) => {
    const header = /^(?:#![^\n]*\n)?\/\*\*\n([\s\S]*?)\*\//.exec(read(file))?.[1] ?? "";
    return header.replaceAll(/[\s*]/g, "").length < HEADER_CHARS_MIN ? ["no header comment"] : [];
  });
  expect(found).toEqual([]);
});

test("no barrels, no default exports, no stray output, kebab-case names", () => {
  const found = breaches(files, (file) => {
    const name = basename(file);
    return [
      ...(name.startsWith("index.") ? ["a barrel"] : []),
      ...(/^[a-z0-9]+(?:[-.][a-z0-9]+)*$/.test(name) ? [] : ["not kebab-case"]),
      ...(/\bexport default\b/.test(code(file)) ? ["a default export"] : []),
      ...(code(file).match(/\bconsole\.(?:log|info|debug)\(/) ?? []),
    ];
  });
  expect(found).toEqual([]);
});

test("nothing is left for later, and no test runs alone", () => {
  // Spelled in halves, or this file would find itself.
  const later = new RegExp(
    `\\b(?:${["TO" + "DO", "FIX" + "ME", "X" + "XX"].join("|")})\\b|\\b(?:test|it|describe)\\.on${"ly"}\\b`,
    "g",
  );
  expect(
    breaches([...files, ...filesUnder("test"), ...filesUnder("bench")], (file) => read(file).match(later) ?? []),
  ).toEqual([]);
});
