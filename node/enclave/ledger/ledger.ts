/**
 * The ledger of this node: entries, the state they make, the Merkle tree over them.
 *
 * The leader appends what transactions wrote; a backup receives the leader's bytes. Both end in the same three places,
 * in the order of seqnos: store, tree, log. A signature transaction takes its seqno when signing begins and gets its
 * contents when signing is done, about a millisecond later; entries ordered meanwhile are complete except for their
 * place in the tree, and wait here.
 *
 * Consensus decides what is kept: `rollback` and `commit` do what it says.
 *
 * Trusted. Pure.
 */
import { assert, Fault, present } from "../../../protocol/check.ts";
import type { NodeId, Seqno, View } from "../../../protocol/ids.ts";
import { ENTRY_FLAGS, encodeEntry, openEntry } from "../../../protocol/ledger/entry.ts";
import { MerkleTree } from "../../../protocol/ledger/merkle.ts";
import type { WriteSet } from "../../../protocol/ledger/write-set.ts";
import type { EntryInfo } from "../consensus/core.ts";
import { Store } from "../kv/store.ts";
import { TABLES } from "../kv/tables.ts";
import type { TxFault } from "../kv/tx.ts";
import { consensusHooks, departingNodes } from "./hooks.ts";
import { Log } from "./log.ts";
import type { LedgerSecrets } from "./secrets.ts";

/** An entry in its final form and what consensus needs to know of it. */
export type Appended = Readonly<{ info: EntryInfo; bytes: Uint8Array }>;

/** What a signature transaction at `seqno` signs: the root over all leaves before it. */
export type Signable = Readonly<{
  seqno: Seqno;
  root: Uint8Array;
  /** The root's two children: the root is their SHA-256, which lets OpenSSL sign the root as a prehash. */
  preimage: Uint8Array;
  /** The tree from the last committed leaf on, for `public:ccf.internal.tree`. */
  tree: Uint8Array;
}>;

export type Received = Appended & Readonly<{ writes: WriteSet; signable: Signable | undefined }>;

export type LedgerFault = { code: "EntryRefused"; seqno: Seqno; why: string };

type Waiting = { info: EntryInfo; bytes: Uint8Array; leaf: Uint8Array };

export class Ledger {
  readonly store = new Store();
  /** Retired nodes whose rows are gone. */
  readonly departed = new Set<NodeId>();
  readonly #tree = new MerkleTree();
  readonly #log = new Log();
  readonly #secrets: LedgerSecrets;
  readonly #chunkBytes: number;
  /** Entries ordered after a signature whose contents are not there yet. */
  #behindSignature: Waiting[] | undefined;
  /** Entries since the last signature. */
  #unsigned = 0;
  #lastSignature: Seqno = 0;

  constructor(secrets: LedgerSecrets, chunkBytes: number) {
    this.#secrets = secrets;
    this.#chunkBytes = chunkBytes;
  }

  /** Entries that no signature covers yet, the ones behind a pending signature included. */
  get unsigned(): number {
    return this.#unsigned;
  }

  /** Seqno of the newest signature transaction here. */
  get lastSignature(): Seqno {
    return this.#lastSignature;
  }

  get signaturePending(): boolean {
    return this.#behindSignature !== undefined;
  }

  /** The last entry in its final form; what waits behind a signature is not counted. */
  get lastComplete(): Seqno {
    return this.#log.last?.seqno ?? 0;
  }

  /** Orders a transaction. The entries that became complete come back, none while a signature is pending. */
  append(view: View, writes: WriteSet, claimsDigest: Uint8Array | undefined): { seqno: Seqno; ready: Appended[] } {
    const seqno = this.store.version + 1;
    const { bytes, leaf } = encodeEntry({
      secret: this.#secrets.at(seqno),
      view,
      seqno,
      writes,
      ...(claimsDigest !== undefined && { claimsDigest }),
    });
    this.#apply(seqno, writes);
    const info = { seqno, view, committable: false, size: bytes.length, ...consensusHooks(this.store, writes) };
    this.#unsigned++;
    if (this.#behindSignature !== undefined) {
      this.#behindSignature.push({ info, bytes, leaf });
      return { seqno, ready: [] };
    }
    this.#complete(info, bytes, leaf, false);
    return { seqno, ready: [{ info, bytes }] };
  }

