/**
 * Runs scenario files: small schedules written by hand, with what they lead to.
 *
 * The commands are those of CCF's raft driver (`tests/raft_scenarios`): one a line, arguments separated by commas, `#` for
 * comments. Ours group them in blocks separated by blank lines; after a line `----` follows what the block must print:
 * every change of role, commit, rollback and stop, and what the inspecting commands say. `REWRITE_SCENARIOS=1` writes what
 * was printed into the file, to be reviewed like code.
 *
 * Beyond CCF's commands: `crash`, `duplicate`, `dispatch_last` (the newest message of a link first), and disks that are
 * worked by hand (`disk,n,manual`, then `stable,n[,op]`). Without `disk` a write is stable as soon as it is made.
 *
 * The invariants of the simulator are checked after every step, and at the end everyone alive has to agree.
 */
import type { Configuration, Effect } from "../../node/enclave/consensus/core.ts";
import type { Mutations } from "../../node/enclave/consensus/mutations.ts";
import type { NodeId, Seqno, View } from "../../protocol/ids.ts";
import type { ConsensusMessage } from "../../protocol/wire/consensus.ts";
import { activeConfigurations, Checker } from "../sim/checker.ts";
import { describeMessage } from "../sim/describe.ts";
import { type Entry, ModelNode, type Surroundings } from "../sim/model-node.ts";

const MESSAGE_TIMEOUT_MS = 10;
const ELECTION_TIMEOUT_MS = 100;
const APPEND_BYTES_MAX = 1000;
const SYNC_ROUNDS_MAX = 40;

type Packet = Readonly<{ from: NodeId; to: NodeId; message: ConsensusMessage; entries: readonly Entry[] }>;

/** A part of a scenario file: what stands before the rule, and the commands in it. */
type Block = Readonly<{ lines: readonly string[]; commands: readonly string[] }>;

/** Runs a file's text. Returns it with what was printed in place of what was expected. */
export function runScenario(text: string, mutations: Mutations = {}): { printed: string } {
  const stage = new Stage(mutations);
  const blocks = parse(text);
  const printed: string[] = [];
  for (const block of blocks) {
    for (const command of block.commands) stage.run(command);
    const output = stage.takeOutput();
    printed.push([...block.lines, ...(output.length > 0 ? ["----", ...output] : [])].join("\n"));
  }
  stage.sync();
  return { printed: `${printed.join("\n\n")}\n` };
}

function parse(text: string): Block[] {
  const blocks: Block[] = [];
  for (const chunk of text.trimEnd().split(/\n\s*\n/)) {
    const all = chunk.split("\n").map((line) => line.trimEnd());
    const rule = all.indexOf("----");
    const lines = rule < 0 ? all : all.slice(0, rule);
    const commands = lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
    blocks.push({ lines, commands });
  }
  return blocks;
}

class Stage implements Surroundings {
  readonly #mutations: Mutations;
  readonly #nodes = new Map<NodeId, ModelNode>();
  readonly #checker = new Checker(this.#nodes);
  readonly #queues = new Map<NodeId, Packet[]>();
  readonly #cut = new Set<string>();
  readonly #manualDisks = new Set<NodeId>();
  #output: string[] = [];

  constructor(mutations: Mutations) {
    this.#mutations = mutations;
  }

  takeOutput(): string[] {
    const output = this.#output;
    this.#output = [];
    return output;
  }

  run(line: string): void {
    const [name = "", ...args] = line.split(",").map((part) => part.trim());
    const command = this.#commands[name];
    if (command === undefined) throw new Error(`unknown command: ${line}`);
    command(...args);
    this.#completeWrites();
  }

