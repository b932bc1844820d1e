/**
 * The ledger on the host's disk, through the boundary.
 *
 * A leader's unsigned entries are of no use on the disk, so they wait here for their signature: the host is woken once
 * and syncs once for both.
 *
 * Trusted.
 */

import type { Seqno } from "../../../protocol/ids.ts";
import type { toEnclave, toHost } from "../../boundary/messages.ts";
import type { MessageOf } from "../../boundary/schema.ts";
import type { HostLedger } from "./replica.ts";

type ToHost = MessageOf<typeof toHost>;
type Range = Extract<MessageOf<typeof toEnclave>, { kind: "ledgerRange" }>;

/** Parts in which a large append crosses: an entry of the largest size still fits a frame beside its own message. */
const PART_BYTES_MAX = 8 * 1024 * 1024;
const PART_ENTRIES_MAX = 16_384;
/** Entries that are not urgent are held back up to this. */
const HELD_BYTES_MAX = 1024 * 1024;

export type HostLedgerPort = HostLedger & Readonly<{ answered(message: Range): void }>;

export function hostLedger(send: (message: ToHost) => void): HostLedgerPort {
  const reads = new Map<number, (entries: readonly Uint8Array[]) => void>();
  let lastRequest = 0;
  let held: { op: number; first: Seqno; entries: Uint8Array[]; sizeBytes: number } | undefined;

  function flush(): void {
    if (held === undefined) return;
    const { op, first, entries } = held;
    held = undefined;
    let from = 0;
    let sizeBytes = 0;
    for (const [index, entry] of entries.entries()) {
      if (index > from && (sizeBytes + entry.length > PART_BYTES_MAX || index - from === PART_ENTRIES_MAX)) {
        // Only the last part ends the operation; a report about the one before it says nothing new.
        send({ kind: "ledgerAppend", op: op - 1, first: first + from, entries: entries.slice(from, index) });
        from = index;
        sizeBytes = 0;
      }
      sizeBytes += entry.length;
    }
    send({ kind: "ledgerAppend", op, first: first + from, entries: entries.slice(from) });
  }

  return {
    append(op, first, entries, urgent) {
      held ??= { op, first, entries: [], sizeBytes: 0 };
      held.op = op;
      for (const entry of entries) {
        held.entries.push(entry);
        held.sizeBytes += entry.length;
      }
      if (urgent || held.sizeBytes >= HELD_BYTES_MAX) flush();
    },
    flush,
    truncate(op, after) {
      flush();
      send({ kind: "ledgerTruncate", op, after });
    },
    commit: (seqno) => send({ kind: "ledgerCommit", seqno }),
    read(first, last) {
      flush();
      const request = ++lastRequest;
      return new Promise((resolve) => {
        reads.set(request, resolve);
        send({ kind: "ledgerRead", request, first, last });
      });
    },
    // An answer that nobody asked for is dropped: it could only repeat what the host has said already.
    answered({ request, entries }) {
      reads.get(request)?.(entries);
      reads.delete(request);
    },
  };
}
