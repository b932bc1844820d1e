/**
 * A whole consortium on this machine: its validators, its members, its users.
 *
 * Node 0 founds the service with the members of its configuration; they acknowledge and open it by vote; the other nodes
 * join, wait as Pending and are trusted by vote, as in any consortium. Nothing here is a short cut: what this file does
 * with all keys in one hand, members of a real consortium do with `camerata proposal`, each on its own machine.
 *
 * A node whose process dies is not restarted, because identities never restart: the members vote it out, and a new node
 * with a new directory joins at its addresses.
 *
 * A member's machine and a host's at once, which only a development network is.
 */
import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { ServiceClient } from "../../governance/member/client.ts";
import type { Action } from "../../governance/member/request.ts";
import { acknowledge, type Proposal } from "../../governance/member/voting.ts";
import { Fault } from "../../protocol/check.ts";
import { spkiDigest } from "../../protocol/crypto/keys.ts";
import type { NodeId } from "../../protocol/ids.ts";
import type { Context, Identity } from "../client/context.ts";
import { readText } from "../client/context.ts";
import { clientOf, sendAccepted, signerOf } from "../client/session.ts";
import { untilCommitted } from "../client/transactions.ts";
import type { Output } from "../terminal/output.ts";
import { packageRoot } from "../terminal/package-root.ts";
import { type Decision, decide } from "./governing.ts";
import { keyFiles, type Ready, readyFile, serviceCertificate } from "./layout.ts";
import type { JoinCommand, StartCommand } from "./node-config.ts";
import { NodeProcess } from "./node-process.ts";
import { createMember, createUser } from "./participants.ts";
import { nodeAddresses } from "./ports.ts";

export type NetworkOptions = Readonly<{
  directory: string;
  nodes: number;
  members: number;
  users: number;
  port: number;
  /** Files, concatenated in order; none: the default constitution. */
  constitution: readonly string[];
  respawn: boolean;
}>;

/** A node. `joined` once it takes part: before that it answers nobody. */
export type DevNode = { process: NodeProcess; nodeId: NodeId; joined: boolean };

const START_MS = 30_000;
const JOIN_MS = 60_000;
/** Long enough for an election and a vote; a network without a majority stays as it is. */
const REPLACE_MS = 60_000;
const REQUEST_MS = 10_000;
const RETRY_MS = 250;
const CONSTITUTION = ["actions.js", "validate.js", "resolve.js", "apply.js"];

export class DevNetwork {
  readonly options: NetworkOptions;
  readonly members: Identity[] = [];
  readonly users: Identity[] = [];
  readonly nodes: DevNode[] = [];
  readonly #output: Output;
  readonly #clients = new Map<string, ServiceClient>();
  readonly #failed = Promise.withResolvers<never>();
  /** Replacements, one after the other. */
  #replacing: Promise<void> = Promise.resolve();
  #generation = 0;
  #stopping = false;

  constructor(options: NetworkOptions, output: Output) {
    this.options = { ...options, directory: resolve(options.directory) };
    this.#output = output;
    // Whoever waits for the network learns of it; when nobody does yet, it is not unheard of.
    this.#failed.promise.catch(() => undefined);
  }

  get directory(): string {
    return this.options.directory;
  }

  /** Rejects when the network can go on no more. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Makes the keys of members and users. Before `start`. */
  async createKeys(): Promise<void> {
    const { members, users, directory } = this.options;
    mkdirSync(directory, { recursive: true });
    const now = new Date();
    const names = Array.from({ length: members }, (_, index) => `member${index}`);
    this.members.push(...(await Promise.all(names.map((name) => createMember(directory, name, now)))));
    for (let index = 0; index < users; index++) this.users.push(createUser(directory, `user${index}`, now));
  }

