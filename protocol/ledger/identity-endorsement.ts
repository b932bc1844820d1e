/**
 * The endorsement of a service identity by the service key, `public:ccf.internal.previous_service_identity_endorsement`.
 *
 * COSE_Sign1 with the DER SubjectPublicKeyInfo of the endorsed key as payload and the protected header
 *
 *   1        algorithm
 *   15       CWT claims   { 6: iat in seconds }
 *   "ccf.v1" { "epoch.start.txid": "<view>.<seqno>" }
 *
 * The first opening of a service endorses its own key, from its creation on and without an end (CCF 7.0.2
 * `src/service/internal_tables_access.h`; reference ccf-ledger-format.md 10). Later identities extend the chain.
 *
 * Neutral. Pure, but for the randomness of the signature.
 */
import { type KeyObject, sign } from "node:crypto";
import { assert } from "../check.ts";
import { type Cbor, type CborKey, encodeCbor } from "../crypto/cbor.ts";
import { algorithmFor, COSE_HEADER, encodeSign1, toBeSigned } from "../crypto/cose.ts";
import { spkiDer } from "../crypto/keys.ts";

const ISSUED_AT = 6;
const ES384 = -35;

/**
 * @param parts.key the service's private key, which endorses itself. @param parts.begin TxID of the service's creation.
 * @param parts.issuedAt seconds since 1970.
 */
export function selfEndorsement(parts: { key: KeyObject; begin: string; issuedAt: number }): Buffer {
  const { key, begin, issuedAt } = parts;
  assert(algorithmFor(key) === ES384, "the service identity is a P-384 key");
  const protectedBytes = encodeCbor(
    new Map<CborKey, Cbor>([
      [COSE_HEADER.algorithm, ES384],
      [COSE_HEADER.cwtClaims, new Map([[ISSUED_AT, issuedAt]])],
      ["ccf.v1", new Map([["epoch.start.txid", begin]])],
    ]),
  );
  const payload = spkiDer(key);
  const signature = sign("sha384", toBeSigned(protectedBytes, payload), { key, dsaEncoding: "ieee-p1363" });
  return encodeSign1({ protectedBytes, payload, signature });
}
