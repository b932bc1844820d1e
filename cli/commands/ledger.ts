/**
 * `camerata ledger`: a node's ledger on this disk, read without any key and without the node.
 *
 * The directory is a stopped node's store, or a directory of chunk files as CCF writes them; which of the two is told from
 * what lies in it.
 *
 * An auditor's or operator's machine.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readStoredLedger } from "../../node/host/ledger-store.ts";
import { Fault } from "../../protocol/check.ts";
import { formatTxId } from "../../protocol/ids.ts";
import { ChunkSplitter, type FinishedChunk, parseChunk, parseChunkFileName } from "../../protocol/ledger/chunk.ts";
import { readPublic } from "../../protocol/ledger/entry.ts";
import { LedgerVerifier, type VerifyReport } from "../../protocol/ledger/verify.ts";
import type { Session } from "../client/session.ts";
import { CliError, usageError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { argument, type Declare } from "./group.ts";

type ExportOptions = { committed?: boolean };
type LsOptions = { from: string; to?: string };

export const declare: Declare = (group, act) => {
  group
    .command("verify")
    .description(
      "check every byte offline: hashes, Merkle roots, signatures; exit 6 and the seqno where it does not hold",
    )
    .argument("<directory>", "a stopped node's store, or a directory of chunk files")
    .action(act(verify));
  group
    .command("export")
    .description("write chunk files that CCF's tools read")
    .argument("<store>", "a stopped node's store")
    .argument("<directory>", "where to; must not hold chunk files yet")
    .option(
      "--committed",
      "end at the last signature and close the last chunk: readers of committed files then see it all",
    )
    .action(act(exportChunks));
  group
    .command("ls")
    .description("the entries and the public tables they write")
    .argument("<directory>", "a stopped node's store, or a directory of chunk files")
    .option("--from <seqno>", "first entry", "1")
    .option("--to <seqno>", "last entry")
    .action(act(list));
};

async function verify(session: Session, args: readonly string[]): Promise<void> {
  const directory = argument(args, 0);
  const step = session.output.step(`verifying ${directory}`);
  let report: VerifyReport;
  try {
    const verifier = new LedgerVerifier();
    for await (const entry of entriesIn(directory)) await verifier.add(entry);
    report = await verifier.finish();
  } catch (error) {
    step.failed();
    throw verificationError(directory, error);
  }
  step.done(`${report.entries} entries, ${report.signatures} signatures, all good`);
  session.output.record(
    {
      entries: report.entries,
      signatures: report.signatures,
      verified_until: report.verifiedUntil === undefined ? undefined : formatTxId(report.verifiedUntil),
      unverified_tail: report.unverifiedTail,
      root: report.root,
      service: report.service?.id,
    },
    "verified_until",
  );
  if (report.verifiedUntil === undefined)
    throw new CliError({
      id: "E-LEDGER-UNSIGNED",
      exit: EXIT.verification,
      headline: "nothing in this ledger is signed",
      fix: "a node signs its first entries at once: this is the beginning of a ledger that was cut off",
    });
  session.output.say(
    "compare service and verified_until with what you know from elsewhere: a ledger may be cut off at a signature",
  );
}

async function exportChunks(session: Session, args: readonly string[], options: ExportOptions): Promise<void> {
  const [store, directory] = [argument(args, 0), argument(args, 1)];
  mkdirSync(directory, { recursive: true });
  if (chunkNames(directory).length > 0)
    throw new CliError({
      id: "E-DIRECTORY-FOREIGN",
      exit: EXIT.state,
      headline: `${directory} holds chunk files already`,
      fix: "choose an empty directory",
    });
  const splitter = new ChunkSplitter();
  const written: { file: string; first: number; last: number; bytes: number }[] = [];
  const write = (chunks: readonly FinishedChunk[]) => {
    for (const { name, first, last, bytes } of chunks) {
      writeFileSync(join(directory, name), bytes, { flag: "wx" });
      written.push({ file: name, first, last, bytes: bytes.length });
    }
  };
  for await (const entry of options.committed === true ? signedEntries(store) : readStoredLedger(store))
    write(splitter.add(entry));
  const rest = splitter.finish(options.committed === true ? "committed" : "open");
  if (rest !== undefined) write([rest]);
  session.output.list(written, ["file", "first", "last", "bytes"], "file");
}

async function list(session: Session, args: readonly string[], options: LsOptions): Promise<void> {
  const from = Number(options.from);
  const to = options.to === undefined ? Number.MAX_SAFE_INTEGER : Number(options.to);
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to))
    throw usageError("--from and --to are seqnos", "use whole numbers");
  const rows = [];
  let seqno = 0;
  for await (const entry of entriesIn(argument(args, 0))) {
    seqno += 1;
    if (seqno > to) break;
    if (seqno < from) continue;
    const found = readPublic(entry);
    rows.push({
      tx: formatTxId(found),
      bytes: entry.length,
      private: found.hasPrivate,
      tables: [...found.writes.keys()].join(" "),
    });
  }
  session.output.list(rows, ["tx", "bytes", "private", "tables"], "tx");
}

/** Entries of a store or of chunk files, in order. */
async function* entriesIn(directory: string): AsyncGenerator<Uint8Array> {
  const names = existsSync(directory) ? chunkNames(directory) : [];
  if (names.length === 0) return yield* readStoredLedger(directory);
  const chunks = names.map((name) => ({ name, ...parseChunkFileName(name) })).sort((a, b) => a.first - b.first);
  let expected = 1;
  for (const { name, first } of chunks) {
    if (first !== expected) throw gap(directory, expected, first);
    const { entries } = parseChunk(readFileSync(join(directory, name)));
    yield* entries;
    expected += entries.length;
  }
}

