import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { afterAll, describe, expect, test } from "vitest";
import {
  bitString,
  contextTag,
  element,
  objectId,
  sequence,
  TAG,
  unsignedInteger,
} from "../../../../protocol/crypto/der.ts";
import { certificateId, generateEcKey, spkiDer } from "../../../../protocol/crypto/keys.ts";
import { encodeSubject } from "../../../../protocol/crypto/names.ts";
import { createEncryptionKeyPair, createParticipant } from "../../../../protocol/crypto/participant.ts";
import { derToPem, pemToDer } from "../../../../protocol/crypto/pem.ts";
import { createCsr, endorse, readCsr, selfSigned } from "../../../../protocol/crypto/x509.ts";
import { codeOf } from "../codes.ts";

const validFrom = new Date("2026-03-01T12:00:00Z");
const serviceKey = generateEcKey("P-384").privateKey;
const nodeKey = generateEcKey("P-384").privateKey;
const sans = ["iPAddress:127.0.0.1", "dNSName:localhost", "dNSName:*.example.com", "iPAddress:fe80::1"];

const service = selfSigned({ subjectName: "CN=CCF Service", key: serviceKey, validFrom, days: 365 });
const csr = createCsr({ subjectName: "CN=CCF Node", sans, key: nodeKey });
const node = endorse({ csr, issuerCertificatePem: service, issuerKey: serviceKey, validFrom, days: 90 });

const scratch = mkdtempSync(join(tmpdir(), "x509-"));
afterAll(() => rmSync(scratch, { recursive: true }));

function openssl(args: readonly string[], files: Readonly<Record<string, string>>): string {
  for (const [name, contents] of Object.entries(files)) writeFileSync(join(scratch, name), contents);
  return execFileSync("openssl", args, { cwd: scratch, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

describe("a service certificate", () => {
  const text = openssl(["x509", "-in", "s.pem", "-text", "-noout"], { "s.pem": service });

  test("has CCF's profile", () => {
    expect(text).toContain("Version: 3");
    expect(text).toContain("Signature Algorithm: ecdsa-with-SHA384");
    expect(text).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:1/);
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature, Certificate Sign/);
    expect(text).not.toContain("Subject Alternative Name");
    const [ski, aki] = [...text.matchAll(/Key Identifier:\s+([0-9A-F:]{59})/g)].map((match) => match[1]);
    expect(ski).toBe(aki);
    expect(text).toMatch(/Not Before: Mar +1 12:00:00 2026 GMT/);
    expect(text).toMatch(/Not After : Mar +1 11:59:59 2027 GMT/);
  });

  test("is its own issuer, with a new serial each time", () => {
    const certificate = new X509Certificate(service);
    expect(certificate.subject).toBe("CN=CCF Service");
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.ca).toBe(true);
    const again = selfSigned({ subjectName: "CN=CCF Service", key: serviceKey, validFrom, days: 365 });
    expect(new X509Certificate(again).serialNumber).not.toBe(certificate.serialNumber);
  });

  test("on P-256 is signed with SHA-256, and years from 2050 on are written in full", () => {
    const key = generateEcKey("P-256").privateKey;
    const pem = selfSigned({ subjectName: "CN=x", key, validFrom: new Date("2049-12-31T00:00:00Z"), days: 2 });
    const shown = openssl(["x509", "-in", "p.pem", "-text", "-noout"], { "p.pem": pem });
    expect(shown).toContain("Signature Algorithm: ecdsa-with-SHA256");
    expect(shown).toMatch(/Not Before: Dec 31 00:00:00 2049 GMT\s+Not After : Jan +1 23:59:59 2050 GMT/);
    const dump = openssl(["asn1parse", "-in", "p.pem"], {});
    expect(dump).toMatch(/UTCTIME\s+:491231000000Z/);
    expect(dump).toMatch(/GENERALIZEDTIME\s+:20500101235959Z/);
  });
});

