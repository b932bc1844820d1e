/**
 * Members of one service in one process: real ledgers, real consensus, real signatures; a host and a network of arrays.
 */

import type { EnclaveConfig } from "../../../../../node/boundary/config.ts";
import { createRaft } from "../../../../../node/enclave/consensus/raft.ts";
import { open } from "../../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../../node/enclave/kv/tables.ts";
import { found } from "../../../../../node/enclave/service/founding.ts";
import { describeNode, type StartCommand } from "../../../../../node/enclave/service/genesis.ts";
import { createNodeIdentity, type NodeIdentity } from "../../../../../node/enclave/service/identity.ts";
import { Membership, type MembershipParts } from "../../../../../node/enclave/service/membership.ts";
import { createVirtualPlatform } from "../../../../../node/enclave/service/platform-virtual.ts";
import type { HostLedger } from "../../../../../node/enclave/service/replica.ts";
import { verifyEvidence } from "../../../../../protocol/attestation/verify.ts";
import { present } from "../../../../../protocol/check.ts";
import { endorse } from "../../../../../protocol/crypto/x509.ts";
import type { NodeId, Seqno } from "../../../../../protocol/ids.ts";
import { participantKeys } from "./participants.ts";

const RPC = {
  bind_address: "127.0.0.1:8000",
  published_address: "127.0.0.1:8000",
  endorsement: "Service" as const,
  max_open_sessions_soft: 1000,
  max_open_sessions_hard: 1010,
  max_body_size: 1_000_000,
  max_header_size: 16_384,
  max_headers_count: 256,
};

export function testConfig(index: number, command: EnclaveConfig["command"]): EnclaveConfig {
  const address = `127.0.0.1:${9000 + index}`;
  return {
    node_to_node_interface: { bind_address: address, published_address: address },
    rpc_interfaces: { primary_rpc_interface: RPC },
    node_certificate: {
      subject_name: "CN=CCF Node",
      subject_alt_names: [],
      curve_id: "Secp384R1",
      initial_validity_days: 90,
    },
    consensus: { message_timeout: 20, election_timeout: 200, max_uncommitted_tx_count: 10_000 },
    ledger_signatures: { tx_count: 5000, delay: 1000 },
    ledger_chunk_size: 5_000_000,
    idle_connection_timeout: 60_000,
    command,
  };
}

export async function testStartCommand(members = 3): Promise<StartCommand> {
  const keys = await Promise.all(Array.from({ length: members }, (_, i) => participantKeys(`member${i}`)));
  return {
    type: "Start",
    members: keys.map(({ certificate }) => ({ certificate })),
    constitution: "export function validate() {}",
    service_configuration: {
      recovery_threshold: 0,
      maximum_node_certificate_validity_days: 365,
      maximum_service_certificate_validity_days: 365,
      recent_cose_proposals_window_size: 100,
    },
    service_subject_name: "CN=CCF Service",
    initial_service_certificate_validity_days: 90,
    cose_signatures: { issuer: "service.example.com", subject: "ledger.signature" },
  };
}

/** A host that keeps entries in an array and says that they are durable a turn later. */
export class ArrayHost implements HostLedger {
  readonly entries: Uint8Array[] = [];
  committed: Seqno = 0;
  readonly #durable: (op: number) => void;

  constructor(durable: (op: number) => void) {
    this.#durable = durable;
  }