  /** From keys to an open service with every node trusted and `ready.json` written. */
  async start(): Promise<void> {
    const { nodes, members } = this.options;

    const founding = this.#output.step("node 0 founds the service");
    await this.#found();
    founding.done(`node 0 founded the service · identity ${short(this.serviceId())}`);

    const opening = this.#output.step("members acknowledge and open the service");
    await this.#open();
    const admitted = this.users.length === 0 ? "" : ` · users ${namesOf(this.users)}`;
    opening.done(`service open · ${members} members acknowledged and voted${admitted}`);

    if (nodes > 1) {
      const fresh = this.#launchOthers();
      const names = `node${fresh.length > 1 ? "s" : ""} ${fresh.map((node) => node.process.index).join(", ")}`;
      const asking = this.#output.step(`${names} and the service attest each other`);
      await this.#pendingAll(fresh);
      asking.done(`${names} and the service attested each other · Pending`);
      const trusting = this.#output.step(`members decide whether to trust ${names}`);
      const { voters } = await this.#trust(fresh);
      trusting.done(`${names} trusted by ${namesOf(voters)} · taking part`);
    }
    await this.writeReady();
    for (const node of this.nodes) this.#watch(node);
  }

  /** Makes keys for a user and has the members admit it. */
  async addUser(name: string): Promise<Decision> {
    const user = createUser(this.directory, name, new Date());
    const decision = await this.decideAloud(`admit ${name}`, [admission(user)]);
    this.users.push(user);
    return decision;
  }

  /** The members decide, and the steps are shown. @param what completes "proposes to". */
  async decideAloud(what: string, actions: readonly Action[]): Promise<Decision> {
    const proposer = this.members[0]!.name;
    let step = this.#output.step(`${proposer} proposes to ${what}`);
    const decision = await this.decide(actions, (proposal) => {
      step.done(`${proposer} proposed to ${what} · proposal ${short(proposal.proposalId)}`);
      step = this.#output.step("members vote");
    });
    step.done(`${namesOf(decision.voters)} voted for it · accepted by the constitution`);
    return decision;
  }

  /** The members decide; resolves when the decision is committed. */
  async decide(actions: readonly Action[], proposed?: (proposal: Proposal) => void): Promise<Decision> {
    const client = this.client();
    const decision = await decide(client, this.members, actions, proposed);
    if (decision.txId !== undefined) await untilCommitted(client, decision.txId, REQUEST_MS);
    return decision;
  }

  context(): Context {
    return {
      name: this.directory,
      addresses: this.#running().map((node) => node.process.addresses.rpc),
      serviceCertificatePem: readText(serviceCertificate(this.directory)),
      directory: this.directory,
      identity: undefined,
    };
  }

  /** A client of the first node that runs, or of one with this index; kept for the life of the network. */
  client(index?: number): ServiceClient {
    const nodes = this.#running();
    const node = index === undefined ? nodes[0] : nodes.find((candidate) => candidate.process.index === index);
    if (node === undefined) throw new Fault({ code: "NoNodeRuns" }, "no node of this network runs any more");
    const { rpc } = node.process.addresses;
    const key = `${rpc} ${node.nodeId}`;
    let client = this.#clients.get(key);
    if (client === undefined) {
      client = clientOf(this.context(), rpc, REQUEST_MS);
      this.#clients.set(key, client);
    }
    return client;
  }

  serviceId(): string {
    return spkiDigest(new X509Certificate(readText(serviceCertificate(this.directory))).publicKey);
  }

  async primaryId(): Promise<NodeId | undefined> {
    const { primary_id: id } = await this.client().get<{ primary_id: NodeId | null }>("/node/network");
    return id ?? undefined;
  }

