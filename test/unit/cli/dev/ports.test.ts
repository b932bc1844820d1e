/** A clash of ports is told before anything starts. */
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { nodeAddresses, requireFree } from "../../../../cli/dev/ports.ts";
import type { CliError } from "../../../../cli/terminal/errors.ts";

const refusal = (port: number, nodes: number) =>
  requireFree(port, nodes).then(
    () => undefined,
    (error: CliError) => error.parts,
  );

test("every port in use is named, clients' and nodes'", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  try {
    expect(await refusal(port, 1)).toMatchObject({ id: "E-PORT-IN-USE", exit: 5 });
    expect((await refusal(port - 1, 2))?.headline).toContain(String(port));
    // As a port between nodes, too.
    if (port > 2000) expect((await refusal(port - 1000, 1))?.headline).toContain(String(port));
  } finally {
    server.close();
  }
});

test("ports beyond the last one are refused", async () => {
  expect(await refusal(65_000, 1)).toMatchObject({ id: "E-PORT", exit: 2 });
});

test("node i listens at the port plus i", () => {
  expect(nodeAddresses(8000, 2)).toEqual({ rpc: "127.0.0.1:8002", peer: "127.0.0.1:9002" });
});
