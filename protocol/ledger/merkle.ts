/**
 * The Merkle tree over ledger entries.
 *
 * Leaf 0 is 32 zero bytes; leaf n is that of the entry with seqno n. A signature signs the root over all leaves before
 * it, and a receipt is the path from a leaf to such a root. The tree changes only at its right edge: it grows by
 * `append`, shrinks by `retract` when consensus rolls back, and forgets from the left by `flush` once leaves are
 * committed. Every complete subtree's hash is kept in a row for its level, so that an append costs one hash on average
 * and a root a few.
 *
 * The shape and the plain SHA-256(left ‖ right) without prefixes are CCF's (7.0.2 `merklecpp.h`, `src/node/history.h`),
 * because roots and receipts made here are verified elsewhere: see test/vectors/README.md.
 *
 * Neutral. Pure.
 */
import { Reader } from "../bytes.ts";
import { assert, Fault, present } from "../check.ts";
import { DIGEST_BYTES, sha256, sha256Into } from "../crypto/hash.ts";

export type TreeFault = { code: "TreeMalformed" };

/** One step from a leaf to the root: the sibling's hash, and the side on which it is hashed. */
export type PathStep = Readonly<{ side: "left" | "right"; hash: Buffer }>;

/** Leaves that a serialised tree may hold: far more than the entries between two commits. */
const SERIALISED_LEAVES_MAX = 2 ** 24;
/** Level of the highest complete subtree of any tree here: seqnos stay below 2^53. */
const LEVELS_MAX = 53;

export class MerkleTree {
  /** Row l holds the hashes of the complete subtrees over 2^l leaves, from left to right. */
  readonly #rows: Row[] = [new Row(0)];
  #flushed = 0;

  /** A tree of leaf 0 alone. */
  constructor() {
    this.append(Buffer.alloc(DIGEST_BYTES));
  }

  /** Number of leaves, leaf 0 and the forgotten ones included; the next leaf's index. */
  get size(): number {
    return this.#row(0).end;
  }

  /** Leaves before this index are forgotten. */
  get flushed(): number {
    return this.#flushed;
  }