  append(op: number, first: Seqno, entries: readonly Uint8Array[]): void {
    this.entries.length = first - 1;
    this.entries.push(...entries.map((entry) => Buffer.from(entry)));
    setImmediate(() => this.#durable(op));
  }

  flush(): void {
    // Nothing is held back here.
  }

  truncate(op: number, after: Seqno): void {
    this.entries.length = after;
    setImmediate(() => this.#durable(op));
  }

  commit(seqno: Seqno): void {
    this.committed = seqno;
  }

  async read(first: Seqno, last: Seqno): Promise<readonly Uint8Array[]> {
    return this.entries.slice(first - 1, Math.min(last, first + 15));
  }
}

export type TestNode = {
  id: NodeId;
  identity: NodeIdentity;
  config: EnclaveConfig;
  host: ArrayHost;
  membership: Membership;
};

export class Cluster {
  readonly nodes = new Map<NodeId, TestNode>();
  readonly halts: string[] = [];
  /** Links that are cut, as `from>to`. */
  readonly cut = new Set<string>();
  readonly platform = createVirtualPlatform({
    measurement: "11".repeat(32),
    hostData: "22".repeat(32),
    debug: false,
    productId: 1,
    securityVersion: 1,
  });

  async start(): Promise<TestNode> {
    const command = await testStartCommand();
    const config = testConfig(0, command);
    const identity = await createNodeIdentity(config.node_certificate, ["iPAddress:127.0.0.1"], new Date());
    const quote = await this.platform.evidence(identity.reportData);
    const claims = await verifyEvidence(quote);
    const { parts, host, register } = this.#seat(config, identity);
    found({ ...parts, command, claims, quote, coreOptions: this.#options(identity.id, config) }, register);
    return present(this.nodes.get(identity.id), host === undefined ? "" : "the founder is a node");
  }

  /** Joins a node as one that the service has just trusted. */
  async join(through: TestNode): Promise<TestNode> {
    const index = this.nodes.size;
    const config = testConfig(index, through.config.command);
    const identity = await createNodeIdentity(config.node_certificate, ["iPAddress:127.0.0.1"], new Date());
    const quote = await this.platform.evidence(identity.reportData);
    const claims = await verifyEvidence(quote);
    const { service, secrets } = through.membership;
    const certificate = endorse({
      csr: identity.certificateRequest,
      issuerCertificatePem: service.certificate,
      issuerKey: service.key,
      validFrom: identity.validFrom,
      days: identity.validityDays,
    });
    const { parts, register } = this.#seat(config, identity);
    register(
      new Membership({
        ...parts,
        service,
        secrets,
        nodeCertificate: certificate,
        coseSignatures: { issuer: "service.example.com", subject: "ledger.signature" },
        core: createRaft(this.#options(identity.id, config), { kind: "join" }),
      }),
    );
    const tx = through.membership.replica.read();
    open(tx, TABLES.nodeInfo).set(identity.id, { ...describeNode(config, identity, quote, claims), status: "Trusted" });
    open(tx, TABLES.nodeCertificates).set(identity.id, certificate);
    through.membership.replica.submit(tx);
    return present(this.nodes.get(identity.id), "the joiner is a node");
  }

  /** Lets time pass until `done`, at most `rounds` ticks of 10 ms each. */
  async until(done: () => boolean, rounds = 1000): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      if (this.halts.length > 0) throw new Error(`a node halted: ${this.halts.join("; ")}`);
      if (done()) return;
      for (const node of this.nodes.values()) node.membership.replica.tick(10);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error("that did not happen");
  }

  primary(): TestNode | undefined {
    return [...this.nodes.values()].find((node) => node.membership.replica.isPrimary());
  }

  #options(self: NodeId, config: EnclaveConfig) {
    return {
      self,
      messageTimeoutMs: config.consensus.message_timeout,
      electionTimeoutMs: config.consensus.election_timeout,
      seed: Number.parseInt(self.slice(0, 8), 16),
      appendBytesMax: 64 * 1024,
    };
  }

  #seat(config: EnclaveConfig, identity: NodeIdentity) {
    const host = new ArrayHost((op) => this.nodes.get(identity.id)?.membership.replica.durable(op));
    const parts: Omit<MembershipParts, "service" | "secrets" | "nodeCertificate" | "coseSignatures" | "core"> = {
      config,
      identity,
      host,
      send: (to, message) => {
        const bytes = Buffer.concat(message);
        setImmediate(() => {
          if (!this.cut.has(`${identity.id}>${to}`)) this.nodes.get(to)?.membership.replica.receive(identity.id, bytes);
        });
        return true;
      },
      setPeers: () => undefined,
      nowMs: Date.now,
      onRole: () => undefined,
      halt: (reason) => void this.halts.push(reason),
    };
    const register = (membership: Membership) =>
      void this.nodes.set(identity.id, { id: identity.id, identity, config, host, membership });
    return { parts, host, register };
  }
}