describe("an endorsed node certificate", () => {
  const text = openssl(["x509", "-in", "n.pem", "-text", "-noout"], { "n.pem": node });

  test("has CCF's profile", () => {
    expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE/);
    expect(text).not.toContain("Key Usage");
    expect(text).toContain("Signature Algorithm: ecdsa-with-SHA384");
    const certificate = new X509Certificate(node);
    expect(certificate.issuer).toBe("CN=CCF Service");
    expect(certificate.subject).toBe("CN=CCF Node");
    expect(certificate.subjectAltName).toBe(
      "IP Address:127.0.0.1, DNS:localhost, DNS:*.example.com, IP Address:FE80:0:0:0:0:0:0:1",
    );
    expect(certificate.publicKey.equals(readCsr(csr).publicKey)).toBe(true);
  });

  test("chains to the service, also under strict rules", () => {
    expect(new X509Certificate(node).checkIssued(new X509Certificate(service))).toBe(true);
    const at = String(validFrom.getTime() / 1000 + 10);
    const files = { "s.pem": service, "n.pem": node };
    expect(openssl(["verify", "-x509_strict", "-attime", at, "-CAfile", "s.pem", "n.pem"], files)).toContain(
      "n.pem: OK",
    );
  });

  test("serves TLS to a client that trusts the service alone", async () => {
    const now = new Date(Date.now() - 1000);
    const root = selfSigned({ subjectName: "CN=CCF Service", key: serviceKey, validFrom: now, days: 1 });
    const leaf = endorse({ csr, issuerCertificatePem: root, issuerKey: serviceKey, validFrom: now, days: 1 });
    const user = createParticipant({ name: "user0", validFrom: now });
    const key = nodeKey.export({ type: "pkcs8", format: "pem" });
    const server = createServer({ key, cert: leaf, requestCert: true, rejectUnauthorized: false }, (socket) => {
      const shown = socket.getPeerX509Certificate();
      socket.end(shown === undefined ? "" : certificateId(shown.raw));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const client: TLSSocket = connect({
      port,
      host: "127.0.0.1",
      ca: root,
      cert: user.certificatePem,
      key: user.privateKeyPem,
    });
    const chunks: Buffer[] = [];
    client.on("data", (chunk: Buffer) => chunks.push(chunk));
    await once(client, "end");
    expect(client.authorized).toBe(true);
    expect(Buffer.concat(chunks).toString()).toBe(user.id);
    client.destroy();
    server.close();
    await once(server, "close");
  });
});

describe("a certificate request", () => {
  test("is accepted by openssl, and signed with SHA-512", () => {
    const shown = openssl(["req", "-in", "c.pem", "-verify", "-text", "-noout"], { "c.pem": csr });
    expect(shown).toContain("ecdsa-with-SHA512");
    expect(shown).toContain("IP Address:127.0.0.1, DNS:localhost");
  });

  test("made by openssl is read", () => {
    const key = nodeKey.export({ type: "pkcs8", format: "pem" }).toString();
    const pem = openssl(
      [
        "req",
        "-new",
        "-sha512",
        "-key",
        "k.pem",
        "-subj",
        "/CN=other/O=Org",
        "-addext",
        "subjectAltName=IP:10.0.0.1,DNS:a.b",
      ],
      { "k.pem": key },
    );
    const request = readCsr(pem);
    expect(request.sans).toEqual(["iPAddress:10.0.0.1", "dNSName:a.b"]);
    expect(request.subject).toEqual(encodeSubject("CN=other,O=Org"));
    expect(spkiDer(request.publicKey)).toEqual(spkiDer(nodeKey));
  });

  test("may be without alternative names", () => {
    expect(readCsr(createCsr({ subjectName: "CN=x", sans: [], key: nodeKey })).sans).toEqual([]);
  });

  test("with any bit changed is refused", () => {
    const der = pemToDer(csr, "CERTIFICATE REQUEST");
    for (let bit = 0; bit < der.length * 8; bit += 3) {
      const flipped = Buffer.from(der);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(
        codeOf(() => readCsr(derToPem("CERTIFICATE REQUEST", flipped))),
        `bit ${bit}`,
      ).not.toBe("accepted");
    }
  });

  test("cut anywhere is refused", () => {
    const der = pemToDer(csr, "CERTIFICATE REQUEST");
    for (let cut = 1; cut < der.length; cut++)
      expect(codeOf(() => readCsr(derToPem("CERTIFICATE REQUEST", der.subarray(0, cut))))).toBe("DerMalformed");
  });

  test("for a key that no node has is refused", () => {
    const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
    const rsa = openssl(["req", "-new", "-key", "r.pem", "-subj", "/CN=x"], { "r.pem": key.toString() });
    expect(codeOf(() => readCsr(rsa))).toMatch("DerMalformed");
    const k1 = generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey.export({
      type: "pkcs8",
      format: "pem",
    });
    const koblitz = openssl(["req", "-new", "-key", "k1.pem", "-subj", "/CN=x"], { "k1.pem": k1.toString() });
    expect(codeOf(() => readCsr(koblitz))).toBe("RequestKeyUnsupported");
  });

  test("with an alternative name of another kind is refused", () => {
    const key = nodeKey.export({ type: "pkcs8", format: "pem" }).toString();
    const pem = openssl(
      ["req", "-new", "-sha512", "-key", "k.pem", "-subj", "/CN=x", "-addext", "subjectAltName=URI:https://a.b"],
      { "k.pem": key },
    );
    expect(codeOf(() => readCsr(pem))).toBe("DerMalformed");
  });

  test("that another key signed is refused", () => {
    const der = pemToDer(csr, "CERTIFICATE REQUEST");
    // The same request, its key replaced and the old signature kept.
    const other = spkiDer(generateEcKey("P-384").privateKey);
    const swapped = Buffer.from(der);
    swapped.set(other, der.indexOf(spkiDer(nodeKey)));
    expect(codeOf(() => readCsr(derToPem("CERTIFICATE REQUEST", swapped)))).toBe("RequestNotSigned");
  });

  test("that is too long is refused before it is read", () => {
    expect(codeOf(() => readCsr(derToPem("CERTIFICATE REQUEST", Buffer.alloc(20_000))))).toBe("DerMalformed");
  });
});

test("a certificate and a key that do not belong together make no endorsement", () => {
  expect(() => endorse({ csr, issuerCertificatePem: service, issuerKey: nodeKey, validFrom, days: 1 })).toThrow(
    "issuer's key",
  );
});

describe("names", () => {
  test.each(["", "CN", "CN=", "X=y", "cn=lower", "CN=a,", "CN=a,CN"])("subject %j is refused", (subjectName) => {
    expect(codeOf(() => selfSigned({ subjectName, key: serviceKey, validFrom, days: 1 }))).toBe("SubjectNameMalformed");
  });

  test.each([
    "localhost",
    "dNSName:",
    "dNSName:a b",
    "dNSName:a..b",
    "dNSName:-a",
    "dNSName:" + "a".repeat(64),
    "iPAddress:256.0.0.1",
    "iPAddress:1.2.3",
    "iPAddress:01.2.3.4",
    "iPAddress:1::2::3",
    "iPAddress:1:2:3:4:5:6:7",
    "iPAddress:1:2:3:4:5:6:7:8:9",
    "iPAddress:1:2:3:4:5:6:7:8::",
    "iPAddress:g::",
    "iPAddress:localhost",
  ])("alternative name %j is refused", (name) => {
    expect(codeOf(() => createCsr({ subjectName: "CN=x", sans: [name], key: nodeKey }))).toBe(
      "SubjectAltNameMalformed",
    );
  });

  test.each([
    ["iPAddress:::", "0:0:0:0:0:0:0:0"],
    ["iPAddress:::1", "0:0:0:0:0:0:0:1"],
    ["iPAddress:1::", "1:0:0:0:0:0:0:0"],
    ["iPAddress:1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["iPAddress:2001:DB8::ff:0", "2001:db8:0:0:0:0:ff:0"],
  ])("%s is read as %s", (name, groups) => {
    expect(readCsr(createCsr({ subjectName: "CN=x", sans: [name], key: nodeKey })).sans).toEqual([
      `iPAddress:${groups}`,
    ]);
  });

  test("more alternative names than anyone has are refused", () => {
    const many = Array.from({ length: 65 }, (_, i) => `dNSName:n${i}`);
    expect(codeOf(() => createCsr({ subjectName: "CN=x", sans: many, key: nodeKey }))).toBe("SubjectAltNameMalformed");
  });
});

describe("DER", () => {
  test("is written as openssl reads it", () => {
    const bytes = sequence(
      objectId("1.2.840.113549.1.9.14"),
      objectId("2.999.3"),
      unsignedInteger(Buffer.from("0080", "hex")),
      unsignedInteger(Buffer.from("0000", "hex")),
      element(TAG.octetString, Buffer.alloc(300)),
      bitString(Buffer.of(0x84), 2),
    );
    // 331 bytes: 11 + 5 + 4 + 3 + 304 + 4.
    expect(bytes.subarray(0, 4).toString("hex")).toBe("3082014b");
    const shown = openssl(["asn1parse", "-in", "d.pem"], { "d.pem": derToPem("CERTIFICATE", bytes) });
    expect(shown).toContain(":Extension Request");
    expect(shown).toContain(":2.999.3");
    expect(shown).toMatch(/INTEGER\s+:80/);
    expect(shown).toMatch(/INTEGER\s+:00/);
    expect(contextTag(3, true)).toBe(0xa3);
  });
});

describe("a participant", () => {
  test.each(["P-384", "P-256"] as const)("has a key on %s and a certificate for it", (curve) => {
    const member = createParticipant({ name: "member0", validFrom, curve });
    const certificate = new X509Certificate(member.certificatePem);
    expect(certificate.subject).toBe("CN=member0");
    expect(certificate.ca).toBe(false);
    expect(certificate.checkPrivateKey(createPrivateKey(member.privateKeyPem))).toBe(true);
    expect(certificate.validToDate.toISOString()).toBe("2027-03-01T11:59:59.000Z");
    expect(member.id).toBe(certificate.fingerprint256.replaceAll(":", "").toLowerCase());
  });

  test("who takes part in recovery has an RSA key of 2048 bits", async () => {
    const { publicKeyPem, privateKeyPem } = await createEncryptionKeyPair();
    expect(createPrivateKey(privateKeyPem).asymmetricKeyDetails).toMatchObject({ modulusLength: 2048 });
    expect(publicKeyPem).toContain("BEGIN PUBLIC KEY");
  });
});
