/**
 * Signature transactions: made by the leader, checked by backups.
 *
 * Dual mode, as CCF 7.0's default: the node signs the Merkle root (ECDSA over the root as prehash), and the service
 * identity signs it in a COSE_Sign1. The leader makes the first in OpenSSL's thread pool while it makes the second itself:
 * as soon as two threads could, with half of the wake-ups, each of which costs a good part of a signature. A backup has
 * nothing better to do than to check both itself, while its host writes.
 *
 * Trusted.
 */
import type { KeyObject } from "node:crypto";
import { fromBase64, toBase64, toHex, ZERO_KEY } from "../../../protocol/bytes.ts";
import { signRoot, verifyRootSync } from "../../../protocol/crypto/keys.ts";
import type { NodeId, View } from "../../../protocol/ids.ts";
import { ledgerSignature, verifyLedgerSignatureSync } from "../../../protocol/ledger/signature.ts";
import { keyText, type WriteSet } from "../../../protocol/ledger/write-set.ts";
import { TABLES } from "../kv/tables.ts";
import type { Signable } from "./ledger.ts";

export type Signer = Readonly<{
  node: NodeId;
  nodeKey: KeyObject;
  /** PEM of the service-endorsed certificate of this node. */
  nodeCertificate: string;
  serviceKey: KeyObject;
  issuer: string;
  subject: string;
}>;

const ONE_ROW = keyText(ZERO_KEY);
const NO_NONCE = "0".repeat(64);

/** What a signature transaction writes. */
export async function sign(signable: Signable, view: View, by: Signer, nowMs: number): Promise<WriteSet> {
  const { seqno, root } = signable;
  const raw = signRoot(signable.preimage, by.nodeKey);
  const cose = ledgerSignature({
    root,
    txId: { view, seqno },
    key: by.serviceKey,
    issuer: by.issuer,
    subject: by.subject,
    issuedAt: Math.floor(nowMs / 1000),
  });
  const signature = TABLES.signatures.value.encode({
    cert: by.nodeCertificate,
    commit_seqno: 0,
    commit_view: 0,
    hashed_nonce: NO_NONCE,
    node: by.node,
    root: toHex(root),
    seqno,
    view,
    sig: toBase64(await raw),
  });
  return new Map([
    [TABLES.coseSignatures.name, row(TABLES.coseSignatures.value.encode(toBase64(cose)))],
    [TABLES.signatures.name, row(signature)],
    [TABLES.tree.name, row(signable.tree)],
  ]);
}

/** The keys that a signature must be made with. */
export type SignatureKeys = Readonly<{
  serviceKey: KeyObject;
  /** The key whose digest is this id, of a node that is not pending; undefined for any other. */
  nodeKey(node: NodeId): KeyObject | undefined;
}>;

/**
 * Checks both signatures of a received signature transaction against the tree of this node.
 * @returns what is wrong, or undefined.
 */
export function check(signable: Signable, view: View, writes: WriteSet, keys: SignatureKeys): string | undefined {
  const raw = writes.get(TABLES.signatures.name)?.get(ONE_ROW);
  const cose = writes.get(TABLES.coseSignatures.name)?.get(ONE_ROW);
  if (raw === undefined || cose === undefined) return "a signature transaction carries a node and a service signature";

  const signature = TABLES.signatures.value.decode(raw);
  if (signature.root !== toHex(signable.root)) return "the signed root is not the root of this node's ledger";
  if (signature.seqno !== signable.seqno || signature.view !== view) return "the signature is for another transaction";
  const nodeKey = keys.nodeKey(signature.node);
  if (nodeKey === undefined) return `node ${signature.node} may not sign`;

  if (!verifyRootSync(signable.preimage, fromBase64(signature.sig), nodeKey))
    return `the signature of node ${signature.node} does not verify`;
  const bytes = fromBase64(TABLES.coseSignatures.value.decode(cose));
  return verifyLedgerSignatureSync(bytes, signable.root, keys.serviceKey, { view, seqno: signable.seqno });
}

function row(value: Uint8Array): ReadonlyMap<string, Uint8Array> {
  return new Map([[ONE_ROW, value]]);
}
