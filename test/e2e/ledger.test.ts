/** Stopped ledgers, judged offline: stores that agree, bytes that were changed, chunk files for other people's tools. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Level } from "level";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readStoredLedger } from "../../node/host/ledger-store.ts";
import { parseTxId } from "../../protocol/ids.ts";
import { parseChunk, parseChunkFileName } from "../../protocol/ledger/chunk.ts";
import { splitEntries } from "../../protocol/ledger/entry.ts";
import { verifyLedger } from "../../protocol/ledger/verify.ts";
import { camerata, endAll, startConsortium, storedEntries, temporaryDirectory } from "./consortium.ts";
import { Load, settled } from "./load.ts";
import { isAlive } from "./processes.ts";

type Report = Readonly<{ entries: number; signatures: number; verified_until: string; root: string; service: string }>;

let stores: string[];
/** A copy of the first store, made before anybody has opened it. */
let asStopped: string;
let serviceId: string;
let committed: string[];
beforeAll(async () => {
  const consortium = await startConsortium({ users: 1 });
  const load = new Load(consortium, 1);
  await load.more(100);
  await load.stop();
  await settled(consortium, [0, 1, 2]);
  const last = new Load(consortium, 1000, 2);
  await last.more(20);
  const { nodes, service_id } = await consortium.ready();
  stores = nodes.map((node) => node.ledger);
  serviceId = service_id;
  // In the middle of writing: what was acknowledged until here must be found on the disk.
  expect(await consortium.stop()).toEqual({ code: 0, signal: null });
  await last.stop();
  asStopped = join(temporaryDirectory(), "ledger");
  cpSync(stores[0]!, asStopped, { recursive: true });
  committed = [...load.committed, ...last.committed].map(({ txId }) => txId!);
  for (const node of nodes) expect(isAlive(node.host_pid) || isAlive(node.enclave_pid)).toBe(false);
});
afterAll(endAll);

async function verify(directory: string): Promise<Report> {
  const { code, stdout, stderr } = await camerata(["-o", "json", "ledger", "verify", directory]);
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Report;
}

describe("after a graceful stop", () => {
  test("every node's ledger verifies, and is of this service", async () => {
    for (const store of stores) {
      const report = await verify(store);
      expect(report.service).toBe(serviceId);
      expect(report.entries).toBeGreaterThan(100);
      expect(report.signatures).toBeGreaterThan(1);
    }
  });

  test("they agree on everything that any two of them have signed", async () => {
    const ledgers = await Promise.all(stores.map(storedEntries));
    const reports = await Promise.all(ledgers.map(verifyLedger));
    const signed = reports.map((report) => report.verifiedUntil?.seqno ?? 0).sort((a, b) => a - b);
    const [first, ...others] = ledgers;
    for (const other of others)
      for (let at = 0; at < signed[1]!; at++)
        expect(
          first![at] === undefined || other[at] === undefined || Buffer.compare(first![at]!, other[at]!) === 0,
        ).toBe(true);
    // What was acknowledged is signed on a majority.
    const last = Math.max(...committed.map((id) => parseTxId(id).seqno));
    expect(signed[1]).toBeGreaterThanOrEqual(last);
  });
});

describe("a host that changes its ledger", () => {
  test.each([0.1, 0.5, 0.9])("is found out: one byte of an entry, at %d of the ledger", async (place) => {
    const store = join(temporaryDirectory(), "ledger");
    cpSync(stores[0]!, store, { recursive: true });
    const { verifiedUntil } = await verifyLedger(readStoredLedger(store));
    const seqno = Math.floor((verifiedUntil?.seqno ?? 0) * place);
    await changeEntry(store, seqno);
    const { code, stdout, stderr } = await camerata(["ledger", "verify", store]);
    expect(code).toBe(6);
    expect(stdout).toBe("");
    // Named is the entry, or the first signature that no longer fits what it signs.
    const named = Number(/at seqno (\d+)/.exec(stderr)?.[1]);
    expect(named).toBeGreaterThanOrEqual(seqno);
    expect(stderr).toContain("E-LEDGER-INVALID");
    if (named > seqno) expect(await signaturesBetween(seqno, named)).toBe(1);
  });

  test.each([0.02, 0.3, 0.6, 0.95])(
    "is found out: one byte of the newest file, at %d of it, whoever looks first",
    async (place) => {
      const store = join(temporaryDirectory(), "ledger");
      cpSync(asStopped, store, { recursive: true });
      const name = readdirSync(store).find((file) => file.endsWith(".log"))!;
      const bytes = readFileSync(join(store, name));
      bytes[Math.floor(bytes.length * place)]! ^= 1;
      writeFileSync(join(store, name), bytes);
      const looked = await camerata(["ledger", "verify", store]);
      expect(looked).toMatchObject({ code: 6, stdout: "" });
      expect(looked.stderr).toMatch(/at seqno \d+/);
      expect(looked.stderr).toContain(name);
      // To look has changed nothing: the next one sees the same.
      expect(readFileSync(join(store, name)).equals(bytes)).toBe(true);
      const again = await camerata(["ledger", "verify", store]);
      const errorIn = (text: string) => text.slice(text.indexOf("error:"));
      expect(errorIn(again.stderr)).toBe(errorIn(looked.stderr));
    },
  );

  test("a directory that holds no ledger is named as such", async () => {
    const empty = temporaryDirectory();
    const { code, stderr } = await camerata(["ledger", "verify", empty]);
    expect(code).toBe(3);
    expect(stderr).toContain(empty);
  });
});

