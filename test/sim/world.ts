/**
 * A whole consortium in one thread, driven by one seed.
 *
 * Cores and model nodes are real objects; time, network, disks, clients, governance and accidents are events on one
 * virtual time line. Two phases: first everything goes wrong that the swarm options allow, and nothing unsafe may ever
 * happen; then the world heals, and the consortium has to agree and make progress within a deadline.
 *
 * A crashed node never comes back. Crashes and reconfigurations keep a living majority in every configuration that any
 * living node holds to be in force, so that after healing there is no excuse.
 */
import type { Configuration, CoreOptions, Effect, Input } from "../../node/enclave/consensus/core.ts";
import type { Mutations } from "../../node/enclave/consensus/mutations.ts";
import { Prng } from "../../node/enclave/consensus/prng.ts";
import type { Initial } from "../../node/enclave/consensus/raft.ts";
import type { NodeId, Seqno } from "../../protocol/ids.ts";
import type { ConsensusMessage } from "../../protocol/wire/consensus.ts";
import { activeConfigurations, Checker, InvariantBroken } from "./checker.ts";
import { describeEffect, describeInput } from "./describe.ts";
import { type Entry, ModelNode, type NewEntry, type Surroundings } from "./model-node.ts";
import { drawSwarm, type Swarm } from "./swarm.ts";
import { TimeLine } from "./time-line.ts";

export type WorldOptions = Readonly<{
  seed: number;
  /** Events of the first phase. */
  events: number;
  mutations?: Mutations;
  /** Called with one line for everything that happens. */
  log?: (line: string) => void;
}>;

/** How often what a simulation is for did happen. */
export type Coverage = {
  elections: number;
  rollbacks: number;
  configurations: number;
  retired: number;
  crashes: number;
  refusals: number;
};

export type WorldResult = Readonly<{
  seed: number;
  events: number;
  virtualMs: number;
  hash: string;
  committed: Seqno;
  coverage: Readonly<Coverage>;
}>;

/** A seed that breaks an invariant, and how to see it happen. */
export class SimulationFailed extends Error {
  override name = "SimulationFailed";
  readonly invariant: string;

  constructor({ seed, events, mutations = {} }: WorldOptions, cause: InvariantBroken) {
    const flags = Object.keys(mutations).map((mutation) => ` --mutation ${mutation}`);
    const command = `node test/sim/run.ts --seed ${seed} --events ${events}${flags.join("")} --verbose`;
    super(`${cause.message}\n  seed ${seed}; replay: ${command}`, { cause });
    this.invariant = cause.invariant;
  }
}

type Packet = Readonly<{ from: NodeId; to: NodeId; message: ConsensusMessage; entries: readonly Entry[] }>;

type Happening =
  | Readonly<{ kind: "tick"; node: ModelNode }>
  | Readonly<{ kind: "deliver"; packet: Packet }>
  | Readonly<{ kind: "disk"; node: ModelNode; op: number }>
  | Readonly<{ kind: "sign"; node: ModelNode }>
  | Readonly<{ kind: "record"; node: ModelNode; nodes: readonly NodeId[] }>
  | Readonly<{ kind: "heal"; links: readonly string[] }>
  | Readonly<{ kind: "chance"; what: Chance }>;

type Chance = "client" | "partition" | "crash" | "reconfigure" | "nominate" | "replay" | "pause";

/** Virtual time for agreement after healing: some elections, and a round trip for every entry that may have to be sent. */
const HEALING_ELECTIONS_MAX = 60;
const CATCH_UP_MS_PER_ENTRY = 5;
/** Clients are refused beyond this many uncommitted entries, as the real primary does. */
const UNCOMMITTED_MAX = 2000;
const UNSIGNED_MAX = 20;
const OLD_PACKETS_MAX = 64;

export function simulate(options: WorldOptions): WorldResult {
  const world = new World(options);
  try {
    return world.run();
  } catch (error) {
    if (error instanceof InvariantBroken) throw new SimulationFailed(options, error);
    throw error;
  }
}

