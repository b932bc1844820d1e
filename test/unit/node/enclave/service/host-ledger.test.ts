import { expect, test } from "vitest";
import { hostLedger } from "../../../../../node/enclave/service/host-ledger.ts";

type Sent = Parameters<Parameters<typeof hostLedger>[0]>[0];

function recorded() {
  const sent: Sent[] = [];
  return { sent, ledger: hostLedger((message) => sent.push(message)) };
}

test("an append that fits crosses whole", () => {
  const { sent, ledger } = recorded();
  const entries = [Buffer.alloc(10, 1), Buffer.alloc(20, 2)];
  ledger.append(7, 5, entries, true);
  expect(sent).toEqual([{ kind: "ledgerAppend", op: 7, first: 5, urgent: true, entries }]);
});

test("a large append crosses in parts, of which only the last ends the operation", () => {
  const { sent, ledger } = recorded();
  const entries = Array.from({ length: 9 }, (_, i) => Buffer.alloc(3 * 1024 * 1024, i));
  ledger.append(7, 100, entries, false);
  const parts = sent.flatMap((message) => (message.kind === "ledgerAppend" ? [message] : []));
  expect(parts.map(({ op }) => op)).toEqual([6, 6, 6, 6, 7]);
  expect(parts.flatMap((part) => part.entries.map((entry, i) => [part.first + i, entry[0]]))).toEqual(
    entries.map((_, i) => [100 + i, i]),
  );
});

test("an answer goes to the one who asked, once, and an answer to nobody is dropped", async () => {
  const { sent, ledger } = recorded();
  const read = ledger.read(3, 4);
  ledger.answered({ kind: "ledgerRange", request: 99, entries: [] });
  const [asked] = sent;
  const request = asked?.kind === "ledgerRead" ? asked.request : 0;
  ledger.answered({ kind: "ledgerRange", request, entries: [Buffer.from("a")] });
  ledger.answered({ kind: "ledgerRange", request, entries: [Buffer.from("b")] });
  expect(await read).toEqual([Buffer.from("a")]);
});
