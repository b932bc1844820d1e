/** Which service is meant, and as whom: the order in which places are asked. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findContext, identityNamed } from "../../../../cli/client/context.ts";
import type { CliError } from "../../../../cli/terminal/errors.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";

let root: string;
const person = createParticipant({ name: "user0", validFrom: new Date("2026-01-01T00:00:00Z"), curve: "P-256" });

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "camerata-context-"));
  const dev = join(root, "project", ".camerata", "dev");
  mkdirSync(join(root, "project", "deep", "er"), { recursive: true });
  mkdirSync(dev, { recursive: true });
  mkdirSync(join(root, "config", "camerata"), { recursive: true });
  mkdirSync(join(root, "empty"));
  writeFileSync(
    join(dev, "ready.json"),
    JSON.stringify({ nodes: [{ rpc_address: "127.0.0.1:1" }, { rpc_address: "127.0.0.1:2" }] }),
  );
  writeFileSync(join(dev, "service_cert.pem"), "dev service");
  writeFileSync(join(dev, "user0_cert.pem"), person.certificatePem);
  writeFileSync(join(dev, "user0_privk.pem"), person.privateKeyPem);
  writeFileSync(join(root, "other.pem"), "other service");
  writeFileSync(
    join(root, "config", "camerata", "contexts.json"),
    JSON.stringify({
      current: "production",
      contexts: {
        production: { addresses: ["https://node.example:443"], service_certificate: join(root, "other.pem") },
      },
    }),
  );
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const HOME = () => ({ XDG_CONFIG_HOME: join(root, "config") });
const failure = (work: () => unknown): CliError["parts"] => {
  try {
    work();
  } catch (error) {
    return (error as CliError).parts;
  }
  throw new Error("nothing was thrown");
};

describe("found, first to last", () => {
  test("by flags alone", () => {
    const options = { url: "https://127.0.0.1:9/", ca: join(root, "other.pem") };
    const found = findContext(options, {}, join(root, "project"));
    expect(found).toMatchObject({
      addresses: ["127.0.0.1:9"],
      serviceCertificatePem: "other service",
      directory: undefined,
    });
  });

  test("by environment variables, which flags outrank", () => {
    const environment = { CAMERATA_URL: "https://a:1", CAMERATA_CA: join(root, "other.pem") };
    expect(findContext({}, environment, root).addresses).toEqual(["a:1"]);
    expect(findContext({ url: "https://b:2" }, environment, root).addresses).toEqual(["b:2"]);
  });

  test("by the name of a context, or the directory of a development network", () => {
    expect(findContext({ context: "production" }, HOME(), join(root, "project")).addresses).toEqual([
      "node.example:443",
    ]);
    const dev = join(root, "project", ".camerata", "dev");
    expect(findContext({ context: dev }, {}, root)).toMatchObject({ directory: dev });
  });

  test("by the nearest development network upwards, which outranks the current context", () => {
    const found = findContext({}, HOME(), join(root, "project", "deep", "er"));
    expect(found).toMatchObject({ addresses: ["127.0.0.1:1", "127.0.0.1:2"], serviceCertificatePem: "dev service" });
  });

  test("by the current context", () => {
    expect(findContext({}, HOME(), join(root, "empty")).name).toBe("production");
  });
});

describe("refused, with a remedy", () => {
  test("no context anywhere", () => {
    const parts = failure(() => findContext({}, { XDG_CONFIG_HOME: root }, join(root, "empty")));
    expect(parts).toMatchObject({ id: "E-NO-CONTEXT", exit: 2 });
    expect(parts.fix).toContain("camerata dev");
  });

  test("a context that is not there, with those that are", () => {
    const parts = failure(() => findContext({ context: "staging" }, HOME(), root));
    expect(parts).toMatchObject({ id: "E-NO-CONTEXT", exit: 3 });
    expect(parts.why).toContain("production");
  });

  test.each(["http://a:1", "ftp://a", "https://", "::"])("the address %s", (url) => {
    expect(failure(() => findContext({ url, ca: join(root, "other.pem") }, {}, root)).exit).toBe(2);
  });

  test("a certificate without its key", () => {
    expect(failure(() => findContext({ cert: join(root, "other.pem") }, HOME(), root)).headline).toContain("--key");
  });

  test("a file that is not there, by its name", () => {
    const missing = join(root, "missing.pem");
    expect(failure(() => findContext({ url: "https://a:1", ca: missing }, {}, root)).headline).toContain(missing);
  });
});

test("keys are found by name in the context's directory, with the id that the service knows", () => {
  const context = findContext({}, {}, join(root, "project"));
  expect(identityNamed(context, "user0")).toMatchObject({ name: "user0", id: person.id });
  expect(failure(() => identityNamed(context, "user7"))).toMatchObject({ id: "E-NO-IDENTITY", exit: 2 });
});
