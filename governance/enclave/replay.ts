/**
 * Each signed proposal is made once.
 *
 * The service remembers the latest proposals by time and digest. One that it remembers is a replay; one that is older
 * than the median of those is refused, because the service may have forgotten it. Table, key and median rule are CCF's
 * (reference ccf-api-governance.md 4.5).
 *
 * Two things are stricter than in CCF. An ECDSA signature (r, s) has a twin (r, n - s) that anyone can compute and that
 * verifies as well, so the digest is taken over the smaller of the two: else every old proposal could be submitted a
 * second time by anybody who reads the ledger. And a time in the future is refused: a hundred such proposals by one
 * member would move the median there, and shut out everybody else.
 *
 * Trusted. Pure.
 */
import { getOne, open } from "../../node/enclave/kv/table.ts";
import { TABLES } from "../../node/enclave/kv/tables.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import { toHex } from "../../protocol/bytes.ts";
import { sha256Hex } from "../../protocol/crypto/hash.ts";

const WINDOW_SIZE_DEFAULT = 100;
const CREATED_AT_MAX = 9_999_999_999;
/** How far a member's clock may be ahead of the node's. */
const AHEAD_SECONDS_MAX = 600;

/** Orders of the groups of P-256, P-384 and P-521, by the length of r ‖ s. */
const GROUP_ORDERS: Readonly<Record<number, bigint>> = {
  64: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  96: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  132: 0x1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
};

export type Submission = Readonly<{
  /** Seconds since 1970, as the member signed it. */
  createdAt: number;
  /** r ‖ s. */
  signature: Uint8Array;
  /** Seconds since 1970, by the node's clock. */
  now: number;
}>;

export type Freshness =
  | Readonly<{ fresh: true; remember(proposalId: string): void }>
  | Readonly<{
      fresh: false;
      code: "InvalidCreatedAt" | "ProposalReplay" | "ProposalCreatedTooLongAgo";
      message: string;
    }>;

/** Whether a proposal is new; if so, `remember` records it and forgets the oldest. */
export function checkFresh(tx: Tx, { createdAt, signature, now }: Submission): Freshness {
  if (!Number.isInteger(createdAt) || createdAt > CREATED_AT_MAX)
    return stale("InvalidCreatedAt", "Header parameter created_at value is too large");
  if (createdAt > now + AHEAD_SECONDS_MAX)
    return stale(
      "InvalidCreatedAt",
      `created_at ${createdAt} lies in the future: it is ${now} at this node; correct the clock of the machine that signed`,
    );

  const recent = open(tx, TABLES.coseRecentProposals);
  const time = String(createdAt).padStart(10, "0");
  const key = `${time}:${sha256Hex(canonical(signature))}`;
  const entries = recent.entries();
  const known = entries.find(([each]) => each === key);
  if (known !== undefined)
    return stale("ProposalReplay", `Proposal submission replay, already exists as proposal ${known[1]}`);
  const keys = entries.map(([each]) => each).sort();
  const median = keys[Math.floor(keys.length / 2)]?.slice(0, 10);
  if (median !== undefined && time < median)
    return stale(
      "ProposalCreatedTooLongAgo",
      `Proposal created too long ago, created_at must be greater than ${median}`,
    );

  return {
    fresh: true,
    remember(proposalId) {
      const size = getOne(tx, TABLES.serviceConfig)?.recent_cose_proposals_window_size ?? WINDOW_SIZE_DEFAULT;
      const kept = [...keys, key].sort();
      recent.set(key, proposalId);
      for (const oldest of kept.slice(0, Math.max(0, kept.length - size))) recent.delete(oldest);
    },
  };
}

/** The one of a signature and its twin that has the smaller s. */
export function canonical(signature: Uint8Array): Uint8Array {
  const order = GROUP_ORDERS[signature.length];
  if (order === undefined) return signature;
  const half = signature.length / 2;
  const s = BigInt(`0x${toHex(signature.subarray(half))}`);
  if (s * 2n <= order) return signature;
  const twin = Buffer.from(signature);
  twin.write((order - s).toString(16).padStart(half * 2, "0"), half, "hex");
  return twin;
}

function stale(code: Extract<Freshness, { fresh: false }>["code"], message: string): Freshness {
  return { fresh: false, code, message };
}
