/**
 * Where a client's TLS ends: inside the enclave, over a stream of bytes that the host relays.
 *
 * The host sees records that it can only drop or break. A client certificate is asked for and taken as shown; nobody
 * verifies its chain here, because who may call is a matter of the tables (`auth.ts`). Which certificate this node shows
 * can be replaced at any time, and holds for connections that begin afterwards.
 *
 * A session is never resumed: a ticket would carry a client's certificate over a change of ours, and every saved
 * handshake would be one more state to reason about. Renegotiation is off, so a connection has one certificate for life.
 *
 * Trusted.
 */
import { constants, type KeyObject } from "node:crypto";
import type { Duplex } from "node:stream";
import { createServer, type SecureContextOptions, type TLSSocket } from "node:tls";

/** CCF 7.0.2 `src/tls/context.h`; the two suites of 1.3 and forward-secret AES-GCM for 1.2. */
const CIPHERS = [
  "TLS_AES_256_GCM_SHA384",
  "TLS_AES_128_GCM_SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES128-GCM-SHA256",
].join(":");

/** CCF offers the NIST curves only; the hybrid and X25519 go first because they are faster, and the hybrid outlives quantum computers. */
const GROUPS = "X25519MLKEM768:X25519:P-384:P-256:P-521";

const NO_TICKETS_NO_RENEGOTIATION = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;

/** What a server shows: a certificate (PEM, leaf first) and its private key. */
export type TlsIdentity = Readonly<{ certificate: string; key: KeyObject }>;

export type TlsParts = Readonly<{
  handshakeTimeoutMs: number;
  /** A handshake is done. */
  secured(socket: TLSSocket): void;
}>;

export interface TlsTerminator {
  /** False until a certificate is set: until then there is nothing to show, and connections are to be dropped. */
  ready(): boolean;
  /** Shows this certificate from the next connection on. */
  setIdentity(identity: TlsIdentity): void;
  /** Takes a stream of TLS records. A failed or slow handshake destroys it. */
  accept(stream: Duplex): void;
}

export function createTlsTerminator({ handshakeTimeoutMs, secured }: TlsParts): TlsTerminator {
  let ready = false;
  const server = createServer({
    ...CONTEXT,
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: handshakeTimeoutMs,
    ALPNProtocols: ["http/1.1"],
  });
  server.on("secureConnection", secured);
  // Whatever a client sent instead of a handshake, it is owed no more than the alert that OpenSSL has written.
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return {
    ready: () => ready,
    setIdentity({ certificate, key }) {
      server.setSecureContext({ ...CONTEXT, cert: certificate, key: key.export({ type: "pkcs8", format: "pem" }) });
      ready = true;
    },
    accept: (stream) => void server.emit("connection", stream),
  };
}

const CONTEXT: SecureContextOptions = {
  minVersion: "TLSv1.2",
  ciphers: CIPHERS,
  honorCipherOrder: true,
  ecdhCurve: GROUPS,
  secureOptions: NO_TICKETS_NO_RENEGOTIATION,
  // Nobody's signature makes a client certificate right, so there is no need to load the web's roots.
  ca: [],
};
