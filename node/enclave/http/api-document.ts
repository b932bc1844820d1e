/**
 * `GET /X/api`: what a frontend offers, as an OpenAPI 3 document made from the endpoints themselves.
 *
 * It says which paths and methods there are, who may call and where a call is executed. Bodies are not described: the
 * endpoints do not declare them.
 *
 * Trusted. Pure.
 */
import { noAuth } from "./auth.ts";
import type { Endpoint, Frontend } from "./endpoint.ts";

const FRONTENDS: readonly Frontend[] = ["app", "gov", "node"];

const TITLES: Record<Frontend, Readonly<{ title: string; description: string }>> = {
  app: { title: "Application", description: "What the installed application offers to its users." },
  gov: { title: "Governance", description: "How members govern the service." },
  node: { title: "Node", description: "Public, uncredentialed access to service and node state." },
};

/** Where an endpoint of each kind runs when a backup is asked. */
const EXECUTION: Record<Endpoint["kind"], string> = {
  write: "Executed on the primary; any other node redirects there.",
  read: "Executed on the node asked.",
  local: "Executed on the node asked, about this node.",
};

/** One document for each frontend. A frontend that has a `GET /X/api` already keeps it. */
export function apiEndpoints(endpoints: readonly Endpoint[]): Endpoint[] {
  return FRONTENDS.map((frontend): Endpoint => {
    const own = endpoints.filter(({ path }) => path.startsWith(`/${frontend}/`));
    let document: object | undefined;
    return {
      method: "GET",
      path: `/${frontend}/api`,
      auth: [noAuth],
      kind: "local",
      handler: () => ({ status: 200, body: (document ??= describe(frontend, own)) }),
    };
  }).filter(({ path }) => !endpoints.some((endpoint) => endpoint.method === "GET" && endpoint.path === path));
}

function describe(frontend: Frontend, endpoints: readonly Endpoint[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const endpoint of endpoints.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    const operations = (paths[endpoint.path] ??= {});
    operations[endpoint.method.toLowerCase()] = operation(endpoint);
  }
  const schemes = [...new Set(endpoints.flatMap(({ auth }) => auth.map(({ name }) => name)))].filter(
    (name) => name !== noAuth.name,
  );
  return {
    components: {
      responses: {
        default: {
          content: { "application/json": { schema: ref("schemas/CCFError") } },
          description: "An error occurred",
        },
      },
      schemas: { CCFError: ERROR_SCHEMA },
      securitySchemes: Object.fromEntries(schemes.map((name) => [name, securityScheme(name)])),
    },
    info: { ...TITLES[frontend], version: "0.1.0" },
    openapi: "3.0.0",
    paths,
    servers: [],
  };
}

function operation({ method, path, auth, kind }: Endpoint): object {
  const parameters = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => ({
    in: "path",
    name,
    required: true,
    schema: { type: "string" },
  }));
  return {
    description: EXECUTION[kind],
    operationId: `${method.toLowerCase()}${path.replace(/[^A-Za-z0-9]+(.?)/g, (_, next: string) => next.toUpperCase())}`,
    ...(parameters.length > 0 && { parameters }),
    responses: { default: ref("responses/default") },
    security: auth.map(({ name }) => (name === noAuth.name ? {} : { [name]: [] })),
  };
}

function securityScheme(name: string): object {
  return name.endsWith("_cose_sign1") ? { type: "http", scheme: "cose_sign1" } : { type: "mutualTLS" };
}

function ref(path: string): object {
  return { $ref: `#/components/${path}` };
}

const ERROR_SCHEMA = {
  properties: {
    error: {
      properties: {
        code: { description: "Response error code", type: "string" },
        message: { description: "Response error message", type: "string" },
      },
      type: "object",
    },
  },
  type: "object",
};
