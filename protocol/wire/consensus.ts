/**
 * The messages of CCF's Raft between nodes, and their bytes.
 *
 * Names, fields and layout are CCF's (`src/consensus/aft/raft_types.h`): packed little-endian structs that begin with the
 * kind as a u64. All fields are u64 unless noted.
 *
 *   kind  name                       fields after the kind                                                      bytes
 *   ----  -------------------------  -------------------------------------------------------------------------  -----
 *   0     append_entries             idx prev_idx term prev_term leader_commit_idx term_of_idx new_view(u8)     57
 *   1     append_entries_response    term last_log_idx fail(u8)                                                 25
 *   3,6   request_(pre_)vote         term last_committable_idx term_of_last_committable_idx                     32
 *   4,7   request_(pre_)vote_resp.   term granted(u8)                                                           17
 *   5     propose_request_vote       term                                                                       16
 *
 * Here the entries of an append travel with it, inside the channel's protection: u32 count, then the entries back to back.
 * Each says its own length: version (1), flags (u8), size of what follows (48 bits).
 *
 * Neutral. Pure.
 */
import { Reader, Writer } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import type { Seqno, View } from "../ids.ts";

/** Covers entries `(prevSeqno, seqno]`, all of one view, `viewOfSeqno`. `prevSeqno === seqno` is a heartbeat. */
export type AppendEntries = Readonly<{
  kind: "append_entries";
  view: View;
  prevSeqno: Seqno;
  prevView: View;
  seqno: Seqno;
  viewOfSeqno: View;
  leaderCommit: Seqno;
}>;

/**
 * Acknowledges exactly the range of one append, or refuses it. A refusal carries an estimate of the best match, whose
 * view may be older than the leader's without being stale.
 */
export type AppendEntriesResponse = Readonly<{
  kind: "append_entries_response";
  view: View;
  lastSeqno: Seqno;
  success: boolean;
}>;

export type RequestVote = Readonly<{
  kind: "request_vote" | "request_pre_vote";
  view: View;
  lastCommittableSeqno: Seqno;
  viewOfLastCommittable: View;
}>;

export type RequestVoteResponse = Readonly<{
  kind: "request_vote_response" | "request_pre_vote_response";
  view: View;
  granted: boolean;
}>;

/** The leader asks its best successor to stand at once. */
export type ProposeRequestVote = Readonly<{ kind: "propose_request_vote"; view: View }>;

export type ConsensusMessage =
  | AppendEntries
  | AppendEntriesResponse
  | RequestVote
  | RequestVoteResponse
  | ProposeRequestVote;

export type ConsensusWireFault =
  | { code: "ConsensusKindUnknown"; kind: number }
  | { code: "ConsensusFlagUnknown"; value: number }
  | { code: "ConsensusRangeInvalid"; why: string }
  | { code: "ConsensusEntryInvalid"; seqno: Seqno; why: string };

/** Entries in one append, at most. */
export const ENTRIES_MAX = 65_536;

const ENTRY_HEADER_BYTES = 8;
const ENTRY_VERSION = 1;

const KINDS = {
  append_entries: 0,
  append_entries_response: 1,
  request_vote: 3,
  request_vote_response: 4,
  propose_request_vote: 5,
  request_pre_vote: 6,
  request_pre_vote_response: 7,
} as const;

const NAMES = new Map(Object.entries(KINDS).map(([name, number]) => [number as number, name as keyof typeof KINDS]));

const NO_ENTRIES: readonly Uint8Array[] = [];

/**
 * The bytes of a message, in parts that are to be sent one after another; entries are not copied.
 * @param entries the framed entries of an append, exactly those of its range; none for other messages
 */
export function encodeMessage(message: ConsensusMessage, entries: readonly Uint8Array[] = NO_ENTRIES): Uint8Array[] {
  const writer = new Writer(64).u64(KINDS[message.kind]);
  switch (message.kind) {
    case "append_entries":
      assert(entries.length === message.seqno - message.prevSeqno, "an append carries the entries of its range");
      writer.u64(message.seqno).u64(message.prevSeqno).u64(message.view).u64(message.prevView);
      writer.u64(message.leaderCommit).u64(message.viewOfSeqno).u8(0).u32(entries.length);
      return [writer.done(), ...entries];
    case "append_entries_response":
      writer
        .u64(message.view)
        .u64(message.lastSeqno)
        .u8(message.success ? 0 : 1);
      break;
    case "request_vote":
    case "request_pre_vote":
      writer.u64(message.view).u64(message.lastCommittableSeqno).u64(message.viewOfLastCommittable);
      break;
    case "request_vote_response":
    case "request_pre_vote_response":
      writer.u64(message.view).u8(message.granted ? 1 : 0);
      break;
    case "propose_request_vote":
      writer.u64(message.view);
      break;
  }
  assert(entries.length === 0, "only an append carries entries");
  return [writer.done()];
}

