/**
 * The line between host and enclave, whole. This is our EDL.
 *
 * Every byte that crosses is one of these messages. The host is the enemy's machine: what it sends is checked field by
 * field before anyone reads it, and a message that fails the check stops the enclave with the reason. What the enclave
 * sends is sealed already (TLS records, encrypted entries) or is meant to be seen by everyone.
 *
 * Reading guide: `toEnclave` first. If a new row there makes you ask "and if the host lies here?", write the answer
 * beside it. Streams carry bytes in both directions under one number; the host numbers the ones it opens with even
 * numbers, the enclave with odd ones. A sender may have at most `STREAM_WINDOW` unacknowledged bytes in a stream; the
 * receiver gives them back with `streamCredit` as it uses them up.
 *
 * Neutral. Pure.
 */
import { Type } from "typebox";
import { bytes, count, direction, list, numbers, text } from "./schema.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Unacknowledged bytes of one stream in one direction. Four TLS records of full size and their overhead. */
export const STREAM_WINDOW = 256 * KiB;
/** Streams at the same time over one boundary. */
export const STREAMS_MAX = 16 * KiB;
/** Bytes of one ledger entry, and of one message of several. */
export const ENTRY_BYTES_MAX = 32 * MiB;
/** Bytes of one frame on the descriptor. */
export const FRAME_BYTES_MAX = ENTRY_BYTES_MAX + MiB;

export const toEnclave = direction({
  /** Sent once, first. A lie in it is a configuration: it decides which service this node is part of, and is measured where it matters. */
  start: { config: text(4 * MiB) },
  /** Time passed on the host's clock. A lie costs liveness and certificate dates, never safety. */
  tick: { elapsedMs: count() },

  /** A client connected to an RPC interface, or a peer's host opened a stream. `peer` is a hint; the channel proves. */
  streamOpened: { stream: count(), protocol: Type.Enum(["rpc", "peer"]), interface: text(128), from: text(256) },
  /** An outgoing stream that the enclave asked for is connected. A lie: the TLS handshake inside fails. */
  streamConnected: { stream: count() },
  /** Bytes of a stream. Forged, repeated or reordered ones fail TLS's record protection and end that stream. */
  streamData: { stream: count(), data: bytes(STREAM_WINDOW) },
  /** The host took these bytes of ours off its hands. A lie costs the host its own memory. */
  streamCredit: { stream: count(), bytes: count() },
  /** No more bytes will come; `error` is for people. Truncation is caught by TLS and by message lengths inside. */
  streamEnded: { stream: count(), error: text(256) },

  /** All ledger operations up to `op` are fsynced. Cannot be checked: durability is a claim about the host's disk. */
  ledgerDurable: { op: count() },
  /** Entries from the store, in order from the asked seqno. Each is opened with the ledger secret: a changed one is a halt. */
  ledgerRange: { request: count(), entries: list(bytes(ENTRY_BYTES_MAX), 4096) },
  /** Leave: hand over leadership, finish what is in flight. */
  stop: {},
});

export const toHost = direction({
  /** The enclave is up; `node` is its identity. */
  started: { node: text(64), confidential: Type.Boolean() },

  /** Connect to an RPC address of another node, or open a stream to a peer's host. */
  streamOpen: { stream: count(), protocol: Type.Enum(["rpc", "peer"]), address: text(256) },
  streamData: { stream: count(), data: bytes(STREAM_WINDOW) },
  streamCredit: { stream: count(), bytes: count() },
  /** Finish sending and close; `abort` drops what is queued. */
  streamEnd: { stream: count(), abort: Type.Boolean() },

  /** Append entries `first`, `first`+1, … in order; report `op` when they are fsynced. */
  ledgerAppend: { op: count(), first: count(), entries: list(bytes(ENTRY_BYTES_MAX), 65536) },
  /** Remove every entry after `after`; report `op` likewise. */
  ledgerTruncate: { op: count(), after: count() },
  /** Everything up to `seqno` is committed: never truncate below. */
  ledgerCommit: { seqno: count() },
  /** Read entries first..last; fewer may come back (at least one), none only beyond the end. */
  ledgerRead: { request: count(), first: count(), last: count() },

  /** A public document for the operator: one of a few certificates, PEM. */
  publish: { name: Type.Enum(["nodecert.pem", "service_cert.pem"]), content: text(64 * KiB) },
  /** Where this node stands, for probes and metrics. Nothing here is secret. */
  status: {
    state: text(32),
    role: text(32),
    view: count(),
    primary: text(64),
    lastSeqno: count(),
    commitSeqno: count(),
    sessions: numbers(16),
  },
  /** One line for the operator's log. The enclave writes no user data here. */
  log: { level: Type.Enum(["info", "warn", "error"]), message: text(4 * KiB) },
  /** The enclave ends; `fatal` means that it refused to go on, and why. */
  stopped: { why: text(4 * KiB), fatal: Type.Boolean() },
});
