/**
 * What an accepted proposal does to the service: `Operations`, on this node.
 *
 * Trusted.
 */
import { toBase64 } from "../../../protocol/bytes.ts";
import { Fault, present } from "../../../protocol/check.ts";
import { spkiDer } from "../../../protocol/crypto/keys.ts";
import { parseValidFrom } from "../../../protocol/crypto/validity.ts";
import { endorse } from "../../../protocol/crypto/x509.ts";
import type { Seqno } from "../../../protocol/ids.ts";
import { selfEndorsement } from "../../../protocol/ledger/identity-endorsement.ts";
import { getOne, setOne } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { LedgerSecrets } from "../ledger/secrets.ts";
import type { ServiceIdentity } from "./identity.ts";
import type { OperationFault, Operations, Shares } from "./operations.ts";

export type OperationParts = Readonly<{
  ledger: Ledger;
  secrets: LedgerSecrets;
  service: ServiceIdentity;
  shares: Shares;
  nowMs(): number;
  /** Resolves when the next entry is complete, or is rolled back. */
  progress(): Promise<void>;
}>;

const MAXIMUM_DAYS_DEFAULT = 365;

export function serviceOperations(parts: OperationParts): Operations {
  return {
    async rootAt(version) {
      for (;;) {
        const root = parts.ledger.rootAt(version);
        if (root !== undefined) return root;
        await parts.progress();
      }
    },

    transitionServiceToOpen(tx, _previousIdentityPem, nextIdentityPem) {
      const info = present(getOne(tx, TABLES.serviceInfo), "a service has a service.info row");
      if (info.status === "Open" || info.status === "WaitingForRecoveryShares") return;
      if (info.status !== "Opening") throw refused("ServiceStateWrong", `the service is ${info.status}`);
      if (nextIdentityPem !== info.cert)
        throw refused(
          "ServiceIdentityMismatch",
          "next_service_identity is not this service's certificate; take it as it is from GET /node/network",
        );
      const { from, secret } = parts.secrets.latest();
      parts.shares.issue(tx, secret.export());
      setOne(tx, TABLES.historicalSecret, { next_version: from });
      setOne(tx, TABLES.serviceInfo, { ...info, status: "Open" });
      const { key } = parts.service;
      const begin = present(info.current_service_create_txid, "a service knows its creation");
      setOne(tx, TABLES.identityEndorsement, {
        endorsement: toBase64(selfEndorsement({ key, begin, issuedAt: Math.floor(parts.nowMs() / 1000) })),
        endorsement_epoch_begin: begin,
        endorsing_key: toBase64(spkiDer(key)),
      });
    },

    endorseCertificate(tx, csrPem, validFrom, days) {
      const maximum = getOne(tx, TABLES.serviceConfig)?.maximum_node_certificate_validity_days ?? MAXIMUM_DAYS_DEFAULT;
      if (!Number.isInteger(days) || days < 1 || days > maximum)
        throw refused("ValidityInvalid", `a node certificate is valid for 1 to ${maximum} days, not ${days}`);
      return endorse({
        csr: csrPem,
        issuerCertificatePem: parts.service.certificate,
        issuerKey: parts.service.key,
        validFrom: parseValidFrom(validFrom),
        days,
      });
    },

    refreshRecoveryShares(tx) {
      parts.shares.issue(tx, parts.secrets.latest().secret.export());
    },

    latestLedgerSecretSeqno(): Seqno {
      return parts.secrets.latest().from;
    },
  };
}

function refused(code: OperationFault["code"], message: string): Fault<OperationFault> {
  return new Fault<OperationFault>({ code }, message);
}
