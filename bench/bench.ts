/**
 * `npm run bench`: a three-node consortium beside a three-node etcd, on this machine, in this run.
 *
 * Both stay up for the whole run and take turns, so that whatever else the machine does happens to both. A figure is the
 * middle run of `--reps`. Rates and latencies of different runs, hours or machines do not compare; CPU per operation
 * nearly does. Nothing is asserted here: a benchmark reports.
 *
 *   npm run bench -- [--secs 3] [--warm 1] [--reps 3] [--clients 1,16,64,256] [--sizes 20,1024] [--no-etcd] [--json FILE]
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type CamerataCluster, startCamerata } from "./camerata-cluster.ts";
import { type EtcdCluster, etcdVersion, startEtcd } from "./etcd-cluster.ts";
import { drive, middle, type Operation, type Result } from "./load.ts";
import { residentMib } from "./processes.ts";

const { values } = parseArgs({
  options: {
    secs: { type: "string", default: "3" },
    warm: { type: "string", default: "1" },
    reps: { type: "string", default: "3" },
    clients: { type: "string", default: "1,16,64,256" },
    sizes: { type: "string", default: "20,1024" },
    port: { type: "string", default: "18000" },
    dir: { type: "string" },
    etcd: { type: "boolean", default: true },
    json: { type: "string" },
  },
  allowNegative: true,
});
const numbers = (text: string) => text.split(",").map(Number);
const print = (line = "") => process.stdout.write(`${line}\n`);
const fixed = (value: number, digits = 2) => value.toFixed(digits);

/** Ports: three nodes with two each, then etcd's six. */
const ETCD_PORT_OFFSET = 500;

type Pair = { ours: Result; theirs: Result | undefined };

async function main(): Promise<void> {
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), "camerata-bench-"));
  mkdirSync(directory, { recursive: true });
  const withEtcd = values.etcd && etcdVersion() !== undefined;
  if (values.etcd && !withEtcd)
    print("etcd is not installed, so there is no peer to compare with; on Debian: apt-get install etcd-server");
  const port = Number(values.port);
  let ours: CamerataCluster | undefined;
  let theirs: EtcdCluster | undefined;
  try {
    ours = await startCamerata(directory, port);
    theirs = withEtcd ? await startEtcd(directory, port + ETCD_PORT_OFFSET) : undefined;
    printHead(ours, theirs);
    const pairs: Pair[] = [];
    for (const operation of ["write", "read"] as const)
      for (const messageBytes of numbers(values.sizes)) {
        printTableHead(operation, messageBytes);
        for (const clients of numbers(values.clients)) {
          const pair = await measure(ours, theirs, operation, clients, messageBytes);
          pairs.push(pair);
          print(tableLine(pair));
        }
      }
    printMemory(ours, theirs);
    if (values.json !== undefined)
      writeFileSync(values.json, `${JSON.stringify({ firstCommitMs: ours.firstCommitMs, pairs }, undefined, 1)}\n`);
  } finally {
    await ours?.stop();
    await theirs?.stop();
    if (values.dir === undefined) rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(
  ours: CamerataCluster,
  theirs: EtcdCluster | undefined,
  operation: Operation,
  clients: number,
  messageBytes: number,
): Promise<Pair> {
  const load = { operation, clients, messageBytes, warmSeconds: Number(values.warm), seconds: Number(values.secs) };
  const found: { ours: Result[]; theirs: Result[] } = { ours: [], theirs: [] };
  for (let run = 0; run < Number(values.reps); run++) {
    // Turn about, and not always the same one first.
    const order = run % 2 === 0 ? (["ours", "theirs"] as const) : (["theirs", "ours"] as const);
    for (const who of order) {
      const target = who === "ours" ? ours : theirs;
      if (target !== undefined) found[who].push(await drive(target, load));
    }
  }
  return { ours: middle(found.ours), theirs: found.theirs.length === 0 ? undefined : middle(found.theirs) };
}

function printHead(ours: CamerataCluster, theirs: EtcdCluster | undefined): void {
  const processor = cpus();
  print(
    `# ${new Date().toISOString()}; ${processor.length} CPUs ${processor[0]!.model}; Node ${process.versions.node}`,
  );
  print(
    `# load average before: ${loadavg()
      .map((value) => fixed(value))
      .join(" ")}; generator on the same CPUs`,
  );
  print(
    `# middle of ${values.reps} runs of ${values.secs} s after ${values.warm} s; one TLS 1.3 connection a client, one operation outstanding`,
  );
  print("# camerata: 3 validators, platform virtual, CFT; a write is POST /app/log/private answered when committed");
  print("#   durability class D: fsynced on a majority and covered by a signed Merkle root before the reply");
  print(`#   from \`camerata dev\` to the first committed write: ${fixed(ours.firstCommitMs / 1000)} s`);
  if (theirs !== undefined) {
    print(`# etcd ${theirs.version}: 3 members, TLS between clients and members; a write is Put at the leader`);
    print(
      "#   durability class D: fdatasync on a majority before the reply; reads are serializable (one member's state), as ours",
    );
    print(`#   from start to a leader: ${fixed(theirs.startMs / 1000)} s`);
  }
}

function printTableHead(operation: Operation, messageBytes: number): void {
  print();
  print(`${operation === "write" ? "Committed writes" : "Reads"}, ${messageBytes} B`);
  print(
    "| clients | camerata /s | etcd /s | ratio | p50 ms | etcd | p99 ms | etcd | server CPU us/op | etcd | errors |",
  );
  print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
}

function tableLine({ ours, theirs }: Pair): string {
  const peer = (value: (result: Result) => string) => (theirs === undefined ? "-" : value(theirs));
  const cells = [
    ours.clients,
    Math.round(ours.perSecond),
    peer((result) => String(Math.round(result.perSecond))),
    peer((result) => fixed(ours.perSecond / result.perSecond)),
    fixed(ours.p50Ms),
    peer((result) => fixed(result.p50Ms)),
    fixed(ours.p99Ms),
    peer((result) => fixed(result.p99Ms)),
    Math.round(ours.serverCpuMicros),
    peer((result) => String(Math.round(result.serverCpuMicros))),
    `${ours.errors}${ours.firstError === undefined ? "" : ` (${ours.firstError})`}${peer((result) => ` / ${result.errors}`).replace("-", "")}`,
  ];
  return `| ${cells.join(" | ")} |`;
}

function printMemory(ours: CamerataCluster, theirs: EtcdCluster | undefined): void {
  print();
  print("Resident memory after the load, MiB");
  print(`  camerata  ${ours.processes.map(({ name, pid }) => `${name} ${Math.round(residentMib(pid))}`).join("  ")}`);
  if (theirs !== undefined)
    print(`  etcd      ${theirs.pids.map((pid, index) => `n${index} ${Math.round(residentMib(pid))}`).join("  ")}`);
  print(
    `load average after: ${loadavg()
      .map((value) => fixed(value))
      .join(" ")}`,
  );
}

await main();