/**
 * Reads one message, whole. The entries are subarrays of `bytes`, cut but not looked into.
 * @throws Fault<ConsensusWireFault | BytesFault>
 */
export function decodeMessage(bytes: Uint8Array): { message: ConsensusMessage; entries: Uint8Array[] } {
  const reader = new Reader(bytes);
  const number = reader.u64();
  const kind = NAMES.get(number);
  if (kind === undefined)
    throw new Fault<ConsensusWireFault>(
      { code: "ConsensusKindUnknown", kind: number },
      `consensus message of unknown kind ${number}`,
    );
  const { message, entries } =
    kind === "append_entries" ? readAppend(reader) : { message: readOther(reader, kind), entries: [] };
  reader.end();
  return { message, entries };
}

function readAppend(reader: Reader): { message: AppendEntries; entries: Uint8Array[] } {
  const seqno = reader.u64();
  const prevSeqno = reader.u64();
  const view = reader.u64();
  const prevView = reader.u64();
  const leaderCommit = reader.u64();
  const viewOfSeqno = reader.u64();
  // CCF keeps the flag for compatibility and reads no meaning into it.
  readFlag(reader);
  const count = reader.u32();
  if (seqno < prevSeqno) throw range("the range ends before it begins");
  if (seqno - prevSeqno > ENTRIES_MAX) throw range(`the range has more than ${ENTRIES_MAX} entries`);
  if (count !== seqno - prevSeqno) throw range("the number of entries is not that of the range");
  if (viewOfSeqno > view || prevView > viewOfSeqno)
    throw range("the views of the entries do not ascend to the sender's");
  if ((prevSeqno === 0) !== (prevView === 0)) throw range("only the empty ledger is of view 0");
  if (count === 0 && prevView !== viewOfSeqno) throw range("a heartbeat names one entry with two views");
  const entries: Uint8Array[] = [];
  for (let i = 0; i < count; i++) entries.push(readEntry(reader, prevSeqno + 1 + i));
  return {
    message: { kind: "append_entries", view, prevSeqno, prevView, seqno, viewOfSeqno, leaderCommit },
    entries,
  };
}

function readEntry(reader: Reader, seqno: Seqno): Uint8Array {
  const { bytes, offset, remaining } = reader;
  if (remaining < ENTRY_HEADER_BYTES) throw entry(seqno, "its header is cut short");
  if (bytes[offset] !== ENTRY_VERSION) throw entry(seqno, `its version is not ${ENTRY_VERSION}`);
  const sizeBytes = bytes.readUIntLE(offset + 2, 6);
  if (sizeBytes > remaining - ENTRY_HEADER_BYTES) throw entry(seqno, "it is cut short");
  return reader.take(ENTRY_HEADER_BYTES + sizeBytes);
}

function readOther(reader: Reader, kind: Exclude<keyof typeof KINDS, "append_entries">): ConsensusMessage {
  const view = reader.u64();
  switch (kind) {
    case "append_entries_response":
      return { kind, view, lastSeqno: reader.u64(), success: !readFlag(reader) };
    case "request_vote":
    case "request_pre_vote":
      return { kind, view, lastCommittableSeqno: reader.u64(), viewOfLastCommittable: reader.u64() };
    case "request_vote_response":
    case "request_pre_vote_response":
      return { kind, view, granted: readFlag(reader) };
    case "propose_request_vote":
      return { kind, view };
  }
}

function readFlag(reader: Reader): boolean {
  const value = reader.u8();
  if (value > 1)
    throw new Fault<ConsensusWireFault>({ code: "ConsensusFlagUnknown", value }, `a flag has the value ${value}`);
  return value === 1;
}

function range(why: string): Fault<ConsensusWireFault> {
  return new Fault<ConsensusWireFault>({ code: "ConsensusRangeInvalid", why }, `append refused: ${why}`);
}

function entry(seqno: Seqno, why: string): Fault<ConsensusWireFault> {
  return new Fault<ConsensusWireFault>({ code: "ConsensusEntryInvalid", seqno, why }, `entry ${seqno} refused: ${why}`);
}
