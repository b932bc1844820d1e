/**
 * The ledger on the host's disk, through the boundary.
 *
 * Trusted.
 */

import type { toEnclave, toHost } from "../../boundary/messages.ts";
import type { MessageOf } from "../../boundary/schema.ts";
import type { HostLedger } from "./replica.ts";

type ToHost = MessageOf<typeof toHost>;
type Range = Extract<MessageOf<typeof toEnclave>, { kind: "ledgerRange" }>;

export type HostLedgerPort = HostLedger & Readonly<{ answered(message: Range): void }>;

export function hostLedger(send: (message: ToHost) => void): HostLedgerPort {
  const reads = new Map<number, (entries: readonly Uint8Array[]) => void>();
  let lastRequest = 0;
  return {
    append: (op, first, entries) => send({ kind: "ledgerAppend", op, first, entries: [...entries] }),
    truncate: (op, after) => send({ kind: "ledgerTruncate", op, after }),
    commit: (seqno) => send({ kind: "ledgerCommit", seqno }),
    read(first, last) {
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