class World implements Surroundings {
  readonly #options: WorldOptions;
  readonly #prng: Prng;
  readonly #swarm: Swarm;
  readonly #nodes = new Map<NodeId, ModelNode>();
  readonly #checker = new Checker(this.#nodes);
  readonly #time = new TimeLine<Happening>();
  /** Cut links, `from>to`, each with the number of cuts. */
  readonly #cut = new Map<string, number>();
  readonly #arrival = new Map<string, number>();
  readonly #signing = new Set<ModelNode>();
  readonly #flushing = new Set<ModelNode>();
  readonly #pausedUntil = new Map<ModelNode, number>();
  readonly #oldPackets: Packet[] = [];
  readonly #coverage: Coverage = { elections: 0, rollbacks: 0, configurations: 0, retired: 0, crashes: 0, refusals: 0 };
  #healed = false;
  #events = 0;
  #texts = 0;
  #hash1 = 0x811c9dc5;
  #hash2 = 0x1b873593;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#prng = new Prng(options.seed);
    this.#swarm = drawSwarm(this.#prng);
  }

  run(): WorldResult {
    this.#log(() => `swarm ${JSON.stringify(this.#swarm)}`);
    this.#found();
    for (const what of ["client", "partition", "crash", "reconfigure", "nominate", "replay", "pause"] as const)
      this.#schedule(what);
    while (this.#events < this.#options.events) this.#next();
    this.#heal();
    return {
      seed: this.#options.seed,
      events: this.#events,
      virtualMs: this.#time.now,
      hash: (this.#hash1 >>> 0).toString(16).padStart(8, "0") + (this.#hash2 >>> 0).toString(16).padStart(8, "0"),
      committed: this.#checker.committed.length,
      coverage: {
        ...this.#coverage,
        configurations: this.#checker.committed.filter(({ configuration }) => configuration !== undefined).length,
        retired: [...this.#nodes.values()].filter(({ status }) => status.retirementPhase === "RetiredCommitted").length,
      },
    };
  }

  // ------------------------------------------------------------------------------ what nodes do

  send(from: ModelNode, to: NodeId, message: ConsensusMessage, entries: readonly Entry[]): void {
    this.#checker.sent(from, to, message);
    if (message.kind === "append_entries_response" && !message.success) this.#coverage.refusals += 1;
    const packet = { from: from.id, to, message, entries };
    if (!this.#healed) {
      if (this.#oldPackets.length < OLD_PACKETS_MAX) this.#oldPackets.push(packet);
      else this.#oldPackets[this.#prng.below(OLD_PACKETS_MAX)] = packet;
      if (this.#permille(this.#swarm.loss)) return;
      if (this.#permille(this.#swarm.duplicate)) this.#dispatch(packet);
    }
    this.#dispatch(packet);
  }

  wrote(node: ModelNode, op: number): void {
    // Group commit: what arrives during a flush is covered by the next one, all of it.
    if (this.#flushing.has(node)) return;
    this.#flushing.add(node);
    this.#flush(node, op);
  }

  created(node: ModelNode, entry: Entry): void {
    this.#checker.created(node, entry);
  }

  appending(node: ModelNode, entry: Entry): void {
    this.#checker.appending(node, entry);
  }

  rollingBack(node: ModelNode, to: Seqno): void {
    this.#coverage.rollbacks += 1;
    this.#checker.rollingBack(node, to);
  }

  committing(node: ModelNode, seqno: Seqno): void {
    this.#checker.committing(node, seqno);
  }

  roleChanged(node: ModelNode): void {
    if (node.role === "leader") this.#coverage.elections += 1;
    this.#checker.roleChanged(node);
  }

  retired(node: ModelNode, nodes: readonly NodeId[]): void {
    this.#time.at(this.#time.now, { kind: "record", node, nodes });
  }

  stepped(node: ModelNode, input: Input, effects: number): void {
    const idle = input.kind === "tick" && effects === 0;
    this.#checker.stepped(node, idle);
    this.#mix(node.id.length * 31 + input.kind.length);
    this.#mix(effects);
    if (!idle) this.#mixState(node);
    this.#log(() => {
      const { role, view, last, commit } = node.status;
      return `${node.id}   ${describeInput(input)} => ${role} view ${view} last ${last} commit ${commit}`;
    });
    this.#maySign(node);
  }

  effect(node: ModelNode, effect: Effect): void {
    this.#log(() => `${node.id}     ${describeEffect(effect)}`);
  }

  // ------------------------------------------------------------------------------ the time line

  #next(): void {
    const happening = this.#time.next();
    if (happening === undefined) throw new InvariantBroken("World", "nothing is left to happen");
    this.#events += 1;
    this.#mix(this.#time.now);
    switch (happening.kind) {
      case "tick":
        return this.#tick(happening.node);
      case "deliver":
        return this.#deliver(happening.packet);
      case "disk":
        return this.#flushed(happening.node, happening.op);
      case "sign":
        this.#signing.delete(happening.node);
        if (this.#signatureDue(happening.node)) happening.node.replicate([{ text: "signature", committable: true }]);
        return;
      case "record":
        return this.#record(happening.node, happening.nodes);
      case "heal":
        for (const link of happening.links) this.#cut.set(link, (this.#cut.get(link) ?? 1) - 1);
        this.#log(() => `open ${happening.links.join(" ")}`);
        return;
      case "chance":
        if (this.#healed) return;
        this.#happen(happening.what);
        return this.#schedule(happening.what);
    }
  }

  #happen(what: Chance): void {
    switch (what) {
      case "client":
        return this.#write();
      case "partition":
        return this.#partition();
      case "crash":
        return this.#crash();
      case "reconfigure":
        return this.#reconfigure();
      case "nominate":
        return this.#anyLeader()?.nominate();
      case "replay": {
        const packet = this.#oldPackets[this.#prng.below(this.#oldPackets.length)];
        if (packet !== undefined) this.#dispatch(packet);
        return;
      }
      case "pause": {
        const node = this.#pick([...this.#nodes.values()].filter(({ alive }) => alive));
        if (node !== undefined)
          this.#pausedUntil.set(node, this.#time.now + this.#prng.below(3 * this.#swarm.electionTimeoutMs));
      }
    }
  }

  #schedule(what: Chance): void {
    const meanMs = this.#swarm[`${what}Ms`];
    if (meanMs > 0) this.#time.at(this.#time.now + 1 + this.#spread(meanMs), { kind: "chance", what });
  }

  #tick(node: ModelNode): void {
    if (!node.alive) return;
    const { tickMs } = this.#swarm;
    const pausedMs = (this.#pausedUntil.get(node) ?? 0) - this.#time.now;
    if (pausedMs > 0) {
      this.#time.at(this.#time.now + pausedMs, { kind: "tick", node });
      return;
    }
    node.tick(tickMs);
    this.#checker.ticked(node, tickMs, this.#swarm.electionTimeoutMs);
    this.#time.at(this.#time.now + tickMs, { kind: "tick", node });
  }

  #dispatch(packet: Packet): void {
    const link = `${packet.from}>${packet.to}`;
    const { delayMinMs, delayMeanMs, fifo } = this.#swarm;
    let arrival = this.#time.now + (this.#healed ? 1 : delayMinMs + this.#spread(delayMeanMs));
    if (fifo) arrival = Math.max(arrival, this.#arrival.get(link) ?? 0);
    this.#arrival.set(link, arrival);
    this.#time.at(arrival, { kind: "deliver", packet });
  }

  #deliver(packet: Packet): void {
    const { from, to, message, entries } = packet;
    const node = this.#nodes.get(to);
    if (node === undefined || !node.alive || (this.#cut.get(`${from}>${to}`) ?? 0) > 0) return;
    const pausedUntil = this.#pausedUntil.get(node) ?? 0;
    if (pausedUntil > this.#time.now) {
      this.#time.at(pausedUntil, { kind: "deliver", packet });
      return;
    }
    const damaged = !this.#healed && entries.length > 0 && this.#permille(this.#swarm.damage);
    if (message.kind === "append_entries_response") this.#checker.answered(node, from);
    node.receive(from, message, entries, damaged ? this.#prng.below(entries.length) : -1);
  }

  #flush(node: ModelNode, op: number): void {
    const { diskMeanMs, diskStall, electionTimeoutMs } = this.#swarm;
    let takesMs = this.#healed ? 1 : this.#spread(diskMeanMs);
    if (!this.#healed && this.#permille(diskStall)) takesMs += this.#prng.below(2 * electionTimeoutMs);
    this.#time.at(this.#time.now + takesMs, { kind: "disk", node, op });
  }

  #flushed(node: ModelNode, op: number): void {
    if (!node.alive) return;
    const later = node.writing.at(-1)!;
    if (later > op) this.#flush(node, later);
    else this.#flushing.delete(node);
    node.completeWrites(op);
  }

  // ------------------------------------------------------------------------------ what the driver does

  #signatureDue(node: ModelNode): boolean {
    if (!node.alive || node.role !== "leader" || node.log.length === 0) return false;
    const signed = node.lastSignature;
    const unsigned = node.log.length - signed;
    if (node.mustSign) return true;
    return unsigned > 0 && (signed <= node.commit || unsigned >= UNSIGNED_MAX);
  }

  #maySign(node: ModelNode): void {
    if (this.#signing.has(node) || !this.#signatureDue(node)) return;
    this.#signing.add(node);
    this.#time.at(this.#time.now + this.#spread(this.#swarm.signMeanMs), { kind: "sign", node });
  }

  #record(node: ModelNode, nodes: readonly NodeId[]): void {
    const recorded = new Set(node.log.flatMap(({ retiredCommitted }) => retiredCommitted ?? []));
    const retiredCommitted = nodes.filter((id) => !recorded.has(id));
    if (retiredCommitted.length > 0) node.replicate([{ text: "record", retiredCommitted }]);
  }

  // ------------------------------------------------------------------------------ people and accidents

  #found(): void {
    const founder = this.#create({ kind: "start", view: 2 });
    founder.replicate([{ text: "genesis", configuration: new Map([[founder.id, ""]]) }]);
    for (let i = 1; i < this.#swarm.nodesAtStart; i++) this.#create({ kind: "join" });
    founder.replicate([{ text: "all", configuration: configurationOf([...this.#nodes.keys()]) }]);
  }

  #create(initial: Initial): ModelNode {
    const { messageTimeoutMs, electionTimeoutMs, appendBytesMax, tickMs } = this.#swarm;
    const self = `n${this.#nodes.size}`;
    const options: CoreOptions = { self, messageTimeoutMs, electionTimeoutMs, appendBytesMax, seed: this.#prng.next() };
    const node = new ModelNode(options, initial, this, this.#options.mutations);
    this.#nodes.set(self, node);
    this.#time.at(this.#time.now + this.#prng.below(tickMs), { kind: "tick", node });
    return node;
  }

  #write(): void {
    const leader = this.#anyLeader();
    if (leader === undefined || leader.log.length - leader.commit > UNCOMMITTED_MAX) return;
    const count = 1 + (this.#prng.below(4) === 0 ? this.#prng.below(20) : 0);
    const news: NewEntry[] = [];
    for (let i = 0; i < count; i++) news.push({ text: `write ${++this.#texts}`, size: 60 + this.#prng.below(400) });
    leader.replicate(news);
  }

  #partition(): void {
    const ids = [...this.#nodes.values()].filter(({ alive }) => alive).map(({ id }) => id);
    const left = new Set<NodeId>();
    const style = this.#prng.below(3);
    if (style === 0) left.add(this.#pick(ids)!);
    else for (const id of ids) if (this.#prng.below(2) === 0) left.add(id);
    const links: string[] = [];
    for (const a of left) {
      for (const b of ids) {
        if (left.has(b)) continue;
        if (style < 2) links.push(`${a}>${b}`, `${b}>${a}`);
        else links.push(this.#prng.below(2) === 0 ? `${a}>${b}` : `${b}>${a}`);
      }
    }
    for (const link of links) this.#cut.set(link, (this.#cut.get(link) ?? 0) + 1);
    this.#log(() => `cut ${links.join(" ")}`);
    this.#time.at(this.#time.now + this.#spread(this.#swarm.partitionLengthMs), { kind: "heal", links });
  }

  #crash(): void {
    const victims = [...this.#nodes.values()].filter((node) => node.alive && this.#dispensable(node.id));
    const victim = this.#pick(victims);
    if (victim === undefined) return;
    victim.alive = false;
    this.#coverage.crashes += 1;
    this.#log(() => `crash ${victim.id}`);
  }

  /** True when every configuration in force at any living node keeps a living majority without this one. */
  #dispensable(victim: NodeId): boolean {
    for (const node of this.#nodes.values()) {
      if (!node.alive || node.id === victim) continue;
      for (const { configuration } of activeConfigurations(node))
        if (!this.#viable([...configuration!.keys()], victim)) return false;
    }
    return [...this.#nodes.values()].some(({ alive, id, commit }) => alive && id !== victim && commit > 0);
  }

  #viable(ids: readonly NodeId[], without?: NodeId): boolean {
    const living = ids.filter((id) => id !== without && this.#nodes.get(id)?.alive === true);
    return living.length >= Math.floor(ids.length / 2) + 1;
  }

  #reconfigure(): void {
    const leader = this.#anyLeader();
    const current = leader?.configurations.at(-1)?.configuration;
    if (leader === undefined || current === undefined) return;
    const ids = new Set(current.keys());
    const out = this.#prng.below(3);
    for (let i = 0; i < out && ids.size > 1; i++) ids.delete(this.#pick([...ids])!);
    const room = this.#swarm.identitiesMax - this.#nodes.size;
    const joining = Math.min(this.#prng.below(3), room);
    if (!this.#viable([...ids]) || (joining === 0 && out === 0)) return;
    for (let i = 0; i < joining; i++) ids.add(this.#create({ kind: "join" }).id);
    this.#log(() => `reconfigure to ${[...ids].join(" ")}`);
    leader.replicate([{ text: "configuration", configuration: configurationOf([...ids]) }]);
  }

  #anyLeader(): ModelNode | undefined {
    return this.#pick([...this.#nodes.values()].filter(({ alive, role }) => alive && role === "leader"));
  }

  // ------------------------------------------------------------------------------ healing

  #heal(): void {
    this.#healed = true;
    this.#cut.clear();
    this.#pausedUntil.clear();
    this.#log(() => "heal");
    const longest = Math.max(...[...this.#nodes.values()].map(({ log }) => log.length));
    const deadline =
      this.#time.now + HEALING_ELECTIONS_MAX * this.#swarm.electionTimeoutMs + CATCH_UP_MS_PER_ENTRY * longest;
    this.#until(deadline, "agreement", () => this.#agreed());
    const writer = this.#newestLeader();
    const seqno = (writer?.log.length ?? 0) + 1;
    writer?.replicate([{ text: "after healing" }]);
    this.#until(deadline, "progress", () => this.#agreed() && this.#checker.committed.length >= seqno);
    const last = this.#checker.committed.find(({ text }) => text === "after healing");
    if (last === undefined) throw new InvariantBroken("Liveness", "a write after healing was lost");
  }

  #until(deadline: number, what: string, holds: () => boolean): void {
    for (let round = 0; !(round % 16 === 0 && holds()); round++) {
      if (this.#time.now > deadline)
        throw new InvariantBroken("Liveness", `no ${what} after healing: ${this.#picture()}`);
      this.#next();
    }
  }

  /** Everyone alive in the newest configuration holds and has committed the same, and follows one leader. */
  #agreed(): boolean {
    const leader = this.#newestLeader();
    const ids = leader?.configurations.at(-1)?.configuration?.keys();
    if (leader === undefined || ids === undefined || leader.commit !== leader.log.length) return false;
    if (activeConfigurations(leader).length !== 1) return false;
    for (const id of ids) {
      const node = this.#nodes.get(id)!;
      if (!node.alive) continue;
      if (node.view !== leader.view || node.leader !== leader.id) return false;
      if (node.log.at(-1) !== leader.log.at(-1) || node.commit !== leader.commit) return false;
    }
    return true;
  }

  #newestLeader(): ModelNode | undefined {
    let newest: ModelNode | undefined;
    for (const node of this.#nodes.values())
      if (node.alive && node.role === "leader" && node.view > (newest?.view ?? 0)) newest = node;
    return newest;
  }

  #picture(): string {
    return [...this.#nodes.values()]
      .map(({ id, alive, status, log }) => {
        const { role, view, commit, configurations, retirementPhase } = status;
        const active = configurations.map(({ nodes }) => `{${[...nodes.keys()].join(" ")}}`).join("");
        return `\n  ${id} ${alive ? role : "crashed"} view ${view} log ${log.length} commit ${commit} ${active} ${retirementPhase ?? ""}`;
      })
      .join("");
  }

  // ------------------------------------------------------------------------------ small things

  #permille(chance: number): boolean {
    return chance > 0 && this.#prng.below(1000) < chance;
  }

  /** Mostly below the mean, sometimes several times it. */
  #spread(mean: number): number {
    if (mean <= 0) return 0;
    const value = this.#prng.below(mean + 1);
    return this.#prng.below(8) === 0 ? value + this.#prng.below(4 * mean) : value;
  }

  #pick<T>(choices: readonly T[]): T | undefined {
    return choices[this.#prng.below(choices.length)];
  }

  #mixState({ status: { role, view, last, commit, stable } }: ModelNode): void {
    for (const value of [role.length, view, last, commit, stable]) this.#mix(value);
  }

  #mix(value: number): void {
    this.#hash1 = Math.imul(this.#hash1 ^ value, 0x01000193);
    this.#hash2 = (Math.imul((this.#hash2 << 13) | (this.#hash2 >>> 19), 5) + (value ^ 0x6b64)) | 0;
  }

  #log(line: () => string): void {
    this.#options.log?.(`${String(this.#time.now).padStart(7)} ${line()}`);
  }
}

function configurationOf(ids: readonly NodeId[]): Configuration {
  return new Map(ids.map((id) => [id, ""]));
}
