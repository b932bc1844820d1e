/**
 * A ledger entry: one transaction's writes, the public ones in clear, the private ones under the ledger secret.
 *
 *   offset  size  field
 *   ------  ----  ---------------------------------------------------------------------------------
 *   0       1     version, always 1
 *   1       1     flags: bit 0 close the chunk file after this entry, bit 1 before it
 *   2       6     bytes that follow offset 8, little-endian
 *   8       16    AES-256-GCM tag (over the private domain, with the public domain as associated data)
 *   24      12    IV: u64 seqno ‖ u32 view, little-endian
 *   36      8     P, length of the public domain
 *   44      P     public domain: u8 type ‖ u64 seqno ‖ claims digest ‖ commit evidence digest ‖ u64 0 ‖ maps
 *   44+P    ...   private domain, encrypted: maps
 *
 * The bytes are CCF's (7.0.2: `src/kv/serialised_entry_format.h`, `src/kv/generic_serialise_wrapper.h`,
 * `src/node/encryptor.h`), because its verifiers read our ledgers. We write type 4 only; older types are read.
 * Encoding an entry twice with other contents under one (seqno, view) would reuse an IV: the caller must not.
 *
 * Neutral. Pure.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { equal, Reader, view as viewOf } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import { DIGEST_BYTES, sha256Into } from "../crypto/hash.ts";
import { Hmac } from "../crypto/hmac.ts";
import type { Seqno, TxId, View } from "../ids.ts";
import { mapBytes, putU64, readMaps, writeMap } from "./domain.ts";
import { isPublicMap, type WriteSet } from "./write-set.ts";

export const ENTRY_HEADER_BYTES = 8;
/** The largest entry that is made or read, all bytes counted. */
export const ENTRY_BYTES_MAX = 32 * 1024 * 1024;
export const ENTRY_FLAGS = { closeAfter: 0b01, closeBefore: 0b10 } as const;
export const LEDGER_SECRET_BYTES = 32;

export type EntryFault =
  | { code: "EntryTruncated"; have: number }
  | { code: "EntryTooLarge"; sizeBytes: number }
  | { code: "EntryVersionUnknown"; version: number }
  | { code: "EntryFlagsUnknown"; flags: number }
  | { code: "EntrySizeWrong"; sizeBytes: number; have: number }
  | { code: "EntryTypeUnknown"; type: number }
  | { code: "EntryTxIdWrong"; seqno: Seqno }
  | { code: "EntryMalformed"; why: string }
  | { code: "EntryNotAuthentic"; seqno: Seqno }
  | { code: "CommitEvidenceWrong"; seqno: Seqno }
  | { code: "LedgerSecretMalformed"; have: number };

/** `sizeBytes` counts the whole entry, header included. */
export type EntryHeader = Readonly<{ flags: number; sizeBytes: number }>;

/** What anyone can read of an entry. Digests are 32 bytes; those that the entry's type does not have are undefined. */
export type PublicEntry = Readonly<{
  seqno: Seqno;
  view: View;
  flags: number;
  claimsDigest: Uint8Array | undefined;
  commitEvidenceDigest: Uint8Array | undefined;
  writes: WriteSet;
  /** True if the entry has private writes too. */
  hasPrivate: boolean;
  writeSetDigest: Uint8Array;
  /** The entry's leaf in the Merkle tree. */
  leaf: Buffer;
}>;

export type OpenedEntry = Readonly<{
  seqno: Seqno;
  view: View;
  flags: number;
  claimsDigest: Uint8Array | undefined;
  /** Public and private writes. */
  writes: WriteSet;
  leaf: Buffer;
}>;

export type NewEntry = Readonly<{
  secret: LedgerSecret;
  view: View;
  seqno: Seqno;
  /** Maps and keys in byte order, each map with at least one key. */
  writes: WriteSet;
  /** 32 bytes; none is the same as zeros. */
  claimsDigest?: Uint8Array;
  flags?: number;
}>;

