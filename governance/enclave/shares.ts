/**
 * Recovery shares: who could bring the service back from its ledger, and how many of them it takes.
 *
 * Whenever shares are issued, a fresh wrapping key seals the ledger secret and is split among the active members with a
 * recovery key: each Participant gets one share, in the order of their ids, each Owner the whole key. Everything lies
 * encrypted in a public table, so that recovery needs the ledger and the members and nothing else. Shares of an earlier
 * wrapping key open only what was sealed under it.
 *
 * Formats are CCF's (reference ccf-ledger-format.md 12.1, 12.2).
 *
 * Trusted. Pure, but for the randomness of keys.
 */
import { constants, publicEncrypt } from "node:crypto";
import { getOne, open, setOne } from "../../node/enclave/kv/table.ts";
import { type RecoveryRole, TABLES } from "../../node/enclave/kv/tables.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { OperationFault, Shares } from "../../node/enclave/service/operations.ts";
import { toBase64 } from "../../protocol/bytes.ts";
import { Fault, present } from "../../protocol/check.ts";
import {
  SHARES_MAX,
  type Share,
  serialiseShare,
  splitSecret,
  wrapLedgerSecret,
  wrappingKey,
} from "../../protocol/crypto/sharing.ts";
import type { MemberId } from "../../protocol/ids.ts";

type Holder = Readonly<{ id: MemberId; encryptionKey: string }>;

export function createShares(): Shares {
  return { issue };
}

/** The part that a member takes in recovery. */
export function recoveryRole(tx: Tx, id: MemberId): RecoveryRole {
  if (!open(tx, TABLES.memberEncryptionKeys).has(id)) return "NonParticipant";
  return open(tx, TABLES.memberInfo).get(id)?.recovery_role ?? "Participant";
}

function issue(tx: Tx, ledgerSecret: Uint8Array): void {
  const participants = activeHolders(tx, "Participant");
  const owners = activeHolders(tx, "Owner");
  const threshold = present(getOne(tx, TABLES.serviceConfig), "a service has a configuration").recovery_threshold;
  checkThreshold(threshold, participants.length, owners.length);

  // With owners alone there is nobody to split for; the one share that arises is given to nobody.
  const { secret, shares } = splitSecret(threshold, Math.max(participants.length, 1));
  const encrypted: Record<MemberId, string> = {};
  for (const [i, holder] of participants.entries())
    encrypted[holder.id] = encryptShare(present(shares[i], "there is a share for each participant"), holder);
  for (const holder of owners) encrypted[holder.id] = encryptShare(secret, holder);
  setOne(tx, TABLES.recoveryShares, {
    encrypted_shares: encrypted,
    wrapped_latest_ledger_secret: toBase64(wrapLedgerSecret(ledgerSecret, wrappingKey(secret))),
  });
}

function activeHolders(tx: Tx, role: RecoveryRole): Holder[] {
  const holders: Holder[] = [];
  open(tx, TABLES.memberEncryptionKeys).forEach((id, encryptionKey) => {
    const active = open(tx, TABLES.memberInfo).get(id)?.status === "Active";
    if (active && recoveryRole(tx, id) === role) holders.push({ id, encryptionKey });
  });
  return holders;
}

function checkThreshold(threshold: number, participants: number, owners: number): void {
  if (participants === 0 && owners === 0)
    throw impossible("no active member has a recovery key, so nobody could recover this service");
  const maximum = participants > 0 ? participants : 1;
  if (threshold < 1 || threshold > maximum)
    throw impossible(
      `the recovery threshold is ${threshold}, but with ${participants} active members that hold a share it can be 1 to ` +
        `${maximum}; more members have to be active, or the threshold changed`,
    );
  if (participants > SHARES_MAX) throw impossible(`at most ${SHARES_MAX} members can hold a share`);
}

function encryptShare(share: Share, { id, encryptionKey }: Holder): string {
  try {
    const key = { key: encryptionKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" };
    return toBase64(publicEncrypt(key, serialiseShare(share)));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw impossible(`the encryption key of member ${id} is not an RSA public key that a share can be encrypted to`);
  }
}

function impossible(message: string): Fault<OperationFault> {
  return new Fault<OperationFault>({ code: "RecoverySharesImpossible" }, message);
}