  /** With all links open and the disks at work, everyone alive must come to agree. */
  sync(): void {
    this.#cut.clear();
    this.#manualDisks.clear();
    this.#completeWrites();
    for (let round = 0; round < SYNC_ROUNDS_MAX; round++) {
      const primary = this.#primary();
      // All standing at once would tie for ever; the one that everyone can vote for goes first.
      if (primary === undefined) this.#mostComplete()?.tick(ELECTION_TIMEOUT_MS);
      if (primary !== undefined && (round === 0 || primary.mustSign)) this.#sign(primary);
      this.#periodicAll(MESSAGE_TIMEOUT_MS);
      this.#dispatchAll();
      if (round > 1 && this.#inSync()) return;
    }
    for (const node of this.#nodes.values()) this.#print(this.#state(node));
    throw new Error(`no agreement at the end:\n${this.takeOutput().join("\n")}`);
  }

  // ------------------------------------------------------------------------------ commands

  readonly #commands: Readonly<Record<string, (...args: string[]) => void>> = {
    start_node: (id = "") => {
      const node = this.#create(id, true);
      node.replicate([{ text: "genesis", configuration: configurationOf([id]) }]);
    },
    trust_node: (view = "", ...ids) => this.#trust(view, ids),
    trust_nodes: (view = "", ...ids) => this.#trust(view, ids),
    swap_node: (view = "", out = "", entering = "") => this.#reconfigure(view, [out], [entering]),
    swap_nodes: (view = "", ...args) => {
      const lists: Record<string, string[]> = { in: [], out: [] };
      let into: string[] | undefined;
      for (const arg of args) {
        if (arg === "in" || arg === "out") into = lists[arg];
        else into?.push(arg);
      }
      this.#reconfigure(view, lists["out"]!, lists["in"]!);
    },
    cleanup_nodes: (view = "", ...ids) => this.#leaderOf(view).replicate([{ text: "record", retiredCommitted: ids }]),
    replicate: (view = "", text = "") => this.#leaderOf(view).replicate([{ text }]),
    replicate_large: (view = "", text = "", size = "") =>
      this.#leaderOf(view).replicate([{ text, size: Number(size) }]),
    emit_signature: (view = "") => this.#sign(this.#leaderOf(view)),
    nominate_successor: (id = "") => this.#node(id).nominate(),
    periodic_one: (id = "", ms = "") => this.#node(id).tick(Number(ms)),
    periodic_all: (ms = "") => this.#periodicAll(Number(ms)),
    dispatch_all: () => this.#dispatchAll(),
    dispatch_all_once: () => this.#dispatchOnce(),
    dispatch_one: (id = "") => this.#take(id).forEach((packet) => this.#deliver(packet)),
    dispatch_single: (from = "", to = "") => this.#deliver(this.#takeSingle(from, to, false)),
    dispatch_last: (from = "", to = "") => this.#deliver(this.#takeSingle(from, to, true)),
    duplicate: (from = "", to = "") => {
      const packet = this.#queue(from).find((candidate) => candidate.to === to);
      if (packet === undefined) throw new Error(`nothing waits from ${from} to ${to}`);
      this.#queue(from).push(packet);
    },
    drop_pending: (id = "") => void this.#take(id),
    drop_pending_to: (from = "", to = "") => {
      const queue = this.#queue(from);
      queue.splice(0, queue.length, ...queue.filter((packet) => packet.to !== to));
    },
    connect: (a = "", b = "") => this.#link(a, b, true),
    reconnect: (a = "", b = "") => this.#link(a, b, true),
    disconnect: (a = "", b = "") => this.#link(a, b, false),
    disconnect_node: (id = "") => [...this.#nodes.keys()].forEach((other) => this.#link(id, other, false)),
    reconnect_node: (id = "") => [...this.#nodes.keys()].forEach((other) => this.#link(id, other, true)),
    crash: (id = "") => {
      this.#node(id).alive = false;
      this.#print(`${id}: crashed`);
    },
    disk: (id = "", how = "") => {
      if (how === "manual") this.#manualDisks.add(id);
      else this.#manualDisks.delete(id);
    },
    stable: (id = "", op = "") => {
      const node = this.#node(id);
      node.completeWrites(op === "" ? (node.writing.at(-1) ?? 0) : Number(op));
    },
    state_one: (id = "") => this.#print(this.#state(this.#node(id))),
    state_all: () => [...this.#nodes.values()].forEach((node) => this.#print(this.#state(node))),
    summarise_log: (id = "") => this.#print(this.#log(this.#node(id))),
    summarise_logs_all: () => [...this.#nodes.values()].forEach((node) => this.#print(this.#log(node))),
    summarise_messages: () => {
      for (const queue of this.#queues.values())
        for (const { from, to, message } of queue) this.#print(`${from} -> ${to} ${describeMessage(message)}`);
    },
    summarise_disks: () => {
      for (const { id, writing, status } of this.#nodes.values())
        this.#print(`${id}: stable ${status.stable}, writing op ${writing.join(" ") || "none"}`);
    },
    summarise_progress: (id = "") => {
      for (const [peer, { sent, match }] of this.#node(id).status.peers)
        this.#print(`${id}: sent ${peer} up to ${sent}, match ${match}`);
    },
    assert_commit_idx: (id = "", seqno = "") => this.#equal(this.#node(id).commit, Number(seqno), `commit of ${id}`),
    assert_last_txid: (id = "", txId = "") => this.#equal(name(this.#node(id).log.at(-1)), txId, `last entry of ${id}`),
    assert_detail: (id = "", key = "", value = "") => this.#equal(this.#detail(id, key), value, `${key} of ${id}`),
    "assert_!detail": (id = "", key = "", value = "") => {
      if (this.#detail(id, key) === value) throw new Error(`${key} of ${id} is ${value}`);
    },
    assert_config: (id = "", seqno = "", ...ids) => {
      const nodes = this.#node(id).status.configurations.find((configuration) => configuration.seqno === Number(seqno));
      this.#equal(
        [...(nodes?.nodes.keys() ?? [])].join(" "),
        [...ids].sort().join(" "),
        `configuration ${seqno} of ${id}`,
      );
    },
    assert_absent_config: (id = "", seqno = "") => {
      const { configurations } = this.#node(id).status;
      if (configurations.some((configuration) => configuration.seqno === Number(seqno)))
        throw new Error(`${id} has a configuration ${seqno}`);
    },
    assert_state_sync: () => {
      if (!this.#inSync()) throw new Error("the nodes differ");
    },
    loop_until_sync: () => this.sync(),
  };

  #trust(view: string, ids: readonly NodeId[]): void {
    for (const id of ids) this.#create(id, false);
    const everyone = [...this.#nodes.values()].filter(({ alive }) => alive).map(({ id }) => id);
    this.#leaderOf(view).replicate([{ text: "trust", configuration: configurationOf(everyone) }]);
  }

  #reconfigure(view: string, out: readonly NodeId[], entering: readonly NodeId[]): void {
    const leader = this.#leaderOf(view);
    const ids = new Set(leader.configurations.at(-1)?.configuration?.keys());
    for (const id of out) ids.delete(id);
    for (const id of entering) {
      this.#create(id, false);
      ids.add(id);
    }
    leader.replicate([{ text: "swap", configuration: configurationOf([...ids]) }]);
  }

  #sign(node: ModelNode): void {
    node.replicate([{ text: "signature", committable: true }]);
  }

  #periodicAll(elapsedMs: number): void {
    for (const node of this.#nodes.values()) node.tick(elapsedMs);
    this.#completeWrites();
  }

  #create(id: NodeId, first: boolean): ModelNode {
    if (this.#nodes.has(id)) throw new Error(`there is a node ${id} already`);
    const options = {
      self: id,
      messageTimeoutMs: MESSAGE_TIMEOUT_MS,
      electionTimeoutMs: ELECTION_TIMEOUT_MS,
      seed: this.#nodes.size,
      appendBytesMax: APPEND_BYTES_MAX,
    };
    const node = new ModelNode(options, first ? { kind: "start", view: 2 } : { kind: "join" }, this, this.#mutations);
    this.#nodes.set(id, node);
    return node;
  }

  #node(id: NodeId): ModelNode {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  }

  #primary(): ModelNode | undefined {
    let newest: ModelNode | undefined;
    for (const node of this.#nodes.values())
      if (node.alive && node.role === "leader" && node.view > (newest?.view ?? 0)) newest = node;
    return newest;
  }

  #mostComplete(): ModelNode | undefined {
    let best: ModelNode | undefined;
    for (const node of this.#nodes.values()) {
      if (!node.alive || !node.status.ticking) continue;
      const [a, b] = [node, best].map((it) => it?.log[it.lastSignature - 1]);
      if (b === undefined || (a !== undefined && (a.view > b.view || (a.view === b.view && a.seqno > b.seqno))))
        best = node;
    }
    return best;
  }

  #leaderOf(term: string): ModelNode {
    const view: View = term === "latest" ? (this.#primary()?.view ?? 0) : Number(term);
    const leader = [...this.#nodes.values()].find((node) => node.alive && node.role === "leader" && node.view === view);
    if (leader === undefined) throw new Error(`view ${term} has no leader`);
    return leader;
  }

  // ------------------------------------------------------------------------------ network and disks

  #queue(id: NodeId): Packet[] {
    let queue = this.#queues.get(id);
    if (queue === undefined) this.#queues.set(id, (queue = []));
    return queue;
  }

  #take(id: NodeId): Packet[] {
    return this.#queue(id).splice(0);
  }

  #takeSingle(from: NodeId, to: NodeId, newest: boolean): Packet {
    const queue = this.#queue(from);
    const matches = (packet: Packet): boolean => packet.to === to;
    const at = newest ? queue.findLastIndex(matches) : queue.findIndex(matches);
    if (at < 0) throw new Error(`nothing waits from ${from} to ${to}`);
    return queue.splice(at, 1)[0]!;
  }

  #dispatchAll(): void {
    for (let round = 0; round < 5; round++) this.#dispatchOnce();
  }

  #dispatchOnce(): void {
    const packets = [...this.#nodes.keys()].flatMap((id) => this.#take(id));
    for (const packet of packets) this.#deliver(packet);
  }

  #deliver({ from, to, message, entries }: Packet): void {
    if (this.#cut.has(`${from} ${to}`)) return;
    if (message.kind === "append_entries_response") this.#checker.answered(this.#node(to), from);
    this.#nodes.get(to)?.receive(from, message, entries);
    this.#completeWrites();
  }

  #link(a: NodeId, b: NodeId, open: boolean): void {
    for (const link of [`${a} ${b}`, `${b} ${a}`]) {
      if (open) this.#cut.delete(link);
      else this.#cut.add(link);
    }
  }

  #completeWrites(): void {
    for (const node of this.#nodes.values()) {
      if (this.#manualDisks.has(node.id)) continue;
      while (node.writing.length > 0 && node.alive && node.halted === undefined)
        node.completeWrites(node.writing.at(-1)!);
    }
  }

  // ------------------------------------------------------------------------------ what nodes do

  send(from: ModelNode, to: NodeId, message: ConsensusMessage, entries: readonly Entry[]): void {
    this.#checker.sent(from, to, message);
    this.#queue(from.id).push({ from: from.id, to, message, entries });
  }

  /** Disks work between commands, not within a step. */
  wrote(): void {}

  created(node: ModelNode, entry: Entry): void {
    this.#checker.created(node, entry);
  }

  appending(node: ModelNode, entry: Entry): void {
    this.#checker.appending(node, entry);
  }

  rollingBack(node: ModelNode, to: Seqno): void {
    this.#checker.rollingBack(node, to);
  }

  committing(node: ModelNode, seqno: Seqno): void {
    this.#checker.committing(node, seqno);
  }

  roleChanged(node: ModelNode): void {
    this.#checker.roleChanged(node);
  }

  /** The scenario answers with `cleanup_nodes`. */
  retired(): void {}

  stepped(node: ModelNode): void {
    this.#checker.stepped(node, false);
  }

  effect(node: ModelNode, effect: Effect): void {
    switch (effect.kind) {
      case "commit":
        return this.#print(`${node.id}: commits ${effect.seqno}`);
      case "rollback":
        return this.#print(`${node.id}: rolls back to ${effect.to}`);
      case "role": {
        const follows = effect.leader !== undefined && effect.role !== "leader" ? ` of ${effect.leader}` : "";
        return this.#print(`${node.id}: ${effect.role}${follows} in view ${effect.view}`);
      }
      case "retired":
        return this.#print(`${node.id}: is to record that ${effect.nodes.join(" ")} retired`);
      case "halt":
        return this.#print(`${node.id}: stops: ${effect.reason}`);
      case "send":
      case "apply":
      case "persist":
      case "peers":
        return;
    }
  }

  // ------------------------------------------------------------------------------ looking

  #inSync(): boolean {
    const primary = this.#primary();
    if (primary === undefined) return false;
    const ids = [...(primary.configurations.at(-1)?.configuration?.keys() ?? [])];
    return ids
      .map((id) => this.#node(id))
      .filter(({ alive }) => alive)
      .every(
        (node) =>
          node.view === primary.view &&
          node.commit === node.log.length &&
          node.log.at(-1) === primary.log.at(-1) &&
          activeConfigurations(node).length === 1,
      );
  }

  #state({ id, alive, status }: ModelNode): string {
    const { role, view, last, commit, configurations, retirementPhase } = status;
    const active = configurations.map(({ nodes }) => `{${[...nodes.keys()].join(" ")}}`).join(" ");
    return `${id}: ${alive ? role : "crashed"} view ${view} last ${last} commit ${commit} ${active} ${retirementPhase ?? ""}`.trimEnd();
  }

  #log({ id, log, commit }: ModelNode): string {
    const entries = log.map(
      (entry) => `${name(entry)}${entry.committable ? "s" : ""}${entry.seqno === commit ? "|" : ""}`,
    );
    return `${id}: ${entries.join(" ")}`;
  }

  #detail(id: NodeId, key: string): string {
    const { role, view, leader, membership, retirementPhase, last, commit, ticking } = this.#node(id).status;
    const names: Record<string, string> = {
      leadership_state: role
        .split("_")
        .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
        .join(""),
      membership_state: membership,
      retirement_phase: retirementPhase ?? "",
      current_view: String(view),
      primary_id: leader ?? "",
      last_idx: String(last),
      commit_idx: String(commit),
      ticking: String(ticking),
    };
    const value = names[key];
    if (value === undefined) throw new Error(`unknown detail ${key}`);
    return value;
  }

  #equal(actual: unknown, expected: unknown, what: string): void {
    if (actual !== expected) throw new Error(`${what} is ${String(actual)}, not ${String(expected)}`);
  }

  #print(line: string): void {
    this.#output.push(line);
  }
}

function configurationOf(ids: readonly NodeId[]): Configuration {
  return new Map(ids.map((id) => [id, ""]));
}

function name(entry: Entry | undefined): string {
  return entry === undefined ? "0.0" : `${entry.view}.${entry.seqno}`;
}
