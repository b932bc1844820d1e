/**
 * Keys and certificates for tests: a service, and nodes that it endorsed.
 *
 * The certificates are made here with a few lines of DER and not by the code under test, so that the tests of channels and
 * of joining depend on no other part of the house.
 */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";

export type Identity = Readonly<{
  key: KeyObject;
  privateKey: string;
  certificate: string;
  publicKey: Buffer;
  /** Hex SHA-256 of `publicKey`. */
  id: string;
}>;

export function makeService(name = "service"): Identity {
  return make(name, undefined);
}

/** A node with a certificate by `issuer`, or a self-signed one. */
export function makeNode(issuer?: Readonly<{ name: string; service: Identity }>): Identity {
  return make("node", issuer);
}

function make(name: string, issuer: Readonly<{ name: string; service: Identity }> | undefined): Identity {
  const { privateKey: key, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  const body = der(0x30, [
    der(0xa0, [der(0x02, [Buffer.from([2])])]),
    der(0x02, [Buffer.concat([Buffer.from([1]), randomBytes(15)])]),
    ECDSA_SHA256,
    commonName(issuer?.name ?? name),
    der(0x30, [der(0x17, [Buffer.from("250101000000Z")]), der(0x17, [Buffer.from("250102000000Z")])]),
    commonName(name),
    spki,
  ]);
  const signature = sign("sha256", body, issuer?.service.key ?? key);
  const certificate = der(0x30, [body, ECDSA_SHA256, der(0x03, [Buffer.from([0]), signature])]);
  const lines = certificate.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
  return {
    key,
    privateKey: key.export({ type: "pkcs8", format: "pem" }).toString(),
    certificate: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    publicKey: spki,
    id: createHash("sha256").update(spki).digest("hex"),
  };
}

function der(tag: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length =
    body.length < 128
      ? [body.length]
      : body.length < 256
        ? [0x81, body.length]
        : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const ECDSA_SHA256 = der(0x30, [Buffer.from("06082a8648ce3d040302", "hex")]);

function commonName(name: string): Buffer {
  return der(0x30, [der(0x31, [der(0x30, [Buffer.from("0603550403", "hex"), der(0x0c, [Buffer.from(name)])])])]);
}
