/**
 * Verifies a ledger without any secret and without trusting who stored it.
 *
 * Entries go in one by one, from seqno 1. Each must be well formed and follow the one before; its leaf goes into a Merkle
 * tree of our own. Governance tables say who the service and its nodes are, and each node certificate must be signed by
 * the service. Every signature transaction must then fit: signed root and stored tree are those of our tree, the node's
 * signature is by a node that was trusted at that point, the service's by the service's key. What lies after the last
 * signature is well formed but vouched for by nobody, and is counted apart.
 *
 * These are the checks of CCF's own verifier at its FULL level (`python/src/ccf/ledger.py`; reference
 * ccf-ledger-format.md 15.2) and some that it leaves out: the tree table, the node certificates' issuer, dense seqnos,
 * views that never fall, the TxID inside the service signature, and that a service's key changes only with a new service.
 * Not covered: who was admitted as a node and why, private writes, and whether the ledger was cut off at a signature: the
 * report's `verifiedUntil` and `service.id` must be compared with what the reader knows from elsewhere.
 *
 * Neutral. Pure; signatures are checked in OpenSSL's thread pool while hashing goes on.
 */
import { type KeyObject, X509Certificate } from "node:crypto";
import { equal, fromUtf8, toHex, view as viewOf, ZERO_KEY } from "../bytes.ts";
import { Fault } from "../check.ts";
import { algorithmFor } from "../crypto/cose.ts";
import { spkiDigest, verifyRoot } from "../crypto/keys.ts";
import { formatTxId, isId, type NodeId, type Seqno, type TxId, type View } from "../ids.ts";
import { type PublicEntry, readPublic } from "./entry.ts";
import { MerkleTree } from "./merkle.ts";
import { decodeCoseSignatureRow, decodeRawSignature, verifyLedgerSignature } from "./signature.ts";
import { keyBytes, keyText } from "./write-set.ts";

export type VerifyFault = {
  code:
    | "EntryInvalid"
    | "SeqnoNotDense"
    | "ViewWentBack"
    | "NodeInvalid"
    | "ServiceInvalid"
    | "TreeWrong"
    | "SignatureInvalid";
  /** Of the entry that is wrong. */
  seqno: Seqno;
};

export type VerifyReport = Readonly<{
  /** Entries read, the unverified tail included. */
  entries: number;
  /** Signature transactions, all good. */
  signatures: number;
  /** The last signature transaction: everything up to it is verified. Undefined if there is none. */
  verifiedUntil: TxId | undefined;
  /** Entries after it. */
  unverifiedTail: number;
  last: TxId | undefined;
  /** Hex Merkle root that the last signature is over. */
  root: string | undefined;
  /** `id`: hex SHA-256 of the DER SubjectPublicKeyInfo of the service's key. */
  service: Readonly<{ id: string; status: string; certificatePem: string }> | undefined;
  /** Ids of all services in this ledger, oldest first: more than one after a disaster recovery. */
  serviceIds: readonly string[];
  nodes: readonly Readonly<{ id: NodeId; status: string }>[];
}>;

type Service = { status: string; certificatePem: string; key: KeyObject; id: string };
type Node = { status?: string; certificate?: X509Certificate };
type Row = Uint8Array | undefined;

const MAP = {
  nodes: "public:ccf.gov.nodes.info",
  certificates: "public:ccf.gov.nodes.endorsed_certificates",
  service: "public:ccf.gov.service.info",
  tree: "public:ccf.internal.tree",
  node: "public:ccf.internal.signatures",
  cose: "public:ccf.internal.cose_signatures",
} as const;
const SIGNATURE_MAPS: ReadonlySet<string> = new Set([MAP.tree, MAP.node, MAP.cose]);
const ONE_ROW = keyText(ZERO_KEY);
const NODE_STATUS: ReadonlySet<unknown> = new Set(["Pending", "Trusted", "Retired"]);

/** What a service's status may turn into, besides staying as it is and beginning anew with `Opening`. */
const SERVICE_NEXT: Readonly<Record<string, readonly string[]>> = {
  Opening: ["Open", "WaitingForRecoveryShares"],
  Recovering: ["WaitingForRecoveryShares"],
  WaitingForRecoveryShares: ["Open"],
  Open: ["Recovering"],
};

