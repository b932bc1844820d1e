/**
 * What an accepted proposal does to the service: `Operations`, on this node.
 *
 * Trusted.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import { toBase64 } from "../../../protocol/bytes.ts";
import { Fault, present } from "../../../protocol/check.ts";
import { spkiDer } from "../../../protocol/crypto/keys.ts";
import { endorse, parseValidFrom, readCsr } from "../../../protocol/crypto/x509.ts";
import type { Seqno } from "../../../protocol/ids.ts";
import { identityEndorsement } from "../../../protocol/ledger/signature.ts";
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
      setOne(
        tx,
        TABLES.identityEndorsement,
        selfEndorsement(parts.service.key, info.current_service_create_txid, parts.nowMs()),
      );
    },

    endorseCertificate(tx, csrPem, validFrom, days) {
      const maximum = getOne(tx, TABLES.serviceConfig)?.maximum_node_certificate_validity_days ?? MAXIMUM_DAYS_DEFAULT;
      if (!Number.isInteger(days) || days < 1 || days > maximum)
        throw refused("ValidityInvalid", `a node certificate is valid for 1 to ${maximum} days, not ${days}`);
      return endorse({
        csr: readCsr(csrPem),
        issuerCertificatePem: parts.service.certificate,
        issuerKey: parts.service.key,
        validFrom: parseValidFrom(validFrom),
        days,
      });
    },

    latestLedgerSecretSeqno(): Seqno {
      return parts.secrets.latest().from;
    },
  };
}

/** The first opening of a service: its key endorses itself, from its creation on. */
function selfEndorsement(key: KeyObject, createTxId: string | undefined, nowMs: number) {
  const publicKey = spkiDer(createPublicKey(key));
  const begin = present(createTxId, "a service knows its creation");
  return {
    endorsement: toBase64(identityEndorsement({ key, endorsed: publicKey, begin, issuedAt: Math.floor(nowMs / 1000) })),
    endorsement_epoch_begin: begin,
    endorsing_key: toBase64(publicKey),
  };
}

function refused(code: OperationFault["code"], message: string): Fault<OperationFault> {
  return new Fault<OperationFault>({ code }, message);
}
