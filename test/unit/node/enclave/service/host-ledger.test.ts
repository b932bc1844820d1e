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
  expect(sent).toEqual([{ kind: "ledgerAppend", op: 7, first: 5, entries }]);
});

test("a large append crosses in parts, of which only the last ends the operation", () => {
  const { sent, ledger } = recorded();
  const entries = Array.from({ length: 9 }, (_, i) => Buffer.alloc(3 * 1024 * 1024, i));
  ledger.append(7, 100, entries, true);
  const parts = sent.flatMap((message) => (message.kind === "ledgerAppend" ? [message] : []));
  expect(parts.map(({ op }) => op)).toEqual([6, 6, 6, 6, 7]);
  expect(parts.flatMap((part) => part.entries.map((entry, i) => [part.first + i, entry[0]]))).toEqual(
    entries.map((_, i) => [100 + i, i]),
  );
});

test("what is not urgent crosses with what is, under the later operation", () => {
  const { sent, ledger } = recorded();
  const [a, b, c] = [1, 2, 3].map((n) => Buffer.alloc(10, n)) as [Buffer, Buffer, Buffer];
  ledger.append(1, 1, [a], false);
  ledger.append(2, 2, [b], false);
  expect(sent).toEqual([]);
  ledger.append(3, 3, [c], true);
  expect(sent).toEqual([{ kind: "ledgerAppend", op: 3, first: 1, entries: [a, b, c] }]);
});

test.each(["flush", "truncate", "read"] as const)("what was held back crosses before a %s", (what) => {
  const { sent, ledger } = recorded();
  ledger.append(4, 9, [Buffer.alloc(10)], false);
  if (what === "flush") ledger.flush();
  else if (what === "truncate") ledger.truncate(5, 8);
  else void ledger.read(9, 9);
  expect(sent[0]).toMatchObject({ kind: "ledgerAppend", op: 4, first: 9 });
  ledger.flush();
  expect(sent.filter(({ kind }) => kind === "ledgerAppend").length).toBe(1);
});

test("the host is not spared more than a bounded number of bytes", () => {
  const { sent, ledger } = recorded();
  ledger.append(1, 1, [Buffer.alloc(600 * 1024)], false);
  ledger.append(2, 2, [Buffer.alloc(600 * 1024)], false);
  expect(sent).toMatchObject([{ kind: "ledgerAppend", op: 2, first: 1 }]);
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