describe("an export", () => {
  test("is chunk files that parse, hold every entry, and verify again", async () => {
    const directory = join(temporaryDirectory(), "chunks");
    const made = await camerata(["-o", "json", "ledger", "export", stores[1]!, directory]);
    expect(made.code, made.stderr).toBe(0);
    const entries = await storedEntries(stores[1]!);
    const names = readdirSync(directory).sort((a, b) => parseChunkFileName(a).first - parseChunkFileName(b).first);
    const exported = names.flatMap((name) => parseChunk(readFileSync(join(directory, name))).entries);
    expect(Buffer.concat(exported).equals(Buffer.concat(entries))).toBe(true);
    expect((await verify(directory)).root).toBe((await verify(stores[1]!)).root);
  });

  test("of what is committed ends at a signature, and all its files are called committed", async () => {
    const directory = join(temporaryDirectory(), "chunks");
    const made = await camerata(["ledger", "export", stores[1]!, directory, "--committed"]);
    expect(made.code, made.stderr).toBe(0);
    const names = readdirSync(directory);
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) expect(name).toMatch(/^ledger_\d+-\d+\.committed$/);
    const report = await verify(directory);
    expect(parseTxId(report.verified_until).seqno).toBe(report.entries);
  });

  test("with a byte changed does not verify any more", async () => {
    const directory = join(temporaryDirectory(), "chunks");
    await camerata(["ledger", "export", stores[1]!, directory]);
    const name = readdirSync(directory)[0]!;
    const bytes = readFileSync(join(directory, name));
    bytes[bytes.length >> 1]! ^= 0x80;
    writeFileSync(join(directory, name), bytes);
    expect((await camerata(["ledger", "verify", directory])).code).toBe(6);
  });

  test("never writes over another one", async () => {
    const directory = join(temporaryDirectory(), "chunks");
    expect((await camerata(["ledger", "export", stores[1]!, directory])).code).toBe(0);
    const again = await camerata(["ledger", "export", stores[1]!, directory]);
    expect(again.code).toBe(5);
  });
});

/** Changes the last byte of an entry in a store, as only somebody with the disk in hand can. */
async function changeEntry(store: string, seqno: number): Promise<void> {
  const database = new Level<Buffer, Buffer>(store, { keyEncoding: "buffer", valueEncoding: "buffer" });
  try {
    const limit = Buffer.concat([Buffer.from("e"), seqnoBytes(seqno)]);
    const [found] = await database.iterator({ gte: Buffer.from("e"), lte: limit, reverse: true, limit: 1 }).all();
    const [key, value] = found!;
    const first = Number(key.readBigUInt64BE(1));
    const entries = splitEntries(value).slice(0, seqno - first + 1);
    const end = entries.reduce((size, entry) => size + entry.length, 0);
    value[end - 1]! ^= 1;
    await database.put(key, value);
  } finally {
    await database.close();
  }
}

function seqnoBytes(seqno: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(seqno));
  return bytes;
}

/** Signatures from one entry to another, both included. */
async function signaturesBetween(from: number, to: number): Promise<number> {
  const entries = await storedEntries(stores[0]!);
  const upTo = async (seqno: number) => (await verifyLedger(entries.slice(0, seqno))).signatures;
  return (await upTo(to)) - (await upTo(from - 1));
}
