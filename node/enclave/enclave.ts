/**
 * The enclave program: builds the floors below and runs them.
 *
 * It waits for the host's `start`, makes this node's identity, opens its HTTP interfaces, then founds a service or joins
 * one. Every decision is in a file below. What goes wrong beyond repair ends in `halt`: the reason goes to the host and
 * the process ends, because a node that is wrong about itself must not go on signing.
 *
 * Trusted.
 */
import type { Duplex } from "node:stream";
import { Compile } from "typebox/compile";
import type { Channels } from "../../network/enclave/channel-types.ts";
import { openChannels } from "../../network/enclave/channels.ts";
import type { Claims, Platform, QuoteInfo } from "../../protocol/attestation/evidence.ts";
import { encodeEvidence } from "../../protocol/attestation/quote-info.ts";
import { verifyEvidence, verifySessionEvidence } from "../../protocol/attestation/verify.ts";
import { Broken, Fault, present } from "../../protocol/check.ts";
import type { NodeId, Seqno, View } from "../../protocol/ids.ts";
import { EnclaveConfig } from "../boundary/config.ts";
import { toEnclave, toHost } from "../boundary/messages.ts";
import { openPort, type Port } from "../boundary/port.ts";
import type { MessageOf } from "../boundary/schema.ts";
import { createStreams, type Streams } from "../boundary/streams.ts";
import type { CoreOptions, Role } from "./consensus/core.ts";
import { commonEndpoints } from "./http/common-api.ts";
import type { Endpoint, Frontend, ServicePort } from "./http/endpoint.ts";
import { createHttpServer, type HttpServer } from "./http/server.ts";
import { getOne, open } from "./kv/table.ts";
import { TABLES } from "./kv/tables.ts";
import { found } from "./service/founding.ts";
import { type HostLedgerPort, hostLedger } from "./service/host-ledger.ts";
import { createNodeIdentity, type NodeIdentity } from "./service/identity.ts";
import { joinEndpoint } from "./service/join-api.ts";
import { checkJoinPolicy, checkOwnPolicy } from "./service/join-policy.ts";
import { join } from "./service/joining.ts";
import type { Membership } from "./service/membership.ts";
import { nodeEndpoints } from "./service/node-api.ts";
import type { NodeState, NodeView } from "./service/node-view.ts";
import type { Operations, Shares } from "./service/operations.ts";
import { serviceOperations } from "./service/service-operations.ts";
import { servicePort } from "./service/service-port.ts";

/** What the program adds to the node: its app, its governance, its platform. */
export type EnclaveParts = Readonly<{
  /** The inherited descriptor to the host. */
  stream: Duplex;
  platform: Platform;
  version: string;
  shares: Shares;
  app(): readonly Endpoint[];
  governance(operations: Operations, service: ServicePort): readonly Endpoint[];
  exit(code: number): void;
}>;

type ToEnclave = MessageOf<typeof toEnclave>;

/** How long a stopping node waits for what is in flight to commit. */
const STOP_WAIT_MS = 3000;
/** Time for the last words to reach the host before the process ends. */
const LAST_WORDS_MS = 100;
const STATUS_INTERVAL_MS = 250;

/** Runs an enclave. @returns what to call with an error that nobody caught: it stops the enclave with the reason. */
export function runEnclave(parts: EnclaveParts): (uncaught: unknown) => void {
  const enclave = new Enclave(parts);
  return (uncaught) => enclave.halt(describe(uncaught));
}

class Enclave {
  readonly #parts: EnclaveParts;
  readonly #port: Port<typeof toHost>;
  readonly #streams: Streams;
  readonly #hostLedger: HostLedgerPort;
  #node: RunningNode | undefined;
  #started = false;
  #ended = false;

