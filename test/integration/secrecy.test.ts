/** What the host gets to handle: never a private record in clear, never a key. */
import type { KeyObject } from "node:crypto";
import { afterEach, expect, test, vi } from "vitest";
import { LedgerSecret } from "../../protocol/ledger/entry.ts";
import { addUser, call, endAll, found, joinAll, openService } from "./consortium.ts";

const made = vi.hoisted(() => ({ keys: [] as KeyObject[] }));
vi.mock("../../protocol/crypto/keys.ts", async (original) => {
  const real = await original<typeof import("../../protocol/crypto/keys.ts")>();
  return {
    ...real,
    generateEcKey(curve: Parameters<typeof real.generateEcKey>[0]) {
      const pair = real.generateEcKey(curve);
      made.keys.push(pair.privateKey);
      return pair;
    },
  };
});

afterEach(endAll);

/** The spellings in which a secret could hide. */
function spellings(secret: Buffer): Buffer[] {
  const base64 = secret.toString("base64").replace(/=+$/, "");
  return [secret, Buffer.from(secret.toString("hex")), Buffer.from(base64), Buffer.from(secret.toString("base64url"))];
}

/** The private scalar of an EC key. */
function scalar(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: "jwk" }).d ?? "", "base64url");
}

test("no private record and no key is in anything that crosses the boundary, is relayed, stored or logged", async () => {
  const secrets: LedgerSecret[] = [];
  const generate = LedgerSecret.generate;
  const spy = vi.spyOn(LedgerSecret, "generate").mockImplementation(() => {
    const secret = generate();
    secrets.push(secret);
    return secret;
  });
  const first = await found();
  await openService(first);
  const others = await joinAll(first, 2);
  const user = await addUser(first);
  const record = "the-plaintext-of-a-private-record";
  const open = "the-plaintext-of-a-public-record";
  for (const [path, msg] of [["/app/log/private", record] as const, ["/app/log/public", open] as const])
    expect((await call(first, "POST", path, { id: 7, msg }, user, { "x-camerata-wait": "committed" })).status).toBe(
      200,
    );
  for (const node of [first, ...others])
    expect((await call(node, "GET", "/app/log/private?id=7", undefined, user)).status).toBe(200);
  spy.mockRestore();

  const nodes = [first, ...others];
  const handled = Buffer.concat(
    nodes.flatMap((node) => [...node.crossed, ...node.host.entries, Buffer.from(node.logs.join("\n"))]),
  );
  // The search finds what is there: what is public is in clear on its way to the ledger.
  expect(handled.includes(open)).toBe(true);
  expect(secrets.length).toBeGreaterThan(0);
  expect(made.keys.length).toBeGreaterThan(3);

  expect(handled.includes(record)).toBe(false);
  expect(handled.includes("PRIVATE KEY")).toBe(false);
  const keys = made.keys.filter((key) => key !== user.privateKey).map(scalar);
  for (const secret of [...keys, ...secrets.map((one) => one.export())])
    for (const spelling of spellings(secret)) expect(handled.includes(spelling)).toBe(false);
});