const VERSION = 1;
const TAG_AT = 8;
const IV_AT = 24;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const PUBLIC_LENGTH_AT = 36;
const PUBLIC_AT = 44;
/** The same bit that marks a snapshot in an IV, so a view of a transaction stays below it. */
const VIEW_MAX = 2 ** 31 - 1;
/** `<view>.<seqno>` at its longest. */
const TX_ID_CHARS_MAX = 32;

/** Entry types of CCF `src/kv/kv_types.h`. Type 1 is a snapshot and type 2 was never written with evidence: not read. */
const TYPE = { writeSet: 0, withEvidence: 3, withEvidenceAndClaims: 4 } as const;
const PUBLIC_FIXED_BYTES = 1 + 8 + DIGEST_BYTES + DIGEST_BYTES + 8;
const CLAIMS_AT = PUBLIC_AT + 1 + 8;
const EVIDENCE_AT = CLAIMS_AT + DIGEST_BYTES;

/** A ledger secret and what is derived from it. Its bytes leave it through `export` alone. */
export class LedgerSecret {
  readonly #raw: Buffer;
  readonly #key: KeyObject;
  readonly #commitSecret: Hmac;

  /** @param raw 32 bytes, copied. @throws Fault `LedgerSecretMalformed` */
  constructor(raw: Uint8Array) {
    if (raw.length !== LEDGER_SECRET_BYTES)
      throw new Fault<EntryFault>(
        { code: "LedgerSecretMalformed", have: raw.length },
        `a ledger secret has ${LEDGER_SECRET_BYTES} bytes, this one ${raw.length}`,
      );
    this.#raw = Buffer.from(raw);
    this.#key = createSecretKey(this.#raw);
    this.#commitSecret = new Hmac(createHmac("sha256", this.#raw).update("Commit S").digest(), TX_ID_CHARS_MAX);
  }

  static generate(): LedgerSecret {
    return new LedgerSecret(randomBytes(LEDGER_SECRET_BYTES));
  }

