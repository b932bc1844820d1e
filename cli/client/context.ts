/**
 * Which service a command talks to, and as whom.
 *
 * Looked for in this order, the first that answers wins for everything it says:
 *   1. flags, or their environment variables: --url, --ca, --keys, --cert, --key  (CAMERATA_URL, _CA, _KEYS, _CERT, _KEY)
 *   2. --context NAME (CAMERATA_CONTEXT): an entry of contexts.json, or a directory that `camerata dev` wrote
 *   3. the nearest .camerata/dev with a ready.json, from the working directory upwards
 *   4. the entry that contexts.json calls current
 *
 * A service is its certificate: without one there is no context, because nobody else could be told from it.
 *
 * A member's machine.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { certificateId } from "../../protocol/crypto/keys.ts";
import { CliError, unreadable } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";

export type Identity = Readonly<{
  name: string;
  /** Member or user id. */
  id: string;
  certificatePem: string;
  privateKeyPem: string;
}>;

export type Context = Readonly<{
  /** For people: where it was found. */
  name: string;
  /** `host:port` of nodes, the preferred one first. */
  addresses: readonly string[];
  serviceCertificatePem: string;
  /** Where `NAME_cert.pem` and `NAME_privk.pem` are looked for. */
  directory: string | undefined;
  /** Given by --cert and --key. */
  identity: Identity | undefined;
}>;

export type ContextOptions = Readonly<{
  context?: string | undefined;
  url?: string | undefined;
  ca?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
  /** Directory with `NAME_cert.pem` and `NAME_privk.pem`. */
  keys?: string | undefined;
}>;

export type Environment = Readonly<Record<string, string | undefined>>;

const ContextEntry = Type.Object(
  {
    /** Nodes, `host:port`. */
    addresses: Type.Array(Type.String(), { minItems: 1 }),
    /** File with the service certificate. */
    service_certificate: Type.String(),
    /** Directory with keys and certificates. */
    directory: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
);
type ContextEntry = Static<typeof ContextEntry>;

const ContextsFile = Compile(
  Type.Object(
    { current: Type.Optional(Type.String()), contexts: Type.Record(Type.String(), ContextEntry) },
    { additionalProperties: false },
  ),
);

/** What we need of ready.json here. The rest of it is for scripts. */
const DevReady = Compile(
  Type.Object({ nodes: Type.Array(Type.Object({ rpc_address: Type.String() }), { minItems: 1 }) }),
);

/** @throws CliError `E-NO-CONTEXT` with the ways to give one */
export function findContext(options: ContextOptions, environment: Environment, workingDirectory: string): Context {
  const url = options.url ?? environment["CAMERATA_URL"];
  const ca = options.ca ?? environment["CAMERATA_CA"];
  const name = options.context ?? environment["CAMERATA_CONTEXT"];
  const keys = options.keys ?? environment["CAMERATA_KEYS"];
  const identity = explicitIdentity(options, environment);
  if (url !== undefined && ca !== undefined)
    return {
      name: url,
      addresses: [addressOf(url)],
      serviceCertificatePem: readText(ca),
      directory: keys,
      identity,
    };

  const found =
    name === undefined ? (nearestDev(workingDirectory) ?? currentEntry(environment)) : namedContext(name, environment);
  if (found === undefined)
    throw new CliError({
      id: "E-NO-CONTEXT",
      exit: EXIT.usage,
      headline: "which service? none is given and no development network is near",
      why: "there is no .camerata/dev/ready.json from here upwards, and no --url with --ca",
      fix: "start one with `camerata dev`, or name one: --url https://HOST:PORT --ca service_cert.pem",
    });
  return {
    ...found,
    ...(url !== undefined && { addresses: [addressOf(url)] }),
    ...(ca !== undefined && { serviceCertificatePem: readText(ca) }),
    ...(keys !== undefined && { directory: keys }),
    identity,
  };
}

/** Keys by the names they have in a directory: `user0` is `user0_cert.pem` and `user0_privk.pem`. */
export function identityNamed(context: Context, name: string): Identity {
  const { directory } = context;
  const certificate = directory === undefined ? undefined : join(directory, `${name}_cert.pem`);
  if (directory === undefined || certificate === undefined || !existsSync(certificate))
    throw new CliError({
      id: "E-NO-IDENTITY",
      exit: EXIT.usage,
      headline: `there are no keys for "${name}"`,
      why: certificate === undefined ? "this context names no directory with keys" : `${certificate} does not exist`,
      fix: "name a certificate and its key: --cert FILE --key FILE, or make some: camerata member keygen NAME",
    });
  return readIdentity(name, certificate, join(directory, `${name}_privk.pem`));
}

export function readIdentity(name: string, certificateFile: string, keyFile: string): Identity {
  const certificatePem = readText(certificateFile);
  return { name, id: certificateId(certificatePem), certificatePem, privateKeyPem: readText(keyFile) };
}

/** @throws CliError `E-FILE` */
export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw unreadable(path, error);
  }
}

