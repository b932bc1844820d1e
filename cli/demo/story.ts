/**
 * The story of a consortium, told in front of the user: what `npm start` shows.
 *
 * Members admit a user by vote; the user writes confidential records and waits for each to be committed; another node
 * gives them back; a member loses the others' trust, is voted out, and is refused. Every step is checked: a step that does
 * not come out as told ends the story with an error.
 *
 * A member's machine and a user's at once.
 */
import { relative } from "node:path";
import type { ServiceClient } from "../../governance/member/client.ts";
import { createProposal } from "../../governance/member/voting.ts";
import type { Identity } from "../client/context.ts";
import { clientOf, isRefusal, sendAccepted, signerOf } from "../client/session.ts";
import { type DevNetwork, short } from "../dev/network.ts";
import { showNetwork } from "../dev/summary.ts";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import type { Output } from "../terminal/output.ts";
import { type DemoRecord, demoRecords, RECORDS_FILE } from "./records.ts";

/** Writers at once, each with a connection of its own: enough to show group commit, few enough to show latency. */
const WRITERS = 8;
const READERS = 4;
const REQUEST_MS = 10_000;

type Written = Readonly<{ txIds: readonly string[]; latenciesMs: readonly number[]; elapsedMs: number }>;

/**
 * @param startedMs when the network began to start, on the clock of `performance.now()`.
 * @param stays the network stays up after the story: there is something to try.
 */
export async function story(network: DevNetwork, output: Output, startedMs: number, stays: boolean): Promise<void> {
  output.say(`\n${output.paint("bold", "A user is admitted")}`);
  const admission = await network.addUser("user0");
  await network.writeReady();
  const user = network.users[0]!;

  output.say(`\n${output.paint("bold", "Confidential records")} ${output.paint("dim", RECORDS_FILE)}`);
  const records = demoRecords();
  const writing = output.step(`${user.name} submits ${records.length} records and waits for each to be committed`);
  const written = await writeAll(network, user, records);
  writing.done(
    `${user.name} submitted ${records.length} records, every one committed · ${rate(records.length, written.elapsedMs)}/s`,
  );

  const other = network.nodes.at(-1)!;
  const reading = output.step(`${user.name} reads them back from node ${other.process.index}`);
  await readAll(network, user, records, other.process.addresses.rpc);
  reading.done(`node ${other.process.index} gave all ${records.length} back, word for word`);

  const removal = network.members.length > 1 ? await removeMember(network, output) : undefined;
  await network.writeReady();

  output.say(`\n${output.paint("bold", "Summary")}`);
  const row = (name: string, text: string) => output.say(`  ${name.padEnd(26)} ${text}`);
  row("from start to here", `${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  row("service identity", network.serviceId());
  row("user admitted", `proposal ${short(admission.proposal.proposalId)} · transaction ${admission.txId ?? "-"}`);
  row("records", `${records.length} · transactions ${written.txIds[0]} to ${written.txIds.at(-1)}`);
  row(
    "commit latency",
    `p50 ${quantile(written.latenciesMs, 0.5)} ms · p99 ${quantile(written.latenciesMs, 0.99)} ms · ${WRITERS} clients at once`,
  );
  if (removal !== undefined)
    row("member removed", `proposal ${short(removal.proposalId)} · transaction ${removal.txId ?? "-"}`);
  const directory = relative(".", network.directory) || ".";
  row("service certificate", `${directory}/service_cert.pem`);
  row("user's certificate and key", `${directory}/user0_cert.pem · ${directory}/user0_privk.pem`);
  row("members' keys", network.members.map((member) => `${directory}/${member.name}_privk.pem`).join(" · "));
  if (stays) await showNetwork(network, output);
}

async function writeAll(network: DevNetwork, user: Identity, records: readonly DemoRecord[]): Promise<Written> {
  const address = network.nodes[0]!.process.addresses.rpc;
  const txIds: string[] = records.map(() => "");
  const latenciesMs: number[] = [];
  const start = performance.now();
  await inParallel(
    WRITERS,
    records,
    () => clientOf(network.context(), address, REQUEST_MS, user),
    async (client, record, at) => {
      const sent = performance.now();
      const answer = await sendAccepted(client, {
        method: "POST",
        path: "/app/log/private",
        headers: { "content-type": "application/json", "x-camerata-wait": "committed" },
        body: JSON.stringify({ id: record.id, msg: record.message }),
      });
      latenciesMs.push(performance.now() - sent);
      if (answer.txId === undefined)
        throw untold("an answer had no transaction id", "the node answered a write without saying where it is");
      txIds[at] = answer.txId;
    },
  );
  return { txIds, latenciesMs, elapsedMs: performance.now() - start };
}

async function readAll(
  network: DevNetwork,
  user: Identity,
  records: readonly DemoRecord[],
  address: string,
): Promise<void> {
  await inParallel(
    READERS,
    records,
    () => clientOf(network.context(), address, REQUEST_MS, user),
    async (client, record) => {
      const answer = await sendAccepted(client, { method: "GET", path: `/app/log/private?id=${record.id}` });
      const { msg } = JSON.parse(answer.body.toString("utf8")) as { msg?: unknown };
      if (msg !== record.message) throw untold(`record ${record.id} came back changed`, `from ${address}`);
    },
  );
}

async function removeMember(network: DevNetwork, output: Output) {
  output.say(`\n${output.paint("bold", "A member loses the others' trust")}`);
  const outcast = network.members.at(-1)!;
  const remaining = network.members.slice(0, -1);
  const decision = await network.decideAloud(`remove ${outcast.name}`, [
    { name: "remove_member", args: { member_id: outcast.id } },
  ]);

  const refusing = output.step(`${outcast.name} proposes to come back`);
  const again = [{ name: "set_member", args: { cert: outcast.certificatePem } }];
  try {
    await createProposal(network.client(), signerOf(outcast), again);
  } catch (error) {
    if (!isRefusal(error, "InvalidAuthenticationInfo")) throw error;
    refusing.done(`${outcast.name} proposed to come back, and was refused`);
    network.members.splice(0, network.members.length, ...remaining);
    return { proposalId: decision.proposal.proposalId, txId: decision.txId };
  }
  refusing.failed();
  throw untold(
    `${outcast.name} could still propose after it was removed`,
    "the service accepted a stranger's proposal",
  );
}

/** Several workers, each with a client of its own, take items in order until there are none. */
async function inParallel<T>(
  workers: number,
  items: readonly T[],
  open: () => ServiceClient,
  work: (client: ServiceClient, item: T, at: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    const client = open();
    try {
      while (next < items.length) {
        const at = next++;
        await work(client, items[at]!, at);
      }
    } finally {
      client.close();
    }
  };
  await Promise.all(Array.from({ length: Math.min(workers, items.length) }, worker));
}

function untold(headline: string, why: string): CliError {
  return new CliError({
    id: "E-STORY",
    exit: EXIT.refused,
    headline,
    why,
    fix: "this must not happen: please report it with the logs in nodes/*/host.log",
  });
}

function rate(count: number, elapsedMs: number): number {
  return Math.round((count * 1000) / elapsedMs);
}

function quantile(values: readonly number[], q: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!.toFixed(1);
}