  constructor(parts: EnclaveParts) {
    this.#parts = parts;
    this.#port = openPort({
      stream: parts.stream,
      send: toHost,
      receive: toEnclave,
      onMessage: (message) => this.#receive(message),
      onFault: (fault) => {
        // Without its host an enclave has no one to tell; it just ends.
        this.#ended = true;
        parts.exit(fault.detail.code === "PortClosed" ? 0 : 1);
      },
    });
    this.#streams = createStreams({
      port: this.#port,
      onOpened: ({ protocol, interface: name, from }, stream) => {
        if (this.#node === undefined) return void stream.destroy();
        if (protocol === "rpc") this.#node.http.accept(stream, name);
        else this.#node.channels.accept(stream, from);
      },
    });
    this.#hostLedger = hostLedger((message) => this.#port.send(message));
  }

  halt(why: string): void {
    this.#end(why, true);
  }

  #receive(message: ToEnclave): void {
    if (this.#ended) return;
    switch (message.kind) {
      case "start":
        if (this.#started) return this.halt("the host started this enclave twice");
        this.#started = true;
        this.#start(message.config).catch((error: unknown) => this.halt(describe(error)));
        return;
      case "tick":
        return this.#node?.tick(message.elapsedMs);
      case "ledgerDurable":
        return this.#node?.membership?.replica.durable(message.op);
      case "ledgerRange":
        return this.#hostLedger.answered(message);
      case "stop":
        this.#stop().catch((error: unknown) => this.halt(describe(error)));
        return;
      default:
        return this.#streams.receive(message);
    }
  }

  async #start(configText: string): Promise<void> {
    const config = readConfig(configText);
    const { platform } = this.#parts;
    const identity = await createNodeIdentity(config.node_certificate, subjectAltNames(config), new Date());
    const quote = await platform.evidence(identity.reportData);
    const node = new RunningNode({
      ...this.#parts,
      config,
      identity,
      quote,
      claims: await verifyEvidence(quote),
      port: this.#port,
      streams: this.#streams,
      hostLedger: this.#hostLedger,
      halt: (why) => this.halt(why),
    });
    this.#node = node;
    this.#port.send({ kind: "publish", name: "nodecert.pem", content: identity.selfSignedCertificate });
    this.#port.send({ kind: "started", node: identity.id, confidential: platform.confidential });
    await node.run();
  }

  async #stop(): Promise<void> {
    await this.#node?.stop(STOP_WAIT_MS);
    this.#end("asked to stop", false);
  }

  #end(why: string, fatal: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#port.send({ kind: "stopped", why: why.slice(0, 4096), fatal });
    setTimeout(() => this.#parts.exit(fatal ? 1 : 0), LAST_WORDS_MS);
  }
}

type NodeParts = EnclaveParts &
  Readonly<{
    config: EnclaveConfig;
    identity: NodeIdentity;
    quote: QuoteInfo;
    claims: Claims;
    port: Port<typeof toHost>;
    streams: Streams;
    hostLedger: HostLedgerPort;
    halt(why: string): void;
  }>;

/** A node with an identity: Pending until a service trusts it, then a member with a replica. */
class RunningNode implements NodeView {
  readonly http: HttpServer;
  readonly channels: Channels;
  membership: Membership | undefined;
  readonly #parts: NodeParts;
  #state: NodeState = "Initialized";
  #stopping = false;
  readonly #leaving = new AbortController();
  #open: Record<"app" | "gov", boolean> = { app: false, gov: false };
  #sinceStatusMs = 0;

  constructor(parts: NodeParts) {
    this.#parts = parts;
    const operations = this.#operations();
    this.channels = openChannels({
      self: parts.identity.id,
      dial: (address) => parts.streams.open("peer", address),
      credentials: () => this.#credentials(),
      evidence: async (reportData) => encodeEvidence(await parts.platform.evidence(reportData)),
      verifyEvidence: async (evidence, reportData) =>
        this.#checkPeer(await verifySessionEvidence(evidence, reportData)),
      isPeer: (node) => this.membership?.isPeer(node) ?? false,
      deliver: (from, message) => this.membership?.replica.receive(from, message),
      log: (level, message) => this.#log(level, message),
    });
    const service = servicePort(
      () => this.membership?.replica,
      (frontend: Frontend) => frontend === "node" || this.#open[frontend],
    );
    this.http = createHttpServer({
      interfaces: parts.config.rpc_interfaces,
      idleTimeoutMs: parts.config.idle_connection_timeout,
      service,
      endpoints: [
        ...commonEndpoints(service),
        ...nodeEndpoints(this),
        joinEndpoint({
          platform: parts.platform,
          membership: () => this.membership,
          nowMs: Date.now,
          log: (level, message) => this.#log(level, message),
        }),
        ...parts.governance(operations, service),
        ...parts.app(),
      ],
      log: (level, message) => this.#log(level, message),
    });
    this.http.setCertificate("Node", { certificate: parts.identity.selfSignedCertificate, key: parts.identity.key });
  }

  get config() {
    return this.#parts.config;
  }
  get identity() {
    return this.#parts.identity;
  }
  get confidential() {
    return this.#parts.platform.confidential;
  }
  get platform() {
    return this.#parts.platform.name;
  }
  get version() {
    return this.#parts.version;
  }
  get quote() {
    return this.#parts.quote;
  }
  get claims() {
    return this.#parts.claims;
  }