  /** Takes the next seqno for a signature and says what to sign. */
  beginSignature(): Signable {
    assert(this.#behindSignature === undefined, "one signature at a time");
    const seqno = this.store.version + 1;
    const signable = this.#signable(seqno);
    this.store.reserve(seqno);
    this.#behindSignature = [];
    this.#unsigned = 0;
    return signable;
  }

  /** The signature is made: its entry and all that waited behind it are complete now. */
  completeSignature(view: View, signable: Signable, writes: WriteSet): Appended[] {
    const behind = present(this.#behindSignature, "a signature is pending");
    const { seqno } = signable;
    const encode = (flags: number) => encodeEntry({ secret: this.#secrets.at(seqno), view, seqno, writes, flags });
    let { bytes, leaf } = encode(0);
    const closes = (this.#log.last?.unchunkedBytes ?? 0) + bytes.length >= this.#chunkBytes;
    // The flag is part of the hashed bytes, so the entry is made again; once in many megabytes.
    if (closes) ({ bytes, leaf } = encode(ENTRY_FLAGS.closeAfter));
    this.store.apply(seqno, writes);
    const info: EntryInfo = { seqno, view, committable: true, size: bytes.length };
    this.#behindSignature = undefined;
    this.#complete(info, bytes, leaf, closes);
    const ready: Appended[] = [{ info, bytes }];
    for (const entry of behind) {
      this.#complete(entry.info, entry.bytes, entry.leaf, false);
      ready.push({ info: entry.info, bytes: entry.bytes });
    }
    return ready;
  }

  /**
   * Takes the next entry from the leader: opens it, applies it, grows the tree.
   * @throws Fault<LedgerFault> and the faults of `openEntry`; then nothing has changed.
   */
  receive(bytes: Uint8Array, seqno: Seqno, view: View): Received {
    assert(this.#behindSignature === undefined, "a backup signs nothing");
    assert(seqno === this.store.version + 1, "entries are received in order");
    const entry = openEntry(bytes, this.#secrets.at(seqno));
    if (entry.seqno !== seqno || entry.view !== view)
      throw new Fault<LedgerFault>(
        { code: "EntryRefused", seqno, why: "TxID" },
        `entry ${view}.${seqno} says that it is ${entry.view}.${entry.seqno}`,
      );
    const committable = isSignature(entry.writes);
    const signable = committable ? this.#signable(seqno) : undefined;
    this.#apply(seqno, entry.writes);
    const info: EntryInfo = {
      seqno,
      view,
      committable,
      size: bytes.length,
      ...consensusHooks(this.store, entry.writes),
    };
    this.#unsigned = committable ? 0 : this.#unsigned + 1;
    this.#complete(info, bytes, entry.leaf, (entry.flags & ENTRY_FLAGS.closeAfter) !== 0);
    return { info, bytes, writes: entry.writes, signable };
  }

  /**
   * Checks entries that came back from the host's disk, and takes nothing from them.
   * @throws Fault when an entry is not exactly the one that was written.
   */
  checkStored(bytes: Uint8Array, seqno: Seqno, view: View): void {
    const entry = openEntry(bytes, this.#secrets.at(seqno));
    if (entry.seqno !== seqno || entry.view !== view)
      throw new Fault<LedgerFault>(
        { code: "EntryRefused", seqno, why: "TxID" },
        `the host returned entry ${entry.view}.${entry.seqno} for ${view}.${seqno}`,
      );
  }

  /** The bytes of entries first..last, up to the first that is no longer in memory. */
  inMemory(first: Seqno, last: Seqno): Uint8Array[] {
    const found: Uint8Array[] = [];
    for (let seqno = first; seqno <= last; seqno++) {
      const entry = this.#log.at(seqno);
      if (entry === undefined) break;
      found.push(entry.bytes);
    }
    return found;
  }

  /** Forgets everything after `to`, a pending signature and what waits behind it included. */
  rollback(to: Seqno): void {
    this.#behindSignature = undefined;
    this.store.rollback(to);
    this.#log.rollback(to);
    if (this.#tree.size > to + 1) this.#tree.retract(to + 1);
    // The newest committed entry is a signature, and older ones need not be remembered.
    if (this.#lastSignature > to) this.#lastSignature = this.store.committed;
    // Whatever is left may be unsigned; one signature too many does no harm.
    this.#unsigned = to > 0 ? 1 : 0;
  }

  commit(seqno: Seqno): void {
    this.store.commit(seqno);
    this.#log.commit(seqno);
    this.#tree.flush(seqno);
  }

  /**
   * Merkle root over all entries up to `seqno`; undefined while they are not all complete.
   * @throws Fault<TxFault> when that was too long ago to know
   */
  rootAt(seqno: Seqno): Uint8Array | undefined {
    const root = this.#tree.rootOver(seqno + 1);
    if (root === undefined && seqno < this.store.committed)
      throw new Fault<TxFault>({ code: "TxConflict", map: TABLES.tree.name }, "the root at that version is forgotten");
    return root;
  }

  #apply(seqno: Seqno, writes: WriteSet): void {
    for (const node of departingNodes(this.store, writes)) this.departed.add(node);
    this.store.apply(seqno, writes);
  }

  #signable(seqno: Seqno): Signable {
    assert(this.#tree.size === seqno, "the tree covers everything before the signature");
    return {
      seqno,
      root: this.#tree.root(),
      preimage: this.#tree.rootPreimage(),
      tree: this.#tree.serialise(this.store.committed),
    };
  }

  #complete(info: EntryInfo, bytes: Uint8Array, leaf: Uint8Array, closesChunk: boolean): void {
    const before = this.#log.last?.unchunkedBytes ?? 0;
    this.#log.append({
      seqno: info.seqno,
      view: info.view,
      bytes,
      unchunkedBytes: closesChunk ? 0 : before + bytes.length,
    });
    this.#tree.append(leaf);
    if (info.committable) this.#lastSignature = info.seqno;
  }
}

const SIGNATURE_TABLES: ReadonlySet<string> = new Set([
  TABLES.tree.name,
  TABLES.signatures.name,
  TABLES.coseSignatures.name,
]);

/**
 * True for a signature transaction.
 * @throws Fault for a transaction that writes a signature table beside other tables: CCF's nodes refuse it too
 *   (`src/kv/deserialise.h`).
 */
function isSignature(writes: WriteSet): boolean {
  let found = 0;
  for (const name of writes.keys()) if (SIGNATURE_TABLES.has(name)) found++;
  if (found === 0) return false;
  if (found !== writes.size || !writes.has(TABLES.tree.name) || found < 2)
    throw new Fault<LedgerFault>(
      { code: "EntryRefused", seqno: 0, why: "tables" },
      "a signature transaction writes the tree and its signatures, and nothing else",
    );
  return true;
}