/** The entries of a store up to its last signature transaction, which is found on a first pass. */
async function* signedEntries(store: string): AsyncGenerator<Uint8Array> {
  let until = 0;
  let seqno = 0;
  for await (const entry of readStoredLedger(store)) {
    seqno += 1;
    if (readPublic(entry).writes.has(SIGNATURES)) until = seqno;
  }
  seqno = 0;
  for await (const entry of readStoredLedger(store)) if (++seqno <= until) yield entry;
}

const SIGNATURES = "public:ccf.internal.signatures";

function chunkNames(directory: string): string[] {
  return readdirSync(directory).filter((name) => /^ledger_\d+(?:-\d+)?(?:\.committed)?(?:\.recovery)?$/.test(name));
}

function gap(directory: string, expected: number, first: number): CliError {
  return new CliError({
    id: "E-LEDGER-GAP",
    exit: EXIT.verification,
    headline: `entries from seqno ${expected} to ${first - 1} are missing in ${directory}`,
    fix: "add the chunk files that hold them, from this or any other node",
  });
}

/** What the ledger fails by is the answer that was asked for: exit 6, with the seqno where it is known. */
function verificationError(directory: string, error: unknown): unknown {
  if (!(error instanceof Fault)) return error;
  const { code, seqno } = error.detail as { code: string; seqno?: number };
  if (code === "LedgerLocked" || code === "LedgerMissing" || code === "LedgerFormatUnknown")
    return new CliError(
      {
        id: "E-LEDGER-STORE",
        exit: code === "LedgerMissing" ? EXIT.notFound : EXIT.state,
        headline: error.message,
        fix: "name the ledger directory of a node that is stopped",
      },
      { cause: error },
    );
  const at = seqno === undefined ? "" : ` at seqno ${seqno}`;
  return new CliError(
    {
      id: "E-LEDGER-INVALID",
      exit: EXIT.verification,
      headline: `the ledger in ${directory} does not hold${at}`,
      what: error.message,
      why: code,
      fix: "do not trust anything from there on; compare with the ledger of another node",
    },
    { cause: error },
  );
}
