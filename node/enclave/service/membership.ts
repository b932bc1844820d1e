/**
 * What a node has once a service trusts it: the service's identity and secrets, the ledger, its replica.
 *
 * A founder makes them; a joiner is given them. From here on the two are the same.
 *
 * Trusted.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import { spkiDigest } from "../../../protocol/crypto/keys.ts";
import type { NodeId, Seqno, View } from "../../../protocol/ids.ts";
import type { EnclaveConfig } from "../../boundary/config.ts";
import type { Configuration, Core, Role } from "../consensus/core.ts";
import { getOne, open } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import { Tx } from "../kv/tx.ts";
import { Ledger } from "../ledger/ledger.ts";
import type { LedgerSecrets } from "../ledger/secrets.ts";
import type { NodeIdentity, ServiceIdentity } from "./identity.ts";
import { type HostLedger, Replica } from "./replica.ts";

export type MembershipParts = Readonly<{
  config: EnclaveConfig;
  identity: NodeIdentity;
  service: ServiceIdentity;
  secrets: LedgerSecrets;
  /** PEM of this node's service-endorsed certificate. */
  nodeCertificate: string;
  coseSignatures: Readonly<{ issuer: string; subject: string }>;
  core: Core;
  host: HostLedger;
  send(to: NodeId, message: readonly Uint8Array[]): boolean;
  setPeers(peers: Configuration): void;
  nowMs(): number;
  onRole(role: Role, view: View, leader: NodeId | undefined): void;
  halt(reason: string): void;
}>;

export class Membership {
  readonly ledger: Ledger;
  readonly replica: Replica;
  readonly service: ServiceIdentity;
  readonly secrets: LedgerSecrets;
  readonly coseSignatures: MembershipParts["coseSignatures"];
  readonly #id: NodeId;
  #nodeCertificate: string;
  readonly #nodeKeys = new Map<NodeId, KeyObject>();
  readonly #committedHandlers: ((seqno: Seqno) => void)[] = [];
  #progress: (() => void)[] = [];

  constructor(parts: MembershipParts) {
    const { config, identity, service } = parts;
    this.service = service;
    this.secrets = parts.secrets;
    this.coseSignatures = parts.coseSignatures;
    this.#id = identity.id;
    this.#nodeCertificate = parts.nodeCertificate;
    this.ledger = new Ledger(parts.secrets, config.ledger_chunk_size);
    const serviceKey = createPublicKey(service.key);
    this.replica = new Replica({
      ledger: this.ledger,
      core: parts.core,
      host: parts.host,
      send: parts.send,
      setPeers: parts.setPeers,
      signer: () => ({
        node: identity.id,
        nodeKey: identity.key,
        nodeCertificate: this.#nodeCertificate,
        serviceKey: service.key,
        issuer: parts.coseSignatures.issuer,
        subject: parts.coseSignatures.subject,
      }),
      signatureKeys: { serviceKey, nodeKey: (node) => this.#signingKey(node) },
      nowMs: parts.nowMs,
      onRole: parts.onRole,
      onCommit: (seqno) => {
        for (const handler of this.#committedHandlers) handler(seqno);
      },
      onProgress: () => this.#progressed(),
      halt: parts.halt,
      signatureTxCount: config.ledger_signatures.tx_count,
      signatureDelayMs: config.ledger_signatures.delay,
      maxUncommitted: config.consensus.max_uncommitted_tx_count,
    });
  }

  get nodeCertificate(): string {
    return this.#nodeCertificate;
  }

  /** Calls `handler` after every commit, in the order of registration. */
  onCommit(handler: (seqno: Seqno) => void): void {
    this.#committedHandlers.push(handler);
  }

  /** Resolves at the next change of the complete ledger. */
  progress(): Promise<void> {
    return new Promise((resolve) => this.#progress.push(resolve));
  }

  /** The certificate that the committed state holds for this node, where it is newer than the one in use. */
  renewCertificate(): string | undefined {
    const endorsed = open(this.replica.readCommitted(), TABLES.nodeCertificates).get(this.#id);
    if (endorsed === undefined || endorsed === this.#nodeCertificate) return undefined;
    this.#nodeCertificate = endorsed;
    return endorsed;
  }

  /** PEM of the service certificate in force: renewed by governance, the key stays. */
  serviceCertificate(): string {
    return getOne(this.replica.read(), TABLES.serviceInfo)?.cert ?? this.service.certificate;
  }

  /**
   * False for nodes that are retired for good. Any other may talk to this one, also if its row says Pending or there is
   * none: whoever is behind, as a joiner that reads the ledger from its beginning, does not know yet that the service has
   * trusted it since, and may need it to learn that. It has shown evidence, and a certificate that the service gives to
   * nodes it trusts.
   */
  isPeer(node: NodeId): boolean {
    if (this.ledger.departed.has(node)) return false;
    const info = open(this.replica.read(), TABLES.nodeInfo).get(node);
    return info?.status !== "Retired" || info.retired_committed !== true;
  }

  /** A pending node has no right to sign; a retired one may still have to, until its retirement is committed. */
  #signingKey(node: NodeId): KeyObject | undefined {
    const info = open(new Tx(this.ledger.store), TABLES.nodeInfo).get(node);
    if (info?.public_key === undefined || info.status === "Pending") return undefined;
    let key = this.#nodeKeys.get(node);
    if (key === undefined) {
      key = createPublicKey(info.public_key);
      // An id is the digest of its key, so what was once right stays right.
      if (spkiDigest(key) !== node) return undefined;
      this.#nodeKeys.set(node, key);
    }
    return key;
  }

  #progressed(): void {
    const waiting = this.#progress;
    this.#progress = [];
    for (const resume of waiting) resume();
  }
}