  /** Writes `ready.json`; a reader sees the old one or the new one, never half. */
  async writeReady(): Promise<void> {
    const ready: Ready = {
      service_id: this.serviceId(),
      primary_id: (await this.#primary()) ?? this.nodes[0]!.nodeId,
      nodes: this.nodes.map(({ process, nodeId }) => ({
        node_id: nodeId,
        rpc_address: process.addresses.rpc,
        host_pid: process.hostPid,
        enclave_pid: process.enclavePid,
        ledger: process.ledger,
      })),
      members: this.members.map((member) => member.id),
      users: this.users.map((user) => user.id),
    };
    const path = readyFile(this.directory);
    writeFileSync(`${path}.new`, `${JSON.stringify(ready, undefined, 2)}\n`);
    renameSync(`${path}.new`, path);
  }

  /** Stops every node. Resolves when all processes are gone. `ready.json` goes first: nothing is ready any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    rmSync(readyFile(this.directory), { force: true });
    for (const client of this.#clients.values()) client.close();
    await Promise.all(this.nodes.map((node) => node.process.stop()));
  }

  /** Ends every node at once. */
  kill(): void {
    this.#stopping = true;
    for (const node of this.nodes) node.process.kill();
  }

  async #found(): Promise<void> {
    const command: StartCommand = {
      type: "Start",
      members: this.members.map((member) => {
        const { certificate, encryptionPublicKey } = keyFiles(this.directory, member.name);
        return { certificate, encryptionPublicKey };
      }),
      constitution:
        this.options.constitution.length > 0
          ? this.options.constitution.map((file) => resolve(file))
          : CONSTITUTION.map((name) => join(packageRoot(), "governance", "constitution", name)),
    };
    const process = this.#launch(0, command);
    const node: DevNode = { process, nodeId: "", joined: false };
    this.nodes.push(node);
    const pem = await process.until("founding the service", START_MS, async () =>
      readIfThere(join(process.directory, "service_cert.pem")),
    );
    writeFileSync(serviceCertificate(this.directory), pem);
    node.nodeId = await this.#partOfNetwork(process, START_MS);
    node.joined = true;
  }