  append(leaf: Uint8Array): void {
    assert(leaf.length === DIGEST_BYTES, "a leaf has 32 bytes");
    this.#row(0).push(leaf);
    for (let level = 0; this.#row(level).end % 2 === 0; level++) {
      const row = this.#row(level);
      if (this.#rows.length === level + 1) this.#rows.push(new Row(0));
      this.#row(level + 1).pushParent(row.pair(row.end - 2));
    }
  }

  /** The root over all leaves. */
  root(): Buffer {
    return present(this.rootOver(this.size), "a tree knows its own root");
  }

  /** The two children of the root, back to back: the root is their SHA-256. Only for two leaves or more. */
  rootPreimage(): Buffer {
    assert(this.size > 1, "a root over one leaf has no children");
    const peaks = this.#peaks(this.size);
    const left = present(peaks[0], "a tree has a leftmost subtree");
    // A complete tree is one subtree, whose two halves are side by side in the row below.
    if (peaks.length === 1) return Buffer.from(this.#row(levelOf(this.size) - 1).pair(0));
    return Buffer.concat([left, fold(peaks.slice(1))]);
  }

  /** The root over the first `count` leaves; undefined for more leaves than there are, or fewer than were forgotten. */
  rootOver(count: number): Buffer | undefined {
    if (count < 1 || count < this.#flushed || count > this.size) return undefined;
    return fold(this.#peaks(count));
  }

  /** Takes back the leaves from index `size` on. */
  retract(size: number): void {
    assert(size >= 1 && size >= this.#flushed && size <= this.size, "a tree shrinks to leaves it still knows");
    for (const [level, row] of this.#rows.entries()) row.truncate(Math.floor(size / 2 ** level));
  }

  /** Forgets the leaves before index `before`. What is known of the rest, all its roots and paths, stays known. */
  flush(before: number): void {
    if (before <= this.#flushed) return;
    assert(before < this.size, "the last leaf is never forgotten");
    this.#flushed = before;
    // A left sibling is kept: it is a step of the paths to its right.
    for (const [level, row] of this.#rows.entries()) row.forget(even(Math.floor(before / 2 ** level)));
  }

  /**
   * The steps from a leaf to the root over the first `count` leaves.
   * Undefined if the leaf is forgotten, or not among them.
   */
  path(index: number, count: number = this.size): PathStep[] | undefined {
    if (index < this.#flushed || index >= count || count > this.size) return undefined;
    const steps: PathStep[] = [];
    for (let level = 0, width = 1; width < count; level++, width *= 2) {
      const node = Math.floor(index / width);
      const sibling = node % 2 === 0 ? node + 1 : node - 1;
      // A lone last node moves up without a step.
      if (sibling * width >= count) continue;
      const complete = (sibling + 1) * width <= count;
      const hash = complete ? Buffer.from(this.#row(level).at(sibling)) : fold(this.#peaks(count, level));
      steps.push({ side: sibling < node ? "left" : "right", hash });
    }
    return steps;
  }

  /**
   * The tree as `public:ccf.internal.tree` has it: u64 number of leaf hashes and u64 number of leaves before them, both
   * big-endian; the leaf hashes; one subtree hash for each bit of the second number, lowest first.
   * @param from first leaf to be there in full.
   */
  serialise(from: number = this.#flushed): Buffer {
    assert(from >= this.#flushed && from < this.size, "a serialised tree has a leaf and none that is forgotten");
    const leaves = this.#row(0).slice(from, this.size);
    const before = from === 0 ? [] : this.#peaks(from).reverse();
    const head = Buffer.alloc(16);
    head.writeBigUInt64BE(BigInt(this.size - from), 0);
    head.writeBigUInt64BE(BigInt(from), 8);
    return Buffer.concat([head, leaves, ...before]);
  }

  /** Reads what `serialise` wrote, here or in CCF. @throws Fault<TreeFault> */
  static deserialise(bytes: Uint8Array): MerkleTree {
    const input = new Reader(bytes);
    if (input.remaining < 16) throw malformed("it ends in its head");
    const count = input.take(8).readBigUInt64BE();
    const flushed = input.take(8).readBigUInt64BE();
    if (count < 1n || count > SERIALISED_LEAVES_MAX) throw malformed(`it claims ${count} leaves`);
    if (flushed >= 2n ** BigInt(LEVELS_MAX)) throw malformed(`it claims ${flushed} leaves before the first`);
    const before = Number(flushed);
    if (input.remaining !== (Number(count) + ones(before)) * DIGEST_BYTES)
      throw malformed("its length is not what its head says");
    const leaves = input.take(Number(count) * DIGEST_BYTES);

    const tree = new MerkleTree();
    tree.#rows.length = 0;
    tree.#flushed = before;
    for (let level = 0, rest = before; level === 0 || rest > 0; level++, rest = Math.floor(rest / 2)) {
      const row = new Row(even(rest));
      if (rest % 2 === 1) row.push(input.take(DIGEST_BYTES));
      tree.#rows.push(row);
    }
    for (let at = 0; at < leaves.length; at += DIGEST_BYTES) tree.append(leaves.subarray(at, at + DIGEST_BYTES));
    return tree;
  }

  /** The complete subtrees, largest first, that the leaves from the last multiple of 2^below up to `count` fall into. */
  #peaks(count: number, below = LEVELS_MAX): Buffer[] {
    const peaks: Buffer[] = [];
    for (let level = 0, rest = count; level < below && rest > 0; level++, rest = Math.floor(rest / 2))
      if (rest % 2 === 1) peaks.unshift(this.#row(level).at(rest - 1));
    return peaks;
  }

  #row(level: number): Row {
    return present(this.#rows[level], "a tree has a row for each level");
  }
}

/** Hashes a leaf's path up to the root. */
export function rootFromPath(leaf: Uint8Array, steps: readonly PathStep[]): Buffer {
  const pair = Buffer.alloc(2 * DIGEST_BYTES);
  let hash = leaf;
  for (const step of steps) {
    pair.set(step.side === "left" ? step.hash : hash, 0);
    pair.set(step.side === "left" ? hash : step.hash, DIGEST_BYTES);
    hash = sha256(pair);
  }
  return Buffer.from(hash);
}

/** The hashes of one level, numbered from the left of the whole tree; those before `start` are forgotten. */
class Row {
  #bytes = Buffer.alloc(0);
  /** Number of the hash at offset 0. */
  #base: number;
  #start: number;
  #end: number;

  constructor(start: number) {
    this.#base = start;
    this.#start = start;
    this.#end = start;
  }

  get end(): number {
    return this.#end;
  }

  push(hash: Uint8Array): void {
    const offset = this.#slot();
    this.#bytes.set(hash, offset);
    this.#end++;
  }

  pushParent(pair: Uint8Array): void {
    const offset = this.#slot();
    sha256Into(this.#bytes, offset, pair);
    this.#end++;
  }

  /** A view, good until the row changes. */
  at(index: number): Buffer {
    return this.slice(index, index + 1);
  }

  /** Hashes `index` and `index + 1`, back to back; a view. */
  pair(index: number): Buffer {
    return this.slice(index, index + 2);
  }

  slice(from: number, to: number): Buffer {
    assert(from >= this.#start && to <= this.#end, "a hash that is asked for is there");
    return this.#bytes.subarray((from - this.#base) * DIGEST_BYTES, (to - this.#base) * DIGEST_BYTES);
  }

  truncate(end: number): void {
    this.#end = Math.max(this.#start, Math.min(this.#end, end));
  }

  forget(before: number): void {
    this.#start = Math.max(this.#start, Math.min(before, this.#end));
  }

  /** Offset for the next hash; makes room first where there is none. */
  #slot(): number {
    const offset = (this.#end - this.#base) * DIGEST_BYTES;
    if (offset < this.#bytes.length) return offset;
    const kept = this.#bytes.subarray((this.#start - this.#base) * DIGEST_BYTES);
    // What was forgotten is reused if it is at least half; otherwise copying would not be amortised.
    if (kept.length > this.#bytes.length / 2 || this.#bytes.length === 0) {
      const larger = Buffer.allocUnsafeSlow(Math.max(8 * DIGEST_BYTES, this.#bytes.length * 2));
      larger.set(kept);
      this.#bytes = larger;
    } else this.#bytes.copyWithin(0, (this.#start - this.#base) * DIGEST_BYTES);
    this.#base = this.#start;
    return (this.#end - this.#base) * DIGEST_BYTES;
  }
}

/** The root over complete subtrees, largest first: the two last are joined until one is left. */
function fold(peaks: readonly Uint8Array[]): Buffer {
  const pair = Buffer.alloc(2 * DIGEST_BYTES);
  let root = present(peaks.at(-1), "a root is over at least one leaf");
  for (let i = peaks.length - 2; i >= 0; i--) {
    pair.set(present(peaks[i], "every subtree is there"), 0);
    pair.set(root, DIGEST_BYTES);
    root = sha256(pair);
  }
  return Buffer.from(root);
}

function even(index: number): number {
  return index - (index % 2);
}

/** Level of the subtree that 2^level leaves make. */
function levelOf(size: number): number {
  return Math.round(Math.log2(size));
}

/** Number of one bits. */
function ones(value: number): number {
  let count = 0;
  for (let rest = value; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
}

function malformed(why: string): Fault<TreeFault> {
  return new Fault<TreeFault>({ code: "TreeMalformed" }, `a serialised Merkle tree is malformed: ${why}`);
}
