/**
 * Recovery shares: the key that wraps the ledger secret, split among the members (Shamir).
 *
 * The secret is ten independent numbers ("limbs") modulo p = 2^31 - 1. Each is the constant term of a random polynomial of
 * degree threshold - 1, and the share with index x holds the ten values at x. Index 0 is the whole secret, which members
 * with the role `Owner` get. Fewer shares than the threshold say nothing; wrong shares give a wrong secret, which shows
 * when the ledger secret does not unwrap.
 *
 *   serialised share   u32 x ‖ 10 x u32 limb, little-endian: 44 bytes
 *   wrapping key       HKDF-SHA256, key = info = the 40 bytes of the secret's limbs, no salt
 *   wrapped secret     a sealed blob with an IV of zeros: the wrapping key is used once
 *
 * That the secret is also HKDF's info looks odd and is CCF's (7.0.2 `src/crypto/sharing.cpp`): members must be able to
 * recover with CCF's tools. Reference ccf-ledger-format.md 12.2.
 *
 * Neutral. Pure, but for the randomness of new secrets.
 */
import { hkdfSync, randomInt } from "node:crypto";
import { Reader, Writer } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import { openBlob, sealBlob } from "./sealed-blob.ts";

/** `x` = 0: the whole secret. */
export type Share = Readonly<{ x: number; limbs: readonly number[] }>;

export type SharingFault =
  | { code: "ShareMalformed" }
  | { code: "ShareRepeated"; x: number }
  | { code: "SharesTooFew"; have: number; need: number };

export const SHARE_BYTES = 44;
/** As many members take part in recovery as a CCF service allows. */
export const SHARES_MAX = 254;

const LIMBS = 10;
const P = 2n ** 31n - 1n;
const ONE_USE_IV = Buffer.alloc(12);

/**
 * Makes a new secret and its shares 1..count.
 * @param sample uniform in 0..p-1; another one only in tests.
 */
export function splitSecret(
  threshold: number,
  count: number,
  sample: () => number = () => randomInt(Number(P)),
): { secret: Share; shares: Share[] } {
  assert(threshold >= 1 && threshold <= count && count <= SHARES_MAX, "1 <= threshold <= number of shares");
  const polynomials = Array.from({ length: LIMBS }, () => Array.from({ length: threshold }, () => BigInt(sample())));
  const at = (x: number): Share => ({
    x,
    limbs: polynomials.map((polynomial) => Number(evaluate(polynomial, BigInt(x)))),
  });
  return { secret: at(0), shares: Array.from({ length: count }, (_, i) => at(i + 1)) };
}

/**
 * The secret that `threshold` shares give. More are ignored, as in CCF.
 * @throws Fault<SharingFault>
 */
export function joinShares(shares: readonly Share[], threshold: number): Share {
  const used = shares.slice(0, threshold);
  if (used.length < threshold || threshold < 1)
    throw new Fault<SharingFault>(
      { code: "SharesTooFew", have: used.length, need: threshold },
      `${used.length} shares are fewer than the ${threshold} that are needed`,
    );
  const points = used.map((share) => BigInt(share.x) % P);
  for (const [i, point] of points.entries()) {
    const x = Number(point);
    if (x === 0) throw malformed("a full secret (index 0) is not combined with other shares");
    if (points.indexOf(point) !== i)
      throw new Fault<SharingFault>({ code: "ShareRepeated", x }, `share ${x} is there twice`);
  }
  const limbs = Array.from({ length: LIMBS }, (_, limb) => {
    let sum = 0n;
    for (const [i, share] of used.entries()) {
      const value = share.limbs[limb];
      if (value === undefined) throw malformed(`a share has ${LIMBS} limbs`);
      sum = modulo(sum + BigInt(value) * lagrangeAtZero(points, i));
    }
    return Number(sum);
  });
  return { x: 0, limbs };
}

export function serialiseShare(share: Share): Buffer {
  const writer = new Writer(SHARE_BYTES).u32(share.x);
  for (const limb of share.limbs) writer.u32(limb);
  assert(writer.length === SHARE_BYTES, "a share has ten limbs");
  return writer.done();
}

/** @throws Fault `ShareMalformed` */
export function deserialiseShare(bytes: Uint8Array): Share {
  if (bytes.length !== SHARE_BYTES) throw malformed(`a share has ${SHARE_BYTES} bytes, this one ${bytes.length}`);
  const reader = new Reader(bytes);
  return { x: reader.u32(), limbs: Array.from({ length: LIMBS }, () => reader.u32()) };
}

/** The key that wraps the ledger secret, from the whole secret. */
export function wrappingKey(secret: Share): Buffer {
  assert(secret.x === 0, "a wrapping key comes from the whole secret");
  const limbs = serialiseShare(secret).subarray(4);
  return Buffer.from(hkdfSync("sha256", limbs, Buffer.alloc(0), limbs, 32));
}

/** The row `wrapped_latest_ledger_secret`, decoded: 60 bytes. `key` wraps this one secret and nothing else. */
export function wrapLedgerSecret(ledgerSecret: Uint8Array, key: Uint8Array): Buffer {
  return sealBlob(key, ledgerSecret, ONE_USE_IV);
}

/** @throws Fault `BlobNotAuthentic`: wrong shares, or another secret's wrapping. */
export function unwrapLedgerSecret(wrapped: Uint8Array, key: Uint8Array): Buffer {
  return openBlob(key, wrapped);
}

function evaluate(coefficients: readonly bigint[], x: bigint): bigint {
  return coefficients.reduceRight((sum, coefficient) => modulo(sum * x + coefficient), 0n);
}

/** What the value at point i weighs in the value at 0: the product of x_j / (x_j - x_i) over all other points. */
function lagrangeAtZero(points: readonly bigint[], i: number): bigint {
  const own = points[i] ?? 0n;
  let above = 1n;
  let below = 1n;
  for (const [j, other] of points.entries()) {
    if (j === i) continue;
    above = modulo(above * other);
    below = modulo(below * (other - own));
  }
  return modulo(above * inverse(below));
}

/** By Fermat: a^(p-2). */
function inverse(value: bigint): bigint {
  let result = 1n;
  let base = value;
  for (let exponent = P - 2n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = modulo(result * base);
    base = modulo(base * base);
  }
  return result;
}

function modulo(value: bigint): bigint {
  const rest = value % P;
  return rest < 0n ? rest + P : rest;
}

function malformed(message: string): Fault<SharingFault> {
  return new Fault<SharingFault>({ code: "ShareMalformed" }, message);
}