  /** A copy of the 32 bytes, to be wrapped for members or handed to a trusted node. */
  export(): Buffer {
    return Buffer.from(this.#raw);
  }

  /** `ce:<view>.<seqno>:<nonce>`: shown once a transaction is committed, and not before. */
  commitEvidence(id: TxId): string {
    const txId = `${id.view}.${id.seqno}`;
    return `ce:${txId}:${this.#commitSecret.hex(txId)}`;
  }

  /** Encrypts `bytes[from..]` in place, with `bytes[aadFrom..from]` as associated data. The tag goes to `TAG_AT`. */
  seal(bytes: Buffer, aadFrom: number, from: number): void {
    const cipher = createCipheriv("aes-256-gcm", this.#key, bytes.subarray(IV_AT, IV_AT + IV_BYTES));
    cipher.setAAD(bytes.subarray(aadFrom, from));
    if (from < bytes.length) bytes.set(cipher.update(bytes.subarray(from)), from);
    cipher.final();
    bytes.set(cipher.getAuthTag(), TAG_AT);
  }

  /** The plaintext of `bytes[from..]`, or undefined if the tag does not fit. */
  open(bytes: Buffer, aadFrom: number, from: number): Buffer | undefined {
    const iv = bytes.subarray(IV_AT, IV_AT + IV_BYTES);
    const decipher = createDecipheriv("aes-256-gcm", this.#key, iv, { authTagLength: TAG_BYTES });
    decipher.setAAD(bytes.subarray(aadFrom, from));
    decipher.setAuthTag(bytes.subarray(TAG_AT, TAG_AT + TAG_BYTES));
    const plaintext = from < bytes.length ? decipher.update(bytes.subarray(from)) : Buffer.alloc(0);
    try {
      decipher.final();
    } catch {
      // The only thing that `final` reports is a tag that does not fit; whoever asked says of which entry.
      return undefined;
    }
    return plaintext;
  }
}

/**
 * Makes an entry.
 * @returns its bytes, final from now on, and its leaf.
 */
export function encodeEntry(entry: NewEntry): { bytes: Buffer; leaf: Buffer } {
  const { secret, view, seqno, writes, claimsDigest, flags = 0 } = entry;
  assert(view > 0 && view <= VIEW_MAX && seqno > 0, "an entry's view fits 31 bits and its seqno is positive");
  let publicBytes = PUBLIC_FIXED_BYTES;
  let privateBytes = 0;
  for (const [name, keys] of writes) {
    if (isPublicMap(name)) publicBytes += mapBytes(name, keys);
    else privateBytes += mapBytes(name, keys);
  }
  const privateAt = PUBLIC_AT + publicBytes;
  const sizeBytes = privateAt + privateBytes;
  if (sizeBytes > ENTRY_BYTES_MAX) throw tooLarge(sizeBytes);

  const bytes = Buffer.allocUnsafe(sizeBytes);
  bytes[0] = VERSION;
  bytes[1] = flags;
  bytes.writeUIntLE(sizeBytes - ENTRY_HEADER_BYTES, 2, 6);
  putU64(bytes, IV_AT, seqno);
  bytes.writeUInt32LE(view, IV_AT + 8);
  putU64(bytes, PUBLIC_LENGTH_AT, publicBytes);
  bytes[PUBLIC_AT] = TYPE.withEvidenceAndClaims;
  putU64(bytes, PUBLIC_AT + 1, seqno);
  if (claimsDigest === undefined) bytes.fill(0, CLAIMS_AT, EVIDENCE_AT);
  else {
    assert(claimsDigest.length === DIGEST_BYTES, "a claims digest has 32 bytes");
    bytes.set(claimsDigest, CLAIMS_AT);
  }
  sha256Into(bytes, EVIDENCE_AT, Buffer.from(secret.commitEvidence({ view, seqno }), "latin1"));
  putU64(bytes, EVIDENCE_AT + DIGEST_BYTES, 0);

  let publicTo = PUBLIC_AT + PUBLIC_FIXED_BYTES;
  let privateTo = privateAt;
  for (const [name, keys] of writes) {
    if (isPublicMap(name)) publicTo = writeMap(bytes, publicTo, name, keys);
    else privateTo = writeMap(bytes, privateTo, name, keys);
  }
  assert(publicTo === privateAt && privateTo === sizeBytes, "a domain is as long as was counted");
  secret.seal(bytes, PUBLIC_AT, privateAt);
  return { bytes, leaf: digests(bytes, bytes.subarray(EVIDENCE_AT, EVIDENCE_AT + DIGEST_BYTES), claimsOf(bytes)).leaf };
}

/**
 * Reads the header of the entry that begins at the start of `bytes`, which may be longer or shorter than the entry.
 * @throws Fault<EntryFault>
 */
export function decodeHeader(bytes: Uint8Array): EntryHeader {
  if (bytes.length < ENTRY_HEADER_BYTES)
    throw new Fault<EntryFault>(
      { code: "EntryTruncated", have: bytes.length },
      `an entry begins with a header of ${ENTRY_HEADER_BYTES} bytes; there are ${bytes.length}`,
    );
  const header = viewOf(bytes);
  const version = header.readUInt8(0);
  const flags = header.readUInt8(1);
  if (version !== VERSION)
    throw new Fault<EntryFault>({ code: "EntryVersionUnknown", version }, `entry version ${version} is not known`);
  // An unknown flag may change what the bytes after it mean, so it is refused, not skipped.
  if ((flags & ~(ENTRY_FLAGS.closeAfter | ENTRY_FLAGS.closeBefore)) !== 0)
    throw new Fault<EntryFault>({ code: "EntryFlagsUnknown", flags }, `entry flags ${flags} are not known`);
  const sizeBytes = header.readUIntLE(2, 6) + ENTRY_HEADER_BYTES;
  if (sizeBytes > ENTRY_BYTES_MAX) throw tooLarge(sizeBytes);
  return { flags, sizeBytes };
}

/** The TxID in an entry's IV, without looking at anything else. @throws Fault<EntryFault> */
export function entryTxId(bytes: Uint8Array): TxId {
  if (bytes.length < PUBLIC_AT)
    throw new Fault<EntryFault>(
      { code: "EntryTruncated", have: bytes.length },
      `an entry has at least ${PUBLIC_AT} bytes; there are ${bytes.length}`,
    );
  const entry = viewOf(bytes);
  const high = entry.readUInt32LE(IV_AT + 4);
  const seqno = high * 2 ** 32 + entry.readUInt32LE(IV_AT);
  const view = entry.readUInt32LE(IV_AT + 8);
  if (view > VIEW_MAX || view === 0 || seqno === 0 || high > 0x1fffff)
    throw new Fault<EntryFault>(
      { code: "EntryTxIdWrong", seqno },
      `the IV of this entry is not that of a transaction (view ${view}, seqno ${seqno})`,
    );
  return { view, seqno };
}

/**
 * Reads what is public of an entry, without any secret. What it returns are views into `bytes`.
 * @throws Fault<EntryFault>
 */
export function readPublic(bytes: Uint8Array): PublicEntry {
  const entry = viewOf(bytes);
  const head = readHead(entry);
  const writes = new Map<string, ReadonlyMap<string, Uint8Array | undefined>>();
  wellFormed(() => readMaps(head.maps, "public", writes));
  return {
    ...head.facts,
    claimsDigest: head.claimsDigest,
    commitEvidenceDigest: head.commitEvidenceDigest,
    writes,
    hasPrivate: head.privateAt < entry.length,
    ...digests(entry, head.commitEvidenceDigest, head.claimsDigest),
  };
}

/**
 * Opens an entry with its ledger secret: authenticates it whole and decrypts the private writes.
 * The writes do not keep `bytes` alive.
 * @throws Fault<EntryFault>
 */
export function openEntry(bytes: Uint8Array, secret: LedgerSecret): OpenedEntry {
  const entry = viewOf(bytes);
  const head = readHead(entry);
  const plaintext = secret.open(entry, PUBLIC_AT, head.privateAt);
  const { seqno, view } = head.facts;
  if (plaintext === undefined)
    throw new Fault<EntryFault>(
      { code: "EntryNotAuthentic", seqno },
      `entry ${view}.${seqno} does not open: it was changed, or is under another ledger secret`,
    );
  if (head.commitEvidenceDigest !== undefined) {
    const digest = Buffer.allocUnsafe(DIGEST_BYTES);
    sha256Into(digest, 0, Buffer.from(secret.commitEvidence({ view, seqno }), "latin1"));
    if (!equal(digest, head.commitEvidenceDigest))
      throw new Fault<EntryFault>(
        { code: "CommitEvidenceWrong", seqno },
        `the commit evidence of entry ${view}.${seqno} is not the one that the ledger secret gives`,
      );
  }
  // Entries arrive in large frames, and a value lives as long as its key: the few public bytes are copied, so that one
  // live value does not keep a whole frame.
  const publicMaps = new Reader(Buffer.from(head.maps.take(head.maps.remaining)));
  const writes = new Map<string, ReadonlyMap<string, Uint8Array | undefined>>();
  wellFormed(() => {
    readMaps(publicMaps, "public", writes);
    readMaps(new Reader(plaintext), "private", writes);
  });
  const { leaf } = digests(entry, head.commitEvidenceDigest, head.claimsDigest);
  return { ...head.facts, claimsDigest: head.claimsDigest, writes, leaf };
}

/** Cuts entries that lie back to back; they are views into `blob`. @throws Fault<EntryFault> unless they fill it exactly */
export function splitEntries(blob: Uint8Array): Buffer[] {
  const bytes = viewOf(blob);
  const entries: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { sizeBytes } = decodeHeader(bytes.subarray(at));
    if (sizeBytes > bytes.length - at)
      throw new Fault<EntryFault>(
        { code: "EntryTruncated", have: bytes.length - at },
        `an entry of ${sizeBytes} bytes is cut off after ${bytes.length - at}`,
      );
    entries.push(bytes.subarray(at, at + sizeBytes));
    at += sizeBytes;
  }
  return entries;
}

/**
 * The Merkle leaf of an entry from its three digests.
 * @param commitEvidenceDigest and `claimsDigest`: undefined in entry types that had none.
 */
export function leafDigest(
  writeSetDigest: Uint8Array,
  commitEvidenceDigest: Uint8Array | undefined,
  claimsDigest: Uint8Array | undefined,
): Buffer {
  if (commitEvidenceDigest === undefined) return Buffer.from(writeSetDigest);
  const parts = Buffer.allocUnsafe((claimsDigest === undefined ? 2 : 3) * DIGEST_BYTES);
  parts.set(writeSetDigest, 0);
  parts.set(commitEvidenceDigest, DIGEST_BYTES);
  if (claimsDigest !== undefined) parts.set(claimsDigest, 2 * DIGEST_BYTES);
  const leaf = Buffer.allocUnsafe(DIGEST_BYTES);
  sha256Into(leaf, 0, parts);
  return leaf;
}

type Head = {
  facts: { seqno: Seqno; view: View; flags: number };
  claimsDigest: Buffer | undefined;
  commitEvidenceDigest: Buffer | undefined;
  /** The public maps. */
  maps: Reader;
  privateAt: number;
};

/** Everything of an entry but its maps, checked for shape. */
function readHead(entry: Buffer): Head {
  const { flags, sizeBytes } = decodeHeader(entry);
  if (sizeBytes !== entry.length)
    throw new Fault<EntryFault>(
      { code: "EntrySizeWrong", sizeBytes, have: entry.length },
      `the header says ${sizeBytes} bytes, the entry has ${entry.length}`,
    );
  const { seqno, view } = entryTxId(entry);
  return wellFormed(() => {
    const whole = new Reader(entry);
    whole.offset = PUBLIC_LENGTH_AT;
    const maps = new Reader(whole.lp64());
    const type = maps.u8();
    if (type !== TYPE.withEvidenceAndClaims && type !== TYPE.withEvidence && type !== TYPE.writeSet)
      throw new Fault<EntryFault>({ code: "EntryTypeUnknown", type }, `entry type ${type} is not a known transaction`);
    const seqnoInside = maps.u64();
    if (seqnoInside !== seqno)
      throw new Fault<EntryFault>(
        { code: "EntryTxIdWrong", seqno },
        `the IV is for seqno ${seqno}, but the public domain says ${seqnoInside}`,
      );
    const claimsDigest = type === TYPE.withEvidenceAndClaims ? maps.take(DIGEST_BYTES) : undefined;
    const commitEvidenceDigest = type === TYPE.writeSet ? undefined : maps.take(DIGEST_BYTES);
    // "Max conflict version": CCF reserves and ignores it.
    maps.take(8);
    return { facts: { seqno, view, flags }, claimsDigest, commitEvidenceDigest, maps, privateAt: whole.offset };
  });
}

function claimsOf(bytes: Buffer): Buffer {
  return bytes.subarray(CLAIMS_AT, EVIDENCE_AT);
}

function digests(bytes: Buffer, commitEvidenceDigest: Uint8Array | undefined, claimsDigest: Uint8Array | undefined) {
  const writeSetDigest = Buffer.allocUnsafe(DIGEST_BYTES);
  sha256Into(writeSetDigest, 0, bytes);
  return { writeSetDigest, leaf: leafDigest(writeSetDigest, commitEvidenceDigest, claimsDigest) };
}

/** Runs a parser and turns its faults into this place's own. */
function wellFormed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof Fault) || error.detail.code.startsWith("Entry")) throw error;
    throw new Fault<EntryFault>(
      { code: "EntryMalformed", why: error.detail.code },
      `the entry is malformed: ${error.message}`,
      { cause: error },
    );
  }
}

function tooLarge(sizeBytes: number): Fault<EntryFault> {
  return new Fault<EntryFault>(
    { code: "EntryTooLarge", sizeBytes },
    `an entry of ${sizeBytes} bytes is larger than the ${ENTRY_BYTES_MAX} that are allowed; write less in one transaction`,
  );
}
