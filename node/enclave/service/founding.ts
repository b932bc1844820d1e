/**
 * Founding a service: its identity, its first ledger secret, its first transaction.
 *
 * Trusted.
 */
import type { Claims, QuoteInfo } from "../../../protocol/attestation/evidence.ts";
import { endorse } from "../../../protocol/crypto/x509.ts";
import { LedgerSecret } from "../../../protocol/ledger/entry.ts";
import type { CoreOptions } from "../consensus/core.ts";
import { createRaft } from "../consensus/raft.ts";
import { LedgerSecrets } from "../ledger/secrets.ts";
import { type StartCommand, writeGenesis } from "./genesis.ts";
import { createServiceIdentity } from "./identity.ts";
import { Membership, type MembershipParts } from "./membership.ts";

/** The first view of a new service. */
const FIRST_VIEW = 2;

export type FoundingParts = Omit<
  MembershipParts,
  "service" | "secrets" | "nodeCertificate" | "coseSignatures" | "core"
> &
  Readonly<{ coreOptions: CoreOptions; command: StartCommand; claims: Claims; quote: QuoteInfo }>;

/**
 * Founds the service and orders its genesis.
 * @param seated is called with the membership before the genesis is ordered, so that nothing of it is missed.
 * @throws Fault<GenesisFault> when the configuration contradicts itself
 */
export function found(parts: FoundingParts, seated: (membership: Membership) => void): void {
  const { command, config, identity } = parts;
  const now = new Date(parts.nowMs());
  const service = createServiceIdentity(
    command.service_subject_name,
    command.initial_service_certificate_validity_days,
    now,
  );
  const nodeCertificate = endorse({
    csr: identity.certificateRequest,
    issuerCertificatePem: service.certificate,
    issuerKey: service.key,
    validFrom: identity.validFrom,
    days: identity.validityDays,
  });
  const membership = new Membership({
    ...parts,
    service,
    secrets: new LedgerSecrets([{ from: 1, secret: LedgerSecret.generate() }]),
    nodeCertificate,
    coseSignatures: command.cose_signatures,
    core: createRaft(parts.coreOptions, { kind: "start", view: FIRST_VIEW }),
  });
  seated(membership);
  const tx = membership.replica.read();
  writeGenesis(tx, {
    config,
    command,
    txId: { view: FIRST_VIEW, seqno: 1 },
    service,
    node: identity,
    nodeCertificate,
    quote: parts.quote,
    claims: parts.claims,
  });
  membership.replica.submit(tx);
}