/** Signature checks that may be under way at once: enough for the thread pool, few enough to hold in memory. */
const CHECKS_MAX = 16;

export class LedgerVerifier {
  readonly #tree = new MerkleTree();
  readonly #nodes = new Map<NodeId, Node>();
  readonly #serviceIds: string[] = [];
  #service: Service | undefined;
  #last: TxId | undefined;
  #signatures = 0;
  #signed: { txId: TxId; root: string } | undefined;
  /** Signature checks under way, oldest first; each ends in what is wrong, if anything, and never rejects. */
  #checks: Promise<Error | undefined>[] = [];

  /**
   * Takes the next entry. A signature that does not verify may show a few entries later; the fault names the entry that
   * is wrong, and it is the first one that is. After a fault the verifier is done.
   * @throws Fault<VerifyFault>
   */
  async add(entry: Uint8Array): Promise<void> {
    try {
      this.#take(entry);
    } catch (error) {
      // A signature before this entry may be wrong too, and then that is the first fault.
      await this.#settle(0);
      throw error;
    }
    if (this.#checks.length > CHECKS_MAX) await this.#settle(CHECKS_MAX / 2);
  }

  /** Waits for the last signatures. @throws Fault<VerifyFault> */
  async finish(): Promise<VerifyReport> {
    await this.#settle(0);
    const entries = this.#last?.seqno ?? 0;
    const { certificatePem, id, status } = this.#service ?? {};
    return {
      entries,
      signatures: this.#signatures,
      verifiedUntil: this.#signed?.txId,
      unverifiedTail: entries - (this.#signed?.txId.seqno ?? 0),
      last: this.#last,
      root: this.#signed?.root,
      service:
        certificatePem === undefined || id === undefined || status === undefined
          ? undefined
          : { id, status, certificatePem },
      serviceIds: this.#serviceIds,
      nodes: [...this.#nodes].map(([nodeId, node]) => ({ id: nodeId, status: node.status ?? "Unknown" })),
    };
  }

  #take(bytes: Uint8Array): void {
    const due = (this.#last?.seqno ?? 0) + 1;
    let entry: PublicEntry;
    try {
      entry = readPublic(bytes);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      throw invalid("EntryInvalid", due, error.message, error);
    }
    const { seqno, view } = entry;
    if (seqno !== due)
      throw invalid(
        "SeqnoNotDense",
        due,
        `entry ${view}.${seqno} is in the place of seqno ${due}; a ledger begins at 1 and has no gaps`,
      );
    if (view < (this.#last?.view ?? 1))
      throw invalid("ViewWentBack", seqno, `entry ${view}.${seqno} follows one of view ${this.#last?.view}`);

    // The service first: in the first transaction it endorses the certificate of its first node.
    this.#readService(entry);
    this.#readNodes(entry);
    this.#readCertificates(entry);
    if ([...entry.writes.keys()].some((name) => SIGNATURE_MAPS.has(name))) this.#readSignature(entry);
    this.#tree.append(entry.leaf);
    this.#last = { view, seqno };
  }

  #readService(entry: PublicEntry): void {
    const map = entry.writes.get(MAP.service);
    if (map === undefined) return;
    const { seqno } = entry;
    const row = only(map);
    if (row === undefined)
      throw invalid("ServiceInvalid", seqno, "the service's row is removed, or is under another key");
    const { status, cert } = jsonObject(row, "ServiceInvalid", seqno);
    if (typeof status !== "string" || typeof cert !== "string" || !Object.hasOwn(SERVICE_NEXT, status))
      throw invalid("ServiceInvalid", seqno, "the service's row lacks a known status or its certificate");
    const key = certificateOf(cert, "ServiceInvalid", seqno).publicKey;
    const id = spkiDigest(key);
    const before = this.#service;
    if (before !== undefined) {
      if (status !== before.status && status !== "Opening" && !SERVICE_NEXT[before.status]?.includes(status))
        throw invalid("ServiceInvalid", seqno, `the service turns from ${before.status} into ${status}`);
      const begins = status === "Opening" || status === "Recovering";
      if (id !== before.id && !begins)
        throw invalid("ServiceInvalid", seqno, "the service's key changes although no new service begins");
    }
    if (id !== before?.id) this.#serviceIds.push(id);
    this.#service = { status, certificatePem: cert, key, id };
  }

  #readNodes(entry: PublicEntry): void {
    for (const [key, row] of entry.writes.get(MAP.nodes) ?? []) {
      const id = nodeId(key, entry.seqno);
      if (row === undefined) {
        this.#nodes.delete(id);
        continue;
      }
      const { status } = jsonObject(row, "NodeInvalid", entry.seqno);
      if (typeof status !== "string" || !NODE_STATUS.has(status))
        throw invalid("NodeInvalid", entry.seqno, `node ${id} has no known status`);
      this.#nodes.set(id, { ...this.#nodes.get(id), status });
    }
  }

  #readCertificates(entry: PublicEntry): void {
    const { seqno } = entry;
    for (const [key, row] of entry.writes.get(MAP.certificates) ?? []) {
      const id = nodeId(key, seqno);
      const { certificate: _, ...node } = this.#nodes.get(id) ?? {};
      if (row === undefined) {
        // A node that is removed loses both rows in one transaction.
        if (this.#nodes.has(id)) this.#nodes.set(id, node);
        continue;
      }
      const certificate = certificateOf(text(row, "NodeInvalid", seqno), "NodeInvalid", seqno);
      if (spkiDigest(certificate.publicKey) !== id)
        throw invalid("NodeInvalid", seqno, `the certificate of node ${id} is for another key`);
      if (this.#service === undefined || !certificate.verify(this.#service.key))
        throw invalid("NodeInvalid", seqno, `the certificate of node ${id} is not signed by the service`);
      this.#nodes.set(id, { ...node, certificate });
    }
  }

  #readSignature(entry: PublicEntry): void {
    const { seqno, view, writes } = entry;
    const wrong = (why: string) => invalid("SignatureInvalid", seqno, why);
    const tree = writes.get(MAP.tree);
    const nodeMap = writes.get(MAP.node);
    const coseMap = writes.get(MAP.cose);
    if (tree === undefined || (nodeMap === undefined && coseMap === undefined))
      throw wrong("a signature transaction has the tree and at least one signature");
    if (entry.hasPrivate || [...writes.keys()].some((name) => !SIGNATURE_MAPS.has(name)))
      throw wrong("a signature transaction writes something else as well");
    if (seqno === 1) throw wrong("the first entry is a signature, with nothing to sign");

    const root = this.#tree.root();
    this.#checkTree(only(tree), root, seqno);
    const checks: Promise<string | undefined>[] = [];
    if (nodeMap !== undefined) checks.push(this.#checkNode(only(nodeMap), root, view, seqno));
    if (coseMap !== undefined) checks.push(this.#checkService(only(coseMap), root, { view, seqno }));
    this.#checks.push(this.#outcome(Promise.all(checks), { view, seqno }, toHex(root)));
    // Later signatures need only the roots from here on.
    this.#tree.flush(this.#tree.size - 1);
  }

  async #outcome(checks: Promise<(string | undefined)[]>, txId: TxId, root: string): Promise<Error | undefined> {
    try {
      const why = (await checks).find((one) => one !== undefined);
      if (why !== undefined) return invalid("SignatureInvalid", txId.seqno, why);
    } catch (error) {
      return error instanceof Error ? error : new Error("a signature check ended in something else", { cause: error });
    }
    this.#signatures++;
    // Checks may end out of order; what is reported is read only after all of them.
    if (txId.seqno > (this.#signed?.txId.seqno ?? 0)) this.#signed = { txId, root };
    return undefined;
  }

  #checkTree(row: Row, root: Uint8Array, seqno: Seqno): void {
    if (row === undefined) throw invalid("TreeWrong", seqno, "the tree's row is removed, or is under another key");
    let stored: MerkleTree;
    try {
      stored = MerkleTree.deserialise(row);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      throw invalid("TreeWrong", seqno, error.message, error);
    }
    if (stored.size !== seqno)
      throw invalid("TreeWrong", seqno, `the stored tree has ${stored.size} leaves where it must have ${seqno}`);
    if (!equal(stored.root(), root))
      throw invalid("TreeWrong", seqno, "the stored tree is not that of the entries before it");
  }

  #checkNode(row: Row, root: Uint8Array, view: View, seqno: Seqno): Promise<string | undefined> {
    const wrong = (why: string) => invalid("SignatureInvalid", seqno, why);
    if (row === undefined) throw wrong("the node signature's row is removed, or is under another key");
    const signature = understood(() => decodeRawSignature(row), seqno);
    if (signature.seqno !== seqno || signature.view !== view)
      throw wrong(`the node signature says that it is for ${signature.view}.${signature.seqno}`);
    if (signature.root !== toHex(root)) throw wrong("the node signed another root than that of the entries before it");
    const node = this.#nodes.get(signature.node);
    if (node?.certificate === undefined || node.status === undefined || node.status === "Pending")
      throw wrong(`node ${signature.node} signs and is not trusted at this point`);
    const { publicKey } = node.certificate;
    if (signature.certificate !== undefined) {
      const shown = certificateOf(signature.certificate, "SignatureInvalid", seqno);
      if (!shown.publicKey.equals(publicKey))
        throw wrong("the certificate beside the node signature is for another key");
    }
    return verifyRoot(this.#tree.rootPreimage(), signature.signature, publicKey).then((good) =>
      good ? undefined : `the signature of node ${signature.node} does not verify`,
    );
  }

  #checkService(row: Row, root: Uint8Array, txId: TxId): Promise<string | undefined> {
    const wrong = (why: string) => invalid("SignatureInvalid", txId.seqno, why);
    if (row === undefined) throw wrong("the service signature's row is removed, or is under another key");
    const cose = understood(() => decodeCoseSignatureRow(row), txId.seqno);
    if (this.#service === undefined) throw wrong("the service signs before anything says who it is");
    return verifyLedgerSignature(cose, root, this.#service.key, txId);
  }

  /** Waits until at most `left` checks are under way. @throws Fault<VerifyFault>, the first one in the order of the ledger */
  async #settle(left: number): Promise<void> {
    while (this.#checks.length > left) {
      const fault = await this.#checks.shift();
      if (fault !== undefined) throw fault;
    }
  }
}

/** Verifies a whole ledger. @throws Fault<VerifyFault> */
export async function verifyLedger(entries: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<VerifyReport> {
  const verifier = new LedgerVerifier();
  for await (const entry of entries) await verifier.add(entry);
  return verifier.finish();
}

/** One line that says what a report says. */
export function describeReport(report: VerifyReport): string {
  const until = report.verifiedUntil === undefined ? "nothing" : formatTxId(report.verifiedUntil);
  const tail = report.unverifiedTail > 0 ? `, ${report.unverifiedTail} entries after that are not signed` : "";
  return `${report.entries} entries, ${report.signatures} signatures, verified until ${until}${tail}`;
}

/** The row of a table that has one. Undefined if it is removed or if there are others. */
function only(map: ReadonlyMap<string, Row>): Row {
  return map.size === 1 ? map.get(ONE_ROW) : undefined;
}

function nodeId(key: string, seqno: Seqno): NodeId {
  const id = viewOf(keyBytes(key)).toString("latin1");
  if (!isId(id)) throw invalid("NodeInvalid", seqno, "a node's id is not 64 hex digits");
  return id;
}

function text(row: Uint8Array, code: VerifyFault["code"], seqno: Seqno): string {
  try {
    return fromUtf8(row);
  } catch (error) {
    throw invalid(code, seqno, "a row that must be text is not UTF-8", error);
  }
}

function jsonObject(row: Uint8Array, code: VerifyFault["code"], seqno: Seqno): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text(row, code, seqno));
  } catch (error) {
    throw invalid(code, seqno, "a row that must be JSON is not", error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid(code, seqno, "a row that must be a JSON object is not");
  return value as Record<string, unknown>;
}

/** A certificate whose key can sign here. */
function certificateOf(pem: string, code: VerifyFault["code"], seqno: Seqno): X509Certificate {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
    algorithmFor(certificate.publicKey);
  } catch (error) {
    throw invalid(code, seqno, "a certificate cannot be read, or its key is not on P-256, P-384 or P-521", error);
  }
  return certificate;
}

function understood<T>(decode: () => T, seqno: Seqno): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw invalid("SignatureInvalid", seqno, error.message, error);
  }
}

function invalid(code: VerifyFault["code"], seqno: Seqno, why: string, cause?: unknown): Fault<VerifyFault> {
  return new Fault<VerifyFault>({ code, seqno }, `entry ${seqno}: ${why}`, { cause });
}