function explicitIdentity(options: ContextOptions, environment: Environment): Identity | undefined {
  const cert = options.cert ?? environment["CAMERATA_CERT"];
  const key = options.key ?? environment["CAMERATA_KEY"];
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined || key === undefined)
    throw new CliError({
      id: "E-USAGE",
      exit: EXIT.usage,
      headline: "--cert and --key belong together",
      fix: "name both files, the certificate and its private key",
    });
  return readIdentity(cert, cert, key);
}

/** `https://host:port/` or `host:port`, as `host:port`. */
function addressOf(url: string): string {
  const text = url.includes("://") ? url : `https://${url}`;
  const parsed = URL.parse(text);
  if (parsed === null || parsed.protocol !== "https:" || parsed.hostname === "")
    throw new CliError({
      id: "E-USAGE",
      exit: EXIT.usage,
      headline: `"${url}" is not the address of a node`,
      fix: "write https://HOST:PORT",
    });
  return `${parsed.hostname}:${parsed.port === "" ? "443" : parsed.port}`;
}

type Found = Omit<Context, "identity">;

function nearestDev(from: string): Found | undefined {
  for (let at = resolve(from); ; at = dirname(at)) {
    const directory = join(at, ".camerata", "dev");
    if (existsSync(join(directory, "ready.json"))) return devContext(directory);
    if (dirname(at) === at) return undefined;
  }
}

function devContext(directory: string): Found {
  const path = join(directory, "ready.json");
  const ready = readJson(path);
  if (!DevReady.Check(ready)) throw malformed(path, "it is not what `camerata dev` writes");
  return {
    name: directory,
    addresses: ready.nodes.map((node) => node.rpc_address),
    serviceCertificatePem: readText(join(directory, "service_cert.pem")),
    directory,
  };
}

function namedContext(name: string, environment: Environment): Found {
  if (existsSync(name) && statSync(name).isDirectory()) return devContext(name);
  const { path, file } = contextsFile(environment);
  const entry = file?.contexts[name];
  if (entry === undefined)
    throw new CliError({
      id: "E-NO-CONTEXT",
      exit: EXIT.notFound,
      headline: `there is no context "${name}"`,
      why:
        file === undefined
          ? `${path} does not exist`
          : `${path} knows ${Object.keys(file.contexts).join(", ") || "none"}`,
      fix: "name one of these, or a directory that `camerata dev` wrote",
    });
  return entryContext(name, entry);
}

function currentEntry(environment: Environment): Found | undefined {
  const { file } = contextsFile(environment);
  const entry = file?.current === undefined ? undefined : file.contexts[file.current];
  return entry === undefined ? undefined : entryContext(file!.current!, entry);
}

function entryContext(name: string, entry: ContextEntry): Found {
  return {
    name,
    addresses: entry.addresses.map(addressOf),
    serviceCertificatePem: readText(entry.service_certificate),
    directory: entry.directory,
  };
}

function contextsFile(environment: Environment) {
  const home = environment["XDG_CONFIG_HOME"] ?? join(environment["HOME"] ?? "/", ".config");
  const path = join(home, "camerata", "contexts.json");
  if (!existsSync(path)) return { path, file: undefined };
  const file = readJson(path);
  if (!ContextsFile.Check(file)) throw malformed(path, "see docs/cli.md for its form");
  return { path, file };
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    if (error instanceof SyntaxError) throw malformed(path, "it is not JSON");
    throw error;
  }
}

function malformed(path: string, why: string): CliError {
  return new CliError({
    id: "E-FILE",
    exit: EXIT.usage,
    headline: `${path} cannot be understood`,
    why,
    fix: "correct it, or remove it",
  });
}