  state = () => this.#state;
  replica = () => this.membership?.replica;
  lastSignedSeqno = () => this.membership?.ledger.lastSignature ?? 0;
  primary = () => this.membership?.replica.leader;
  stopping = () => this.#stopping;
  frontendOpen = (frontend: "app" | "gov") => this.#open[frontend];
  sessionMetrics = () => this.http.sessionCounts();

  /** Founds or joins the service. @throws Fault when that is refused for good */
  async run(): Promise<void> {
    const { config } = this.#parts;
    const seat = {
      config,
      identity: this.#parts.identity,
      host: this.#parts.hostLedger,
      coreOptions: this.#coreOptions(),
      send: (to: NodeId, message: readonly Uint8Array[]) => this.channels.send(to, message),
      setPeers: (peers: ReadonlyMap<NodeId, string>) => this.channels.setPeers(peers),
      nowMs: Date.now,
      onRole: (role: Role, view: View, leader: NodeId | undefined) => this.#roleChanged(role, view, leader),
      halt: this.#parts.halt,
    };
    if (config.command.type === "Start") {
      const { claims, quote } = this.#parts;
      found({ ...seat, command: config.command, claims, quote }, (membership) => this.#becomeMember(membership));
      return;
    }
    this.#state = "Pending";
    const { command } = config;
    const membership = await join({
      ...seat,
      command,
      platform: this.#parts.platform,
      checkResponder: (claims) => checkOwnPolicy(command.accepted_measurements, this.#parts.claims, claims),
      dial: (address) => this.#parts.streams.open("rpc", address),
      log: (level, message) => this.#log(level, message),
      signal: this.#leaving.signal,
    });
    this.#becomeMember(membership);
  }

  tick(elapsedMs: number): void {
    this.membership?.replica.tick(elapsedMs);
    this.#sinceStatusMs += elapsedMs;
    if (this.#sinceStatusMs >= STATUS_INTERVAL_MS) this.#reportStatus();
  }

  /** Hands over leadership and lets what is in flight commit, for at most `waitMs`. */
  async stop(waitMs: number): Promise<void> {
    this.#stopping = true;
    this.#leaving.abort();
    const replica = this.membership?.replica;
    if (replica !== undefined) {
      const until = Date.now() + waitMs;
      if (replica.isPrimary()) replica.nominate();
      while (replica.isPrimary() && replica.lastSeqno > replica.committed && Date.now() < until)
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await this.http.close();
    this.channels.close();
  }

  #becomeMember(membership: Membership): void {
    this.membership = membership;
    this.#state = "PartOfNetwork";
    this.http.setCertificate("Service", { certificate: membership.nodeCertificate, key: this.#parts.identity.key });
    this.#parts.port.send({ kind: "publish", name: "service_cert.pem", content: membership.service.certificate });
    let seen: Seqno = 0;
    membership.onCommit((seqno) => {
      // Governance is rare: look only when something of it was written since.
      const written = Math.max(...GATES.map((name) => membership.ledger.store.map(name)?.seqno ?? 0));
      if (written > seen) this.#committedGovernance(membership);
      seen = Math.max(seen, Math.min(seqno, written));
    });
  }

  /** Frontends open, and certificates change, when the committed state says so. */
  #committedGovernance(membership: Membership): void {
    const renewed = membership.renewCertificate();
    if (renewed !== undefined) {
      this.http.setCertificate("Service", { certificate: renewed, key: this.#parts.identity.key });
    }
    const tx = membership.replica.readCommitted();
    this.#open = {
      gov: open(tx, TABLES.nodeCertificates).has(this.#parts.identity.id),
      app: getOne(tx, TABLES.serviceInfo)?.status === "Open",
    };
  }

  #credentials() {
    if (this.membership === undefined) return undefined;
    return {
      certificate: this.membership.nodeCertificate,
      privateKey: this.#parts.identity.key.export({ type: "pkcs8", format: "pem" }).toString(),
      serviceCertificate: this.membership.serviceCertificate(),
    };
  }

  /**
   * A peer must run code that the service admits. Until this node's own tables have reached its own admission they may be
   * older than the peer, and the policy that it joined under decides.
   */
  #checkPeer(claims: Claims): void {
    const { config, identity } = this.#parts;
    const tx = present(this.membership, "channels open after joining").replica.read();
    const caughtUp = open(tx, TABLES.nodeInfo).get(identity.id) !== undefined;
    if (config.command.type === "Join" && !caughtUp)
      checkOwnPolicy(config.command.accepted_measurements, this.#parts.claims, claims);
    else checkJoinPolicy(tx, claims);
  }

  #operations(): Operations {
    const now = (): Operations => {
      const membership = present(this.membership, "governance runs on members");
      return serviceOperations({
        ledger: membership.ledger,
        secrets: membership.secrets,
        service: membership.service,
        shares: this.#parts.shares,
        nowMs: Date.now,
        progress: () => membership.progress(),
      });
    };
    return {
      rootAt: (version) => now().rootAt(version),
      transitionServiceToOpen: (...args) => now().transitionServiceToOpen(...args),
      endorseCertificate: (...args) => now().endorseCertificate(...args),
      refreshRecoveryShares: (...args) => now().refreshRecoveryShares(...args),
      latestLedgerSecretSeqno: (...args) => now().latestLedgerSecretSeqno(...args),
    };
  }

  #coreOptions(): CoreOptions {
    const { consensus } = this.#parts.config;
    return {
      self: this.#parts.identity.id,
      messageTimeoutMs: consensus.message_timeout,
      electionTimeoutMs: consensus.election_timeout,
      // The identity is random, so its digits are as good a seed as any; jitter needs no secrecy.
      seed: Number.parseInt(this.#parts.identity.id.slice(0, 8), 16),
      appendBytesMax: APPEND_BYTES_MAX,
    };
  }

  #roleChanged(role: Role, view: View, leader: NodeId | undefined): void {
    this.#log("info", `${role} in view ${view}${leader === undefined ? "" : `, primary ${leader.slice(0, 8)}`}`);
    this.#reportStatus();
  }

  #reportStatus(): void {
    this.#sinceStatusMs = 0;
    const replica = this.membership?.replica;
    this.#parts.port.send({
      kind: "status",
      state: this.#state,
      role: replica?.role ?? "none",
      view: replica?.view ?? 0,
      primary: replica?.leader ?? "",
      lastSeqno: replica?.lastSeqno ?? 0,
      commitSeqno: replica?.committed ?? 0,
      sessions: { active: this.http.sessionCounts().active },
    });
  }

