/**
 * Which endpoint answers a method and a path, by CCF's rules (CCF 7.0.2 `src/endpoints/endpoint_registry.cpp`).
 *
 * An exact path goes before templates. `{name}` in a template stands for one or more characters up to the next `/`, or
 * up to the literal character that follows it, as in `{proposalId}:withdraw`. A path that two templates match is a
 * mistake of whoever wrote the API, and the request fails.
 *
 * Trusted. Pure.
 */
import { assert, present } from "../../../protocol/check.ts";
import { type Endpoint, HttpError } from "./endpoint.ts";

export type Found =
  | Readonly<{ kind: "endpoint"; endpoint: Endpoint; params: Readonly<Record<string, string>> | undefined }>
  /** The path exists, and these are its methods; the list begins with OPTIONS. */
  | Readonly<{ kind: "methods"; allow: string }>
  | Readonly<{ kind: "unknown" }>;

export interface Registry {
  /** @throws HttpError 400 for a path parameter that does not decode, 500 where two templates match */
  find(method: string, path: string): Found;
}

type Methods = Map<string, Extract<Found, { kind: "endpoint" }>>;
type Template = Readonly<{ pattern: RegExp; names: readonly string[]; methods: Map<string, Endpoint> }>;

const UNKNOWN: Found = { kind: "unknown" };

export function createRegistry(endpoints: readonly Endpoint[]): Registry {
  const exact = new Map<string, Methods>();
  const templates = new Map<string, Template>();
  for (const endpoint of endpoints) {
    const { method, path } = endpoint;
    if (path.includes("{")) {
      const template = templates.get(path) ?? compile(path);
      assert(!template.methods.has(method), `one endpoint for ${method} ${path}`);
      template.methods.set(method, endpoint);
      templates.set(path, template);
    } else {
      const methods: Methods = exact.get(path) ?? new Map();
      assert(!methods.has(method), `one endpoint for ${method} ${path}`);
      methods.set(method, { kind: "endpoint", endpoint, params: undefined });
      exact.set(path, methods);
    }
  }

  return {
    find(method, path) {
      const here = exact.get(path);
      const found = here?.get(method);
      if (found !== undefined) return found;

      const matches = matching(templates.values(), path);
      const fitting = matches.filter(({ template }) => template.methods.has(method));
      if (fitting.length > 1)
        throw new HttpError(500, "InternalError", "More than one endpoint of this service matches the path.");
      const fit = fitting[0];
      if (fit !== undefined) {
        const endpoint = present(fit.template.methods.get(method), "a fitting template has the method");
        return { kind: "endpoint", endpoint, params: paramsOf(fit.template, fit.values) };
      }

      const known = new Set([
        ...(here?.keys() ?? []),
        ...matches.flatMap(({ template }) => [...template.methods.keys()]),
      ]);
      if (known.size === 0) return UNKNOWN;
      return { kind: "methods", allow: ["OPTIONS", ...[...known].sort()].join(", ") };
    },
  };
}

type Match = Readonly<{ template: Template; values: readonly string[] }>;

function matching(templates: Iterable<Template>, path: string): Match[] {
  const matches: Match[] = [];
  for (const template of templates) {
    const match = template.pattern.exec(path);
    if (match !== null) matches.push({ template, values: match.slice(1) });
  }
  return matches;
}

function compile(path: string): Template {
  const names: string[] = [];
  const pattern = path
    .split(/(\{[^}]*\}.?)/)
    .map((part) => {
      const placeholder = /^\{([^}]+)\}(.?)$/.exec(part);
      if (placeholder === null) return literal(part);
      const [, name, next] = placeholder;
      assert(name !== undefined && !names.includes(name), "placeholders of a path have names of their own");
      assert(next !== "{", "a literal character separates two placeholders");
      names.push(name);
      const stops = next === undefined || next === "" || next === "/" ? "/" : `/${literal(next)}`;
      return `([^${stops}]+)${literal(next ?? "")}`;
    })
    .join("");
  return { pattern: new RegExp(`^${pattern}$`), names, methods: new Map() };
}

function paramsOf(template: Template, values: readonly string[]): Record<string, string> {
  return Object.fromEntries(template.names.map((name, at) => [name, decode(name, values[at] ?? "")]));
}

function decode(name: string, value: string): string {
  try {
    return decodeURIComponent(value);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw new HttpError(400, "InvalidResourceName", `The path parameter '${name}' is not percent-encoded correctly.`);
  }
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
}
