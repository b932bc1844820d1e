/** The ledger store's contract in its simplest form: an array. Durable at the end of the turn. */
import type { LedgerStore, LedgerStoreFault, LedgerStoreParts } from "../../node/host/ledger-store.ts";
import { READ_BYTES_MAX, READ_ENTRIES_MAX } from "../../node/host/ledger-store.ts";
import { Fault } from "../../protocol/check.ts";

export function createMemoryLedgerStore(parts: LedgerStoreParts): LedgerStore {
  const entries: Uint8Array[] = [];
  let committed = 0;
  let failed = false;
  const fail = (detail: LedgerStoreFault) => {
    if (!failed) parts.onFault(new Fault<LedgerStoreFault>(detail));
    failed = true;
  };
  const durable = (op: number) => queueMicrotask(() => !failed && parts.onDurable(op));
  return {
    last: () => entries.length,
    append(op, first, added) {
      if (first !== entries.length + 1) return fail({ code: "LedgerGap", seqno: first });
      entries.push(...added.map((entry) => Buffer.from(entry)));
      durable(op);
    },
    truncate(op, after) {
      if (after < committed) return fail({ code: "LedgerCommitted", seqno: committed });
      entries.length = Math.min(entries.length, after);
      durable(op);
    },
    commit(seqno) {
      if (seqno > entries.length) return fail({ code: "LedgerGap", seqno });
      committed = Math.max(committed, seqno);
    },
    async read(first, last) {
      const found: Uint8Array[] = [];
      let sizeBytes = 0;
      for (const entry of first < 1 ? [] : entries.slice(first - 1, last)) {
        sizeBytes += entry.length;
        if (found.length > 0 && (sizeBytes > READ_BYTES_MAX || found.length >= READ_ENTRIES_MAX)) break;
        found.push(entry);
      }
      return found;
    },
    async close() {},
  };
}
