/**
 * The messages of CCF's Raft between nodes: names and fields (`raft_types.h`; reference consensus.md 1.3).
 *
 * Neutral. Pure.
 */
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
