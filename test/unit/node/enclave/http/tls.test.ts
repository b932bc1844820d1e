import { once } from "node:events";
import { connect, type SecureVersion, type TLSSocket } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { noAuth } from "../../../../../node/enclave/http/auth.ts";
import { type Endpoint, json } from "../../../../../node/enclave/http/endpoint.ts";
import { bench, INTERFACE, person } from "./client.ts";

const EXPORTER: Endpoint = {
  method: "GET",
  path: "/app/exporter",
  auth: [noAuth],
  kind: "local",
  handler: ({ request: { session } }) =>
    json({
      exported: Buffer.from(session.exportKey("label", 32)).toString("hex"),
      certificate:
        session.clientCertificate === undefined ? null : Buffer.from(session.clientCertificate).toString("hex"),
    }),
};
const { server, user, connect: open, dial } = bench(() => [EXPORTER]);
afterAll(() => server.close());

test("1.3 with the hybrid key exchange is what a current client gets", async () => {
  const client = await open();
  expect(client.socket.getProtocol()).toBe("TLSv1.3");
  expect(client.socket.getCipher().standardName).toBe("TLS_AES_256_GCM_SHA384");
  expect(client.socket.alpnProtocol).toBe(false);
});

test.each(["X25519MLKEM768", "X25519", "P-384", "P-256", "P-521"])(
  "a client that knows only %s is served",
  async (group) => {
    const client = await open(undefined, { ecdhCurve: group });
    expect((await client.call("GET", "/exporter")).status).toBe(200);
  },
);

test("1.2 is served with forward secrecy, 1.1 is refused", async () => {
  const old = await open(undefined, { maxVersion: "TLSv1.2" });
  expect(old.socket.getProtocol()).toBe("TLSv1.2");
  expect(old.socket.getCipher().standardName).toMatch(/^TLS_ECDHE_ECDSA_WITH_AES_(256|128)_GCM/);
  await refused({ minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT:@SECLEVEL=0" });
});

test("1.2 without forward secrecy is refused", () =>
  refused({ maxVersion: "TLSv1.2", ciphers: "AES256-GCM-SHA384:ECDHE-ECDSA-AES256-SHA" }));

test("a client certificate is asked for and passed on as shown, with nobody's signature on it", async () => {
  const known = await open(user);
  const { certificate } = JSON.parse((await known.call("GET", "/exporter")).text) as { certificate: string };
  expect(certificate).toBe(user.certificate.replace(/-----[^-]+-----|\s/g, "").replace(/^.*$/, toHex));
  const unknown = await open();
  expect(JSON.parse((await unknown.call("GET", "/exporter")).text)).toMatchObject({ certificate: null });
});

test.each<SecureVersion>(["TLSv1.3", "TLSv1.2"])("both ends of a %s session export the same key", async (version) => {
  const client = await open(undefined, { minVersion: version, maxVersion: version });
  const { exported } = JSON.parse((await client.call("GET", "/exporter")).text) as { exported: string };
  expect(exported).toBe(client.socket.exportKeyingMaterial(32, "label", Buffer.alloc(0)).toString("hex"));
});

test.each<SecureVersion>(["TLSv1.3", "TLSv1.2"])("a %s session is never resumed", async (version) => {
  const versions = { minVersion: version, maxVersion: version };
  const first = await open(user, versions);
  const tickets: Buffer[] = [];
  first.socket.on("session", (ticket) => tickets.push(ticket));
  await first.call("GET", "/exporter");
  const ticket = tickets[0] ?? first.socket.getSession();
  const second = await open(user, { ...versions, ...(ticket && { session: ticket }) });
  expect(second.socket.isSessionReused()).toBe(false);
  await second.call("GET", "/exporter");
});

test("a client cannot renegotiate", async () => {
  const impatient = bench(() => [EXPORTER], { deadlines: { headersMs: 50, checkIntervalMs: 10 } });
  const client = await impatient.connect(undefined, { maxVersion: "TLSv1.2" });
  const renegotiated = new Promise<string>((resolve) => {
    client.socket.renegotiate({}, (error) => resolve(error === null ? "renegotiated" : "refused"));
    client.socket.on("close", () => resolve("refused"));
  });
  expect(await renegotiated).toBe("refused");
  await impatient.server.close();
});

test("a new certificate is shown to the next client, and the old client keeps its session", async () => {
  const before = await open();
  const renewed = person("renewed");
  server.setCertificate("Node", renewed);
  const after = await open();
  expect(after.certificateShown().subject).toBe("CN=renewed");
  expect(before.certificateShown().subject).toBe("CN=node");
  expect((await before.call("GET", "/exporter")).status).toBe(200);
});

test("an interface with the service's endorsement drops connections until there is a certificate", async () => {
  const waiting = bench(() => [EXPORTER], { limits: { endorsement: "Service" } });
  const dropped = waiting.dial();
  await once(dropped, "close");
  expect(waiting.server.sessionCounts().active).toBe(0);
  waiting.server.setCertificate("Service", person("endorsed"));
  expect((await waiting.connect()).certificateShown().subject).toBe("CN=endorsed");
  await waiting.server.close();
});

test("a connection on an interface that is not configured is dropped", async () => {
  await once(dial("no_such_interface"), "close");
  expect(Object.keys(server.sessionCounts().interfaces)).toEqual([INTERFACE]);
});

test("bytes that are no handshake end the connection", async () => {
  const stream = dial();
  stream.resume();
  stream.write("GET / HTTP/1.1\r\n\r\n");
  await once(stream, "close");
});

test("a handshake that does not end is ended", async () => {
  const impatient = bench(() => [EXPORTER], { deadlines: { handshakeMs: 20 } });
  const stream = impatient.dial();
  await once(stream, "close");
  expect(impatient.server.sessionCounts().active).toBe(0);
  await impatient.server.close();
});

test("a connection cut in the middle of a handshake is forgotten", async () => {
  const stream = dial();
  const active = server.sessionCounts().active;
  stream.destroy();
  await expect.poll(() => server.sessionCounts().active).toBe(active - 1);
});

async function refused(options: Parameters<typeof open>[1]): Promise<void> {
  const socket: TLSSocket = connect({ socket: dial(), rejectUnauthorized: false, ...options });
  await expect(once(socket, "secureConnect")).rejects.toThrow();
}

function toHex(base64: string): string {
  return Buffer.from(base64, "base64").toString("hex");
}
