/** A ledger as a node of ours writes it, made from the parts under test, entry by entry, so that a test can spoil any part. */
import type { KeyObject } from "node:crypto";
import { toBase64, toHex, utf8, ZERO_KEY } from "../../../../protocol/bytes.ts";
import { generateEcKey, signRoot, spkiDigest } from "../../../../protocol/crypto/keys.ts";
import { createCsr, endorse, selfSigned } from "../../../../protocol/crypto/x509.ts";
import { encodeEntry, LedgerSecret } from "../../../../protocol/ledger/entry.ts";
import { MerkleTree } from "../../../../protocol/ledger/merkle.ts";
import { encodeRawSignature, ledgerSignature } from "../../../../protocol/ledger/signature.ts";
import { keyText, type WriteSet } from "../../../../protocol/ledger/write-set.ts";

type Rows = Record<string, Uint8Array | undefined>;
export type Writes = Record<string, Rows>;

export const ROW = keyText(ZERO_KEY);
export const MAPS = {
  service: "public:ccf.gov.service.info",
  nodes: "public:ccf.gov.nodes.info",
  certificates: "public:ccf.gov.nodes.endorsed_certificates",
  tree: "public:ccf.internal.tree",
  node: "public:ccf.internal.signatures",
  cose: "public:ccf.internal.cose_signatures",
} as const;

const VALID_FROM = new Date("2026-01-01T00:00:00Z");

export type Party = { key: KeyObject; id: string; certificate: string };

export function newService(): Party {
  const key = generateEcKey("P-384").privateKey;
  const certificate = selfSigned({ subjectName: "CN=CCF Service", key, validFrom: VALID_FROM, days: 365 });
  return { key, id: spkiDigest(key), certificate };
}

export function newNode(service: Party): Party {
  const key = generateEcKey("P-384").privateKey;
  const csr = createCsr({ subjectName: "CN=CCF Node", sans: ["iPAddress:127.0.0.1"], key });
  const issuer = { issuerCertificatePem: service.certificate, issuerKey: service.key };
  return { key, id: spkiDigest(key), certificate: endorse({ csr, ...issuer, validFrom: VALID_FROM, days: 365 }) };
}

export class MadeLedger {
  readonly entries: Buffer[] = [];
  readonly tree = new MerkleTree();
  readonly secret = LedgerSecret.generate();
  service = newService();
  node = newNode(this.service);
  view = 2;

  get seqno(): number {
    return this.entries.length + 1;
  }

  /** The first transaction: service, one trusted node, its certificate. */
  genesis(status = "Opening"): this {
    return this.write({
      [MAPS.service]: { [ROW]: this.serviceRow(status) },
      [MAPS.nodes]: { [this.node.id]: utf8('{"status":"Trusted"}') },
      [MAPS.certificates]: { [this.node.id]: utf8(this.node.certificate) },
    });
  }

  serviceRow(status: string): Buffer {
    return utf8(JSON.stringify({ cert: this.service.certificate, status }));
  }

  write(writes: Writes, flags = 0): this {
    const { bytes, leaf } = encodeEntry({
      secret: this.secret,
      view: this.view,
      seqno: this.seqno,
      writes: asWriteSet(writes),
      flags,
    });
    this.entries.push(bytes);
    this.tree.append(leaf);
    return this;
  }

  log(message: string): this {
    return this.write({ log: { k: utf8(message) } });
  }

  /** The rows of a good signature transaction at this point. */
  async signature(): Promise<Writes> {
    const { view, seqno, tree, node, service } = this;
    const root = tree.root();
    const raw = await signRoot(tree.rootPreimage(), node.key);
    const txId = { view, seqno };
    const cose = ledgerSignature({ root, txId, key: service.key, issuer: "iss", subject: "sub", issuedAt: 1 });
    const row = { node: node.id, seqno, view, root: toHex(root), signature: raw, certificate: node.certificate };
    return {
      [MAPS.tree]: { [ROW]: tree.serialise(tree.flushed) },
      [MAPS.node]: { [ROW]: encodeRawSignature(row) },
      [MAPS.cose]: { [ROW]: utf8(JSON.stringify(toBase64(cose))) },
    };
  }

  async sign(change: (writes: Writes) => void = () => undefined, flags = 0): Promise<this> {
    const writes = await this.signature();
    change(writes);
    return this.write(writes, flags);
  }
}

export function asWriteSet(writes: Writes): WriteSet {
  return new Map(Object.entries(writes).map(([name, rows]) => [name, new Map(Object.entries(rows))]));
}
