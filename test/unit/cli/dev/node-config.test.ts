/** What `camerata dev` writes is a configuration that any host reads. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { nodeConfig } from "../../../../cli/dev/node-config.ts";
import { nodeAddresses } from "../../../../cli/dev/ports.ts";
import { readConfig } from "../../../../node/host/config.ts";

let directory: string;
const file = (name: string) => join(directory, name);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "camerata-config-"));
  for (const name of ["cert.pem", "enc.pem", "service.pem", "actions.js"]) writeFileSync(file(name), `${name}\n`);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function written(command: Parameters<typeof nodeConfig>[0]["command"]) {
  writeFileSync(file("config.json"), nodeConfig({ addresses: nodeAddresses(8000, 1), directory, command }));
  return readConfig(file("config.json"));
}

test.each([
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 3],
])("of %i members, %i recover: a majority", (members, threshold) => {
  const member = { certificate: file("cert.pem"), encryptionPublicKey: file("enc.pem") };
  const { enclave } = written({
    type: "Start",
    members: Array.from({ length: members }, () => member),
    constitution: [file("actions.js")],
  });
  expect(enclave.command).toMatchObject({ type: "Start", service_configuration: { recovery_threshold: threshold } });
});

test("a joiner trusts the service certificate it is given, and listens where it is told", () => {
  const config = written({ type: "Join", target: "127.0.0.1:8000", serviceCertificate: file("service.pem") });
  expect(config.enclave.command).toMatchObject({
    type: "Join",
    target_rpc_address: "127.0.0.1:8000",
    service_certificate: "service.pem\n",
  });
  expect(config.rpcInterfaces).toMatchObject([{ bindAddress: "127.0.0.1:8001" }]);
  expect(config.peerBindAddress).toBe("127.0.0.1:9001");
  expect(config.ledgerDirectory).toBe(join(directory, "ledger"));
});
