import fc from "fast-check";
import { expect, test } from "vitest";
import { noAuth } from "../../../../../node/enclave/http/auth.ts";
import { type Endpoint, HttpError, type Method } from "../../../../../node/enclave/http/endpoint.ts";
import { createRegistry } from "../../../../../node/enclave/http/registry.ts";

function endpoint(method: Method, path: string): Endpoint {
  return { method, path, auth: [noAuth], kind: "read", handler: () => ({ status: 200, body: path }) };
}

const registry = createRegistry([
  endpoint("GET", "/gov/members/proposals"),
  endpoint("POST", "/gov/members/proposals:create"),
  endpoint("GET", "/gov/members/proposals/{proposalId}"),
  endpoint("POST", "/gov/members/proposals/{proposalId}:withdraw"),
  endpoint("POST", "/gov/members/proposals/{proposalId}/ballots/{memberId}:submit"),
  endpoint("GET", "/node/network/nodes/self"),
  endpoint("GET", "/node/network/nodes/{node_id}"),
  endpoint("DELETE", "/node/network/nodes/{node_id}"),
  endpoint("GET", "/app/a/{x}/c"),
  endpoint("GET", "/app/a/b/{y}"),
  endpoint("GET", "/app/dot.path"),
]);

function found(method: string, path: string): [string, object | undefined] {
  const result = registry.find(method, path);
  if (result.kind !== "endpoint") throw new Error(`nothing for ${method} ${path}`);
  return [result.endpoint.path, result.params];
}

test("an exact path goes before a template", () => {
  expect(found("GET", "/node/network/nodes/self")).toEqual(["/node/network/nodes/self", undefined]);
  expect(found("GET", "/node/network/nodes/other")).toEqual(["/node/network/nodes/{node_id}", { node_id: "other" }]);
});

test("a method that the exact path lacks may be a template's", () => {
  expect(found("DELETE", "/node/network/nodes/self")).toEqual(["/node/network/nodes/{node_id}", { node_id: "self" }]);
});

test("a placeholder ends at the literal that follows it", () => {
  expect(found("POST", "/gov/members/proposals/ab12:withdraw")).toEqual([
    "/gov/members/proposals/{proposalId}:withdraw",
    { proposalId: "ab12" },
  ]);
  expect(found("POST", "/gov/members/proposals/ab/ballots/cd:submit")).toEqual([
    "/gov/members/proposals/{proposalId}/ballots/{memberId}:submit",
    { proposalId: "ab", memberId: "cd" },
  ]);
  expect(found("POST", "/gov/members/proposals:create")).toEqual(["/gov/members/proposals:create", undefined]);
});

test("a parameter is given decoded", () => {
  expect(found("GET", "/node/network/nodes/a%2Fb%20c")[1]).toEqual({ node_id: "a/b c" });
  expect(() => registry.find("GET", "/node/network/nodes/%zz")).toThrow(
    expect.objectContaining({ status: 400, code: "InvalidResourceName" }),
  );
});

test.each([
  ["GET", "/node/network/nodes/"],
  ["GET", "/node/network/nodes/a/b"],
  ["GET", "/app/dotxpath"],
  ["GET", "/app"],
  ["GET", ""],
])("%s %s is unknown", (method, path) => {
  expect(registry.find(method, path).kind).toBe("unknown");
});

test.each(["/gov/members/proposals/:withdraw", "/gov/members/proposals/a:b:withdraw"])(
  "%s is no withdrawal: the placeholder takes neither nothing nor its own literal",
  (path) => {
    // The plain template takes them as ids, but not with this method.
    expect(registry.find("POST", path)).toEqual({ kind: "methods", allow: "OPTIONS, GET" });
  },
);

test("the methods of a known path are listed in order, after OPTIONS", () => {
  expect(registry.find("PUT", "/node/network/nodes/self")).toEqual({ kind: "methods", allow: "OPTIONS, DELETE, GET" });
  expect(registry.find("HEAD", "/gov/members/proposals")).toEqual({ kind: "methods", allow: "OPTIONS, GET" });
});

test("a path that two templates match fails instead of being guessed", () => {
  expect(() => registry.find("GET", "/app/a/b/c")).toThrow(HttpError);
});

test("two endpoints with one method and path are our mistake", () => {
  expect(() => createRegistry([endpoint("GET", "/app/x"), endpoint("GET", "/app/x")])).toThrow("one endpoint for");
  expect(() => createRegistry([endpoint("GET", "/app/{x}"), endpoint("GET", "/app/{x}")])).toThrow("one endpoint for");
});

test("every parameter survives being put into a path", () => {
  const segment = fc.string({ minLength: 1, unit: "binary" });
  fc.assert(
    fc.property(segment, segment, (proposal, member) => {
      const path = `/gov/members/proposals/${encode(proposal)}/ballots/${encode(member)}:submit`;
      expect(found("POST", path)[1]).toEqual({ proposalId: proposal, memberId: member });
    }),
  );
});

test("no path whatever makes the search fail otherwise", () => {
  fc.assert(
    fc.property(fc.constantFrom("GET", "POST", "BREW"), fc.webPath(), (method, path) => {
      expect(registry.find(method, path)).toHaveProperty("kind");
    }),
  );
});

/** Colons and everything else that is not plain are escaped. */
function encode(text: string): string {
  return [...Buffer.from(text.toWellFormed())].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
}