  #log(level: "info" | "warn" | "error", message: string): void {
    this.#parts.port.send({ kind: "log", level, message: message.slice(0, 4096) });
  }
}

/** Tables whose committed contents open frontends or change certificates. */
const GATES = [TABLES.nodeCertificates.name, TABLES.serviceInfo.name];

/** Entry bytes per append message: a group commit of a few hundred small writes fits one. */
const APPEND_BYTES_MAX = 128 * 1024;

const NAME_CHARS_MAX = 128;
const configChecker = Compile(EnclaveConfig);

export type ConfigFault = { code: "ConfigInvalid" };

function readConfig(text: string): EnclaveConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Fault<ConfigFault>({ code: "ConfigInvalid" }, "the host's configuration is not JSON");
  }
  if (configChecker.Check(value)) {
    // typebox does not look at the length of a record's keys.
    const long = Object.keys(value.rpc_interfaces).find((name) => name.length === 0 || name.length > NAME_CHARS_MAX);
    if (long === undefined) return value;
    throw new Fault<ConfigFault>(
      { code: "ConfigInvalid" },
      `an interface's name has 1 to ${NAME_CHARS_MAX} characters`,
    );
  }
  const [first] = configChecker.Errors(value);
  throw new Fault<ConfigFault>(
    { code: "ConfigInvalid" },
    `the host's configuration is not valid at ${first?.instancePath || "/"}: ${first?.message ?? "unknown"}`,
  );
}

/** The configured names, or the hosts that clients reach this node at. */
function subjectAltNames(config: EnclaveConfig): string[] {
  const { subject_alt_names } = config.node_certificate;
  if (subject_alt_names.length > 0) return subject_alt_names;
  const hosts = Object.values(config.rpc_interfaces).map(({ published_address }) =>
    published_address.slice(0, published_address.lastIndexOf(":")),
  );
  return [...new Set(hosts)].map((host) => (/^[\d.]+$|:/.test(host) ? `iPAddress:${host}` : `dNSName:${host}`));
}

/** What may be said of an error outside: our own words, never data that an unexpected message may quote. */
function describe(error: unknown): string {
  if (error instanceof Fault || error instanceof Broken) return `${error.name}: ${error.message}`;
  if (!(error instanceof Error)) return "an unknown value was thrown";
  const frames = (error.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
  return [`unexpected ${error.name}`, ...frames.slice(0, 6)].join("\n");
}
