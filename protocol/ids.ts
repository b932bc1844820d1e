/**
 * Names of things: nodes, members, users, transactions.
 *
 * Neutral. Pure.
 */
import { Fault } from "./check.ts";

/** Lower-case hex SHA-256 of the DER SubjectPublicKeyInfo of a node's identity key. */
export type NodeId = string;
/** Lower-case hex SHA-256 of the DER certificate. */
export type MemberId = string;
/** Lower-case hex SHA-256 of the DER certificate. */
export type UserId = string;
/** Index of a ledger entry; the first is 1. */
export type Seqno = number;
/** Consensus term; the first of a new service is 2. */
export type View = number;

export type TxId = Readonly<{ view: View; seqno: Seqno }>;
export type TxIdFault = { code: "TxIdMalformed" };

/** What a node knows of a transaction. `Committed` and `Invalid` are final. */
export type TxStatus = "Unknown" | "Pending" | "Committed" | "Invalid";

export function formatTxId(id: TxId): string {
  return `${id.view}.${id.seqno}`;
}

const TX_ID = /^(0|[1-9]\d{0,15})\.(0|[1-9]\d{0,15})$/;

/** Parses `<view>.<seqno>`, decimal, without padding. @throws Fault `TxIdMalformed` */
export function parseTxId(text: string): TxId {
  const match = TX_ID.exec(text);
  const view = Number(match?.[1]);
  const seqno = Number(match?.[2]);
  if (!Number.isSafeInteger(view) || !Number.isSafeInteger(seqno))
    throw new Fault<TxIdFault>({ code: "TxIdMalformed" }, "a transaction id looks like 2.17: <view>.<seqno>");
  return { view, seqno };
}

const ID = /^[0-9a-f]{64}$/;

/** True for 64 lower-case hex digits, the form of every id here. */
export function isId(text: string): boolean {
  return ID.test(text);
}