  async #open(): Promise<void> {
    const client = this.client();
    // One after the other: each acknowledgement is a transaction on the same tables.
    for (const member of this.members) await acknowledge(client, signerOf(member));
    const { service_certificate: identity } = await client.get<{ service_certificate: string }>("/node/network");
    await this.decide([
      ...this.users.map(admission),
      { name: "transition_service_to_open", args: { next_service_identity: identity } },
    ]);
  }

  #launchOthers(): readonly DevNode[] {
    const indices = Array.from({ length: this.options.nodes - 1 }, (_, at) => at + 1);
    const fresh = indices.map((index) => ({
      process: this.#launch(index, this.#joinCommand()),
      nodeId: "",
      joined: false,
    }));
    this.nodes.push(...fresh);
    return fresh;
  }

  /** Waits until new nodes wait for the members: by then both sides have verified each other's evidence. */
  async #pendingAll(fresh: readonly DevNode[]): Promise<void> {
    for (const node of fresh)
      node.nodeId = await node.process.until("asking to join", JOIN_MS, () => this.#pending(node.process));
  }

  /** Has the members trust Pending nodes, and waits until these take part. */
  async #trust(fresh: readonly DevNode[]): Promise<Decision> {
    const validFrom = new Date().toISOString();
    const decision = await this.decide(
      fresh.map((node) => ({
        name: "transition_node_to_trusted",
        args: { node_id: node.nodeId, valid_from: validFrom },
      })),
    );
    for (const node of fresh) {
      await this.#partOfNetwork(node.process, JOIN_MS);
      node.joined = true;
    }
    return decision;
  }

  #joinCommand(): JoinCommand {
    return {
      type: "Join",
      target: this.#running()[0]!.process.addresses.rpc,
      serviceCertificate: serviceCertificate(this.directory),
    };
  }

  #launch(index: number, command: StartCommand | JoinCommand, generation = 0): NodeProcess {
    const addresses = nodeAddresses(this.options.port, index);
    return new NodeProcess({ directory: this.directory, index, generation, addresses, command });
  }

  /** The id of a node that has started, once the service lists it as waiting for the members. */
  async #pending(process: NodeProcess): Promise<NodeId | undefined> {
    const id = process.status()?.node_id;
    if (id === undefined) return undefined;
    const found = await attempt(() => this.client().get<{ status: string }>(`/node/network/nodes/${id}`));
    return found?.status === "Pending" ? id : undefined;
  }

  /** Waits until a node serves under the service's certificate; gives its id. */
  #partOfNetwork(process: NodeProcess, timeoutMs: number): Promise<NodeId> {
    const client = clientOf(this.context(), process.addresses.rpc, REQUEST_MS);
    return process
      .until("taking part in the network", timeoutMs, async () => {
        const found = await attempt(() => client.get<{ state: string; node_id: NodeId }>("/node/state"));
        return found?.state === "PartOfNetwork" ? found.node_id : undefined;
      })
      .finally(() => client.close());
  }

  /** Nodes that answer. */
  #running(): DevNode[] {
    return this.nodes.filter((node) => node.joined && node.process.running);
  }

  async #primary(): Promise<NodeId | undefined> {
    return attempt(() => this.primaryId());
  }

  #watch(node: DevNode): void {
    node.process.exited.then((why) => {
      if (this.#stopping || node.process.stopping) return;
      const { index } = node.process;
      this.#output.say(`${this.#output.paint("yellow", "!")} node ${index} is gone (${why})`);
      if (this.#running().length === 0)
        return this.#failed.reject(new Fault({ code: "NoNodeRuns" }, "no node of this network runs any more"));
      if (!this.options.respawn) return;
      this.#replacing = this.#replacing
        .then(() => this.#replace(node))
        .catch((error: unknown) => {
          if (!this.#stopping)
            this.#output.say(`node ${index} was not replaced: ${error instanceof Error ? error.message : error}`);
        });
    });
  }

  async #replace(old: DevNode): Promise<void> {
    const { index } = old.process;
    const step = this.#output.step(`a new node ${index} joins`);
    await this.#persist(() => this.decide([{ name: "remove_node", args: { node_id: old.nodeId } }]));
    this.#generation += 1;
    const fresh: DevNode = {
      process: this.#launch(index, this.#joinCommand(), this.#generation),
      nodeId: "",
      joined: false,
    };
    this.nodes[this.nodes.indexOf(old)] = fresh;
    this.#watch(fresh);
    await this.#pendingAll([fresh]);
    await this.#trust([fresh]);
    await this.writeReady();
    await this.#forget(old.nodeId);
    step.done(`node ${index} voted out, a new one joined as ${short(fresh.nodeId)}`);
  }

  /** Removes what is left of a retired node from the service's tables, once its retirement is final. */
  async #forget(id: NodeId): Promise<void> {
    await this.#persist(() => sendAccepted(this.client(), { method: "DELETE", path: `/node/network/nodes/${id}` }));
  }

  /** Tries again while there is no primary yet. */
  async #persist<T>(what: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + REPLACE_MS;
    for (;;) {
      try {
        return await what();
      } catch (error) {
        if (this.#stopping || !(error instanceof Fault) || performance.now() > deadline) throw error;
        await pause(RETRY_MS);
      }
    }
  }
}

function admission(user: Identity): Action {
  return { name: "set_user", args: { cert: user.certificatePem } };
}

/** The result, or undefined where nobody answered or the answer was no. */
async function attempt<T>(what: () => Promise<T>): Promise<T | undefined> {
  try {
    return await what();
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
}

/** The certificate in a file that another process writes, once it is whole. */
function readIfThere(path: string): string | undefined {
  const text = existsSync(path) ? readText(path) : "";
  return text.includes("END CERTIFICATE") ? text : undefined;
}

/** Enough of an id for people to tell it from others. */
export function short(id: string): string {
  return `${id.slice(0, 8)}…`;
}

export function namesOf(people: readonly Identity[]): string {
  return people.map((person) => person.name).join(", ");
}
