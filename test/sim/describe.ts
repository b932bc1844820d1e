/** One line for a message, an input, an effect: the shorthand of CCF's scenario driver, so that traces can be compared. */
import type { Effect, Input } from "../../node/enclave/consensus/core.ts";
import type { ConsensusMessage } from "../../protocol/wire/consensus.ts";

export function describeMessage(message: ConsensusMessage): string {
  switch (message.kind) {
    case "append_entries": {
      const { view, prevView, prevSeqno, viewOfSeqno, seqno, leaderCommit } = message;
      return `AE(t${view}, (${prevView}.${prevSeqno}, ${viewOfSeqno}.${seqno}], c${leaderCommit})`;
    }
    case "append_entries_response":
      return `AER(${message.success ? "ACK" : "NACK"}, t${message.view}, i${message.lastSeqno})`;
    case "request_vote":
    case "request_pre_vote":
      return `${message.kind === "request_vote" ? "RV" : "RPV"}(t${message.view}, ${message.viewOfLastCommittable}.${message.lastCommittableSeqno})`;
    case "request_vote_response":
    case "request_pre_vote_response":
      return `${message.kind === "request_vote_response" ? "RVR" : "RPVR"}(t${message.view}, ${message.granted ? "yes" : "no"})`;
    case "propose_request_vote":
      return `PRV(t${message.view})`;
  }
}

export function describeInput(input: Input): string {
  switch (input.kind) {
    case "tick":
      return `tick ${input.elapsedMs}`;
    case "received":
      return `received ${describeMessage(input.message)} from ${input.from}`;
    case "replicate":
    case "applied":
      return `${input.kind} ${input.entries.map(({ view, seqno, committable }) => `${view}.${seqno}${committable ? "s" : ""}`).join(" ")}`;
    case "stable":
      return `stable op ${input.op}`;
    case "nominate":
      return "nominate";
  }
}

export function describeEffect(effect: Effect): string {
  switch (effect.kind) {
    case "send":
      return `send ${effect.to} ${describeMessage(effect.message)}`;
    case "apply":
      return `apply ${effect.entries.first}..${effect.entries.last}`;
    case "persist":
      return `persist ${effect.entries.first}..${effect.entries.last} as op ${effect.op}`;
    case "rollback":
      return `rollback to ${effect.to} as op ${effect.op}`;
    case "commit":
      return `commit ${effect.seqno}`;
    case "role":
      return `role ${effect.role} view ${effect.view} leader ${effect.leader ?? "unknown"}`;
    case "peers":
      return `peers ${[...effect.peers.keys()].join(" ")}`;
    case "retired":
      return `retired ${effect.nodes.join(" ")}`;
    case "halt":
      return `halt: ${effect.reason}`;
  }
}
