/**
 * What an accepted proposal may do to the node and the service, beyond writing tables.
 *
 * The constitution reaches these as `ccf.node.*` and `ccf.network.*`. Everything happens in the proposal's own
 * transaction: a proposal that fails leaves nothing behind.
 *
 * Trusted.
 */
import type { Seqno } from "../../../protocol/ids.ts";
import type { Tx } from "../kv/tx.ts";

export type OperationFault = {
  code:
    | "ServiceIdentityMismatch"
    | "ServiceStateWrong"
    | "RecoverySharesImpossible"
    | "CertificateRequestInvalid"
    | "ValidityInvalid";
};

export interface Operations {
  /** Merkle root over every entry up to the version a transaction reads; waits while that version is being signed. */
  rootAt(version: Seqno): Promise<Uint8Array>;
  /** @throws Fault<OperationFault> */
  transitionServiceToOpen(tx: Tx, previousIdentityPem: string | undefined, nextIdentityPem: string): void;
  /**
   * A certificate for a node, signed by the service. `validFrom` in any of CCF's forms; `days` whole days.
   * @throws Fault<OperationFault>
   */
  endorseCertificate(tx: Tx, csrPem: string, validFrom: string, days: number): string;
  /**
   * Issues new recovery shares of the current ledger secret, after the members who hold shares have changed.
   * @throws Fault<OperationFault>
   */
  refreshRecoveryShares(tx: Tx): void;
  /** Seqno from which the current ledger secret is valid. */
  latestLedgerSecretSeqno(tx: Tx): Seqno;
}

/** Recovery shares, issued whenever the ledger secret or the members who hold shares change. Supplied by governance. */
export interface Shares {
  /**
   * Splits a fresh wrapping key among the active recovery members and writes the shares.
   * @throws Fault<OperationFault> `RecoverySharesImpossible` when the threshold cannot be met
   */
  issue(tx: Tx, ledgerSecret: Uint8Array): void;
}
