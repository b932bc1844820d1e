/**
 * The host process of a validator: starts the enclave and serves it until one of them ends.
 *
 * Order of a start: the package is checked, the ledger opened, addresses taken, and only then the enclave started, so
 * that whatever an operator can get wrong is said before anything runs. Order of an end: the enclave is asked to leave,
 * gets `STOP_MS` for it, then files and sockets are closed. If the enclave dies the host ends too, with the reason: a
 * node's identity lives in its enclave's memory, so there is nothing to restart.
 *
 * It relays, stores and reports; it decides nothing. Everything it sees is ciphertext or meant for everyone.
 *
 * Untrusted.
 */
import { createWriteStream, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { makeRelayKey, type Relay, startRelay } from "../../network/host/relay.ts";
import { Fault, present, unreachable } from "../../protocol/check.ts";
import type { EnclaveConfig } from "../boundary/config.ts";
import { toEnclave, toHost } from "../boundary/messages.ts";
import { openPort, type Port } from "../boundary/port.ts";
import type { MessageOf } from "../boundary/schema.ts";
import type { HostConfig } from "./config.ts";
import { openEnclavePackage } from "./enclave-package.ts";
import { type EnclaveProcess, startEnclave } from "./enclave-process.ts";
import { Health, serveHealth } from "./health.ts";
import { type LedgerStore, openLedgerStore } from "./ledger-store.ts";
import type { Log } from "./log.ts";
import { connectRpc, type Listeners, listenRpc } from "./sockets.ts";
import { createHostStreams, type HostStreams } from "./streams.ts";

export type HostFault = { code: "LedgerNotEmpty"; directory: string };

export type HostParts = Readonly<{
  log: Log;
  /** Directory of the enclave package. */
  enclaveDirectory: string;
  /** The Node binary that runs the enclave. */
  runtime: string;
}>;

/** How the host ended. `failed`: `why` says what the operator should know. */
export type HostEnd = Readonly<{ outcome: "stopped" | "refused" | "failed" | "killed"; why: string }>;

export interface Host {
  /** Asks the enclave to leave; a second time, ends it at once. */
  stop(): void;
  readonly ended: Promise<HostEnd>;
}

type FromEnclave = MessageOf<typeof toHost>;

/** How long the enclave may take to leave. It hands over leadership and waits for what is in flight. */
const STOP_MS = 10_000;
/** How long closing files and sockets may take. */
const CLOSE_MS = 3_000;

/** Starts a validator. @throws Fault of whatever is not as it should be; then nothing is left running. */
export async function startHost(config: HostConfig, parts: HostParts): Promise<Host> {
  const host = new Supervisor(config, parts);
  try {
    await host.start();
  } catch (error) {
    await host.close();
    throw error;
  }
  return host;
}

class Supervisor implements Host {
  readonly ended: Promise<HostEnd>;
  readonly #config: HostConfig;
  readonly #parts: HostParts;
  readonly #log: Log;
  readonly #health = new Health();
  readonly #resolveEnded: (end: HostEnd) => void;
  readonly #closers: Array<() => void | Promise<void>> = [];
  #store: LedgerStore | undefined;
  #relay: Relay | undefined;
  #listeners: Listeners | undefined;
  #enclave: EnclaveProcess | undefined;
  #port: Port<typeof toEnclave> | undefined;
  #streams: HostStreams | undefined;
  #measurement = "";
  /** Why the enclave ends, once it or we have said so. */
  #end: HostEnd | undefined;
  #finished = false;

  constructor(config: HostConfig, parts: HostParts) {
    this.#config = config;
    this.#parts = parts;
    this.#log = parts.log;
    const { promise, resolve } = Promise.withResolvers<HostEnd>();
    this.ended = promise;
    this.#resolveEnded = resolve;
  }

  async start(): Promise<void> {
    const config = this.#config;
    const enclave = await openEnclavePackage(this.#parts.enclaveDirectory, this.#parts.runtime);
    this.#measurement = enclave.properties.unique_id;
    // Before anything is opened: level's native code opens its files so that a child would inherit them.
    const process = await startEnclave(enclave, this.#parts.runtime, (line) => this.#log("warn", line, "enclave"));
    this.#enclave = process;
    this.#store = await this.#openLedger();
    const relay = await startRelay({
      listen: config.peerBindAddress,
      onStream: (stream, from) => this.#accepted(stream, { protocol: "peer", interface: "", from }),
      ...(config.hostKeyFile !== undefined && { key: await hostKey(config.hostKeyFile) }),
      ...(config.allowedPeers !== undefined && { allow: config.allowedPeers }),
    });
    this.#relay = relay;
    this.#closers.push(() => relay.stop());
    const listeners = await listenRpc(config.rpcInterfaces, (socket, name, from) =>
      this.#accepted(socket, { protocol: "rpc", interface: name, from }),
    );
    this.#listeners = listeners;
    this.#closers.push(() => listeners.close());
    if (config.adminAddress !== undefined) {
      const admin = await serveHealth(config.adminAddress, this.#health, () => performance.now());
      this.#closers.push(() => admin.close());
      this.#log("info", `probes and metrics on http://${admin.address}`);
    }
    this.#writeAddresses(listeners, relay);

    void process.ended.then(({ code, signal }) => this.#enclaveEnded(code, signal));
    const observe = this.#boundaryRecorder();
    const port = openPort({
      ...(observe !== undefined && { observe }),
      stream: process.boundary,
      send: toEnclave,
      receive: toHost,
      onMessage: (message) => this.#receive(message),
      // When the enclave goes its descriptor goes first; the process's own end, right after, says more.
      onFault: (fault) => {
        if (fault.detail.code !== "PortClosed")
          this.#break(`the enclave does not keep to the boundary: ${fault.message}`);
      },
    });
    this.#port = port;
    this.#streams = createHostStreams({
      port,
      connect: (protocol, address) => (protocol === "peer" ? relay.dial(address) : connectRpc(address)),
    });
    port.send({ kind: "start", config: JSON.stringify(withRealPorts(config.enclave, listeners, relay)) });
    this.#startTicking(port);
    this.#log("info", `enclave ${this.#measurement.slice(0, 16)} runs as process ${process.pid}`);
  }

  stop(): void {
    if (this.#port === undefined || this.#end?.outcome === "stopped") {
      this.#end = { outcome: "killed", why: "ended at once, as asked to" };
      return this.#enclave?.kill();
    }
    if (this.#end !== undefined) return;
    this.#end = { outcome: "stopped", why: "asked to" };
    this.#health.stopping = true;
    this.#log("info", "stopping: the enclave finishes what is in flight");
    this.#port.send({ kind: "stop" });
    const timer = setTimeout(() => {
      this.#end = { outcome: "killed", why: `the enclave did not stop within ${STOP_MS / 1000} s` };
      this.#enclave?.kill();
    }, STOP_MS);
    timer.unref();
  }

  /** Closes everything that is open, in the reverse order of its opening. */
  async close(): Promise<void> {
    this.#enclave?.kill();
    this.#streams?.close();
    for (const close of this.#closers.splice(0).reverse()) await within(CLOSE_MS, close());
  }

  #boundaryRecorder(): ((bytes: Uint8Array) => void) | undefined {
    const file = this.#config.files.boundaryRecord;
    if (file === undefined) return undefined;
    const record = createWriteStream(file, { flags: "a" });
    record.on("error", (error) => this.#log("warn", `the boundary cannot be recorded: ${error.message}`));
    this.#closers.push(() => new Promise<void>((resolve) => record.end(resolve)));
    this.#log("warn", `every byte that crosses the boundary is recorded in ${file}`);
    return (bytes) => void record.write(bytes);
  }

  async #openLedger(): Promise<LedgerStore> {
    const directory = this.#config.ledgerDirectory;
    mkdirSync(directory, { recursive: true });
    const store = await openLedgerStore(directory, {
      onDurable: (op) => this.#port?.send({ kind: "ledgerDurable", op }),
      onFault: (fault) => this.#break(fault.message),
    });
    this.#closers.push(() => store.close());
    if (store.last() > 0)
      throw new Fault<HostFault>(
        { code: "LedgerNotEmpty", directory },
        `${directory} holds the ledger of an earlier node up to seqno ${store.last()}. A restarted node is a new node: ` +
          "give it an empty ledger directory and let it join; keep this one for verification and recovery",
      );
    return store;
  }

  #accepted(stream: Parameters<HostStreams["accepted"]>[0], opened: Parameters<HostStreams["accepted"]>[1]): void {
    if (this.#streams === undefined || this.#end !== undefined) stream.destroy();
    else this.#streams.accepted(stream, opened);
  }

  #receive(message: FromEnclave): void {
    const store = present(this.#store, "the enclave runs after the ledger was opened");
    switch (message.kind) {
      case "streamOpen":
      case "streamData":
      case "streamCredit":
      case "streamEnd":
        return this.#receiveStream(message);
      case "ledgerAppend":
        return store.append(message.op, message.first, message.entries);
      case "ledgerTruncate":
        return store.truncate(message.op, message.after);
      case "ledgerCommit":
        return store.commit(message.seqno);
      case "ledgerRead":
        return this.#read(store, message.request, message.first, message.last);
      case "started":
        return this.#started(message.node, message.confidential);
      case "publish":
        return this.#publish(message.name, message.content);
      case "status":
        return this.#health.report(message, performance.now());
      case "log":
        return this.#log(message.level, message.message, "enclave");
      case "stopped":
        if (message.fatal) this.#end = { outcome: "refused", why: message.why };
        else this.#end ??= { outcome: "stopped", why: message.why };
        this.#health.stopping = true;
        return;
      default:
        return unreachable(message);
    }
  }

  #receiveStream(message: Parameters<HostStreams["receive"]>[0]): void {
    try {
      this.#streams?.receive(message);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#break(`the enclave does not keep to the boundary: ${error.message}`);
    }
  }

  #read(store: LedgerStore, request: number, first: number, last: number): void {
    store.read(first, last).then(
      (entries) => this.#port?.send({ kind: "ledgerRange", request, entries }),
      (error: Error) => this.#break(`the ledger cannot be read: ${error.message}`),
    );
  }

  #started(node: string, confidential: boolean): void {
    const relay = present(this.#relay, "the enclave runs after the relay was started");
    const listeners = present(this.#listeners, "the enclave runs after the addresses were taken");
    const facts = {
      host_pid: process.pid,
      enclave_pid: present(this.#enclave, "an enclave that speaks runs").pid,
      node_id: node,
      confidential,
      measurement: this.#measurement,
      rpc_addresses: listeners.addresses,
      node_to_node_address: relay.address,
      peer_id: relay.peerId,
      ledger: this.#config.ledgerDirectory,
    };
    this.#health.facts = facts;
    if (this.#config.files.status !== undefined) this.#write(this.#config.files.status, `${JSON.stringify(facts)}\n`);
    this.#log("info", `node ${node} is up${confidential ? "" : "; this platform is NOT confidential"}`);
  }

  #publish(name: "nodecert.pem" | "service_cert.pem", content: string): void {
    const { nodeCertificate, serviceCertificate } = this.#config.files;
    const file = name === "nodecert.pem" ? nodeCertificate : serviceCertificate;
    if (file !== undefined) this.#write(file, content);
  }

  #writeAddresses(listeners: Listeners, relay: Relay): void {
    const { pid, peerAddress, rpcAddresses } = this.#config.files;
    if (pid !== undefined) this.#write(pid, `${process.pid}\n`);
    if (peerAddress !== undefined) this.#write(peerAddress, `${relay.address}\n`);
    if (rpcAddresses !== undefined) this.#write(rpcAddresses, `${JSON.stringify(listeners.addresses)}\n`);
  }

  /** Whole or not at all: others wait for these files. */
  #write(file: string, content: string): void {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(`${file}.new`, content);
    renameSync(`${file}.new`, file);
  }

  #startTicking(port: Port<typeof toEnclave>): void {
    let toldMs = performance.now();
    const timer = setInterval(() => {
      // A full port means that the enclave is behind already; the next tick then tells it of all the time that passed.
      if (!port.writable) return;
      const elapsedMs = Math.floor(performance.now() - toldMs);
      if (elapsedMs < 1) return;
      toldMs += elapsedMs;
      port.send({ kind: "tick", elapsedMs });
    }, this.#config.tickMs);
    this.#closers.push(() => clearInterval(timer));
  }

  /** Something cannot go on. The enclave must not either: what it believes durable or sent may not be. */
  #break(why: string): void {
    if (this.#end?.outcome !== "failed") this.#end = { outcome: "failed", why };
    this.#enclave?.kill();
  }

  async #enclaveEnded(code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    if (this.#finished) return;
    this.#finished = true;
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    this.#end ??= { outcome: "failed", why: `the enclave process ended ${how} without a word` };
    if (this.#end.outcome === "stopped" && (code !== 0 || signal !== null))
      this.#end = { outcome: "failed", why: `the enclave process ended ${how} while it was stopping` };
    await this.close();
    this.#resolveEnded(this.#end);
  }
}

/** Ports that the system chose, told to the enclave as part of the addresses it publishes. */
function withRealPorts(config: EnclaveConfig, listeners: Listeners, relay: Relay): EnclaveConfig {
  const interfaces = Object.entries(config.rpc_interfaces).map(([name, rpc]) => [
    name,
    { ...rpc, published_address: withPort(rpc.published_address, listeners.addresses[name] ?? "") },
  ]);
  const peer = config.node_to_node_interface;
  return {
    ...config,
    node_to_node_interface: { ...peer, published_address: withPort(peer.published_address, relay.address) },
    rpc_interfaces: Object.fromEntries(interfaces) as EnclaveConfig["rpc_interfaces"],
  };
}

function withPort(published: string, bound: string): string {
  return published.endsWith(":0") ? published.slice(0, -1) + bound.slice(bound.lastIndexOf(":") + 1) : published;
}

async function hostKey(file: string): Promise<Uint8Array> {
  if (existsSync(file)) return readFileSync(file);
  const key = await makeRelayKey();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, key, { mode: 0o600 });
  return key;
}

/** Waits for a promise no longer than this; what it was waiting for is given up. */
async function within(ms: number, work: void | Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}
