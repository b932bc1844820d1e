/**
 * `/node/*`: what this node is, what the network is.
 *
 * Paths, fields and codes are CCF's (reference ccf-api-governance.md 3, recorded answers of 7.0.2). All of it is public;
 * nothing here needs a caller.
 *
 * Trusted.
 */
import { verifyEvidence } from "../../../protocol/attestation/verify.ts";
import { Fault } from "../../../protocol/check.ts";
import type { NodeId } from "../../../protocol/ids.ts";
import type { CoreStatus } from "../consensus/core.ts";
import { noAuth } from "../http/auth.ts";
import { type Call, type Endpoint, HttpError, json, type Method, type Reply } from "../http/endpoint.ts";
import { getOne, open } from "../kv/table.ts";
import { type NodeInfo, type NodeStatus, TABLES } from "../kv/tables.ts";
import type { Tx } from "../kv/tx.ts";
import { publicInterfaces } from "./genesis.ts";
import type { NodeView } from "./node-view.ts";
import type { Replica } from "./replica.ts";

const STATUSES: readonly string[] = ["Pending", "Trusted", "Retired"] satisfies NodeStatus[];

export function nodeEndpoints(node: NodeView): Endpoint[] {
  const local = (method: Method, path: string, handler: Endpoint["handler"]): Endpoint => ({
    method,
    path: `/node${path}`,
    auth: [noAuth],
    kind: "local",
    handler,
  });
  const read = (path: string, handler: Endpoint["handler"]): Endpoint => ({
    method: "GET",
    path: `/node${path}`,
    auth: [noAuth],
    kind: "read",
    handler,
  });
  return [
    local("GET", "/state", () => json(stateOf(node))),
    local("GET", "/version", () => json(versionOf(node))),
    local("GET", "/ready/app", () => ({ status: ready(node) && node.frontendOpen("app") ? 204 : 503 })),
    local("GET", "/ready/gov", () => ({ status: ready(node) && node.frontendOpen("gov") ? 204 : 503 })),
    local("GET", "/self_signed_certificate", () =>
      json({ self_signed_certificate: node.identity.selfSignedCertificate }),
    ),
    local("GET", "/metrics", () => json({ sessions: node.sessionMetrics() })),
    local("GET", "/primary", () => isPrimary(node)),
    local("HEAD", "/primary", () => findPrimary(node)),
    local("GET", "/backup", () => isBackup(node)),
    local("GET", "/config", () => json(configurationOf(replicaOf(node).status()))),
    local("GET", "/consensus", () => json({ details: consensusDetails(replicaOf(node).status()) })),
    local("GET", "/quotes/self", ({ tx }) => selfQuote(node, tx)),
    local("GET", "/attestations/self", ({ tx }) => selfQuote(node, tx)),
    local("GET", "/network/nodes/self", ({ tx }) => json(describeSelf(node, tx))),
    local("GET", "/service/configuration", ({ tx }) => json(getOne(tx, TABLES.serviceConfig) ?? {})),
    read("/network", ({ tx }) => network(node, tx)),
    read("/network/nodes", (call) => listNodes(node, call)),
    read("/network/nodes/primary", ({ tx }) => describePrimary(node, tx)),
    read("/network/removable_nodes", ({ tx }) => removableNodes(node, tx)),
    read("/network/nodes/{node_id}", (call) => describeOne(node, call)),
    read("/service/previous_identity", () => {
      throw new HttpError(404, "ResourceNotFound", "This service is not a recovery of a previous service.");
    }),
    read("/quotes", async ({ tx }) => json({ quotes: await trustedQuotes(tx) })),
    read("/attestations", async ({ tx }) => json({ attestations: await trustedQuotes(tx) })),
    deleteNode,
  ];
}

/** Forgets a node whose retirement is final. */
const deleteNode: Endpoint = {
  method: "DELETE",
  path: "/node/network/nodes/{node_id}",
  auth: [noAuth],
  kind: "write",
  handler({ request, tx }) {
    const id = request.params["node_id"] ?? "";
    const info = open(tx, TABLES.nodeInfo);
    const row = info.get(id);
    if (row === undefined) throw unknownNode();
    if (row.status !== "Retired" || row.retired_committed !== true)
      throw new HttpError(400, "NodeNotRetiredCommitted", "Node is not completely retired");
    info.delete(id);
    open(tx, TABLES.nodeCertificates).delete(id);
    return json(true);
  },
};

function stateOf(node: NodeView): object {
  return {
    last_signed_seqno: node.lastSignedSeqno(),
    node_id: node.identity.id,
    startup_seqno: 0,
    state: node.state(),
    stop_notice: node.stopping(),
  };
}

function versionOf(node: NodeView): object {
  return {
    ccf_version: "ccf-7.0.2",
    quickjs_version: "2025-09-13",
    unsafe: !node.confidential,
    camerata: { version: node.version, platform: node.platform, confidential: node.confidential },
  };
}

function ready(node: NodeView): boolean {
  return node.state() === "PartOfNetwork" && !node.stopping();
}

function replicaOf(node: NodeView): Replica {
  const replica = node.replica();
  if (replica === undefined)
    throw new HttpError(404, "ResourceNotFound", "This node does not take part in consensus yet.");
  return replica;
}

function isPrimary(node: NodeView): Reply {
  if (node.replica()?.isPrimary() === true) return { status: 200 };
  throw new HttpError(404, "ResourceNotFound", "Node is not primary");
}

function isBackup(node: NodeView): Reply {
  if (node.replica() !== undefined && node.replica()?.isPrimary() === false) return { status: 200 };
  throw new HttpError(404, "ResourceNotFound", "Node is not backup");
}

function findPrimary(node: NodeView): Reply {
  const replica = node.replica();
  if (replica?.isPrimary() === true) return { status: 200 };
  const id = node.primary();
  const info = replica === undefined || id === undefined ? undefined : infoOf(replica, id);
  const address = Object.values(info?.rpc_interfaces ?? {})[0]?.published_address;
  if (address === undefined) throw new HttpError(500, "InternalError", "Primary unknown");
  return { status: 308, headers: { location: `https://${address}/node/primary` } };
}

function infoOf(replica: Replica, id: NodeId): NodeInfo | undefined {
  return open(replica.read(), TABLES.nodeInfo).get(id);
}

function network(node: NodeView, tx: Tx): Reply {
  const service = getOne(tx, TABLES.serviceInfo);
  if (service === undefined) throw new HttpError(404, "ResourceNotFound", "Network status not available.");
  return json({
    current_service_create_txid: service.current_service_create_txid ?? null,
    current_view: node.replica()?.view ?? null,
    primary_id: node.primary() ?? null,
    recovery_count: service.recovery_count ?? 0,
    service_certificate: service.cert,
    service_data: service.service_data ?? null,
    service_status: service.status,
  });
}

function describe(node: NodeView, tx: Tx, id: NodeId, info: NodeInfo): object {
  return {
    last_written: open(tx, TABLES.nodeInfo).versionOf(id) ?? 0,
    node_data: info.node_data ?? null,
    node_id: id,
    primary: id === node.primary(),
    rpc_interfaces: info.rpc_interfaces,
    status: info.status,
  };
}

function describeSelf(node: NodeView, tx: Tx): object {
  const { id } = node.identity;
  const info = open(tx, TABLES.nodeInfo).get(id);
  if (info !== undefined) return describe(node, tx, id, info);
  return {
    last_written: 0,
    node_data: node.config.node_data ?? null,
    node_id: id,
    primary: false,
    rpc_interfaces: publicInterfaces(node.config.rpc_interfaces),
    status: "Pending",
  };
}

function describeOne(node: NodeView, { request, tx }: Call): Reply {
  const id = request.params["node_id"] ?? "";
  const info = open(tx, TABLES.nodeInfo).get(id);
  if (info === undefined) throw unknownNode();
  return json(describe(node, tx, id, info));
}

function describePrimary(node: NodeView, tx: Tx): Reply {
  const id = node.primary();
  const info = id === undefined ? undefined : open(tx, TABLES.nodeInfo).get(id);
  if (id === undefined || info === undefined) throw new HttpError(500, "InternalError", "Primary unknown");
  return json(describe(node, tx, id, info));
}

function listNodes(node: NodeView, { request, tx }: Call): Reply {
  const status = request.query.get("status");
  if (status !== null && !STATUSES.includes(status))
    throw new HttpError(
      400,
      "InvalidQueryParameterValue",
      `Query parameter 'status' is not a valid node status: one of ${STATUSES.join(", ")}.`,
    );
  const host = request.query.get("host");
  const port = request.query.get("port");
  const at = (info: NodeInfo) =>
    Object.values(info.rpc_interfaces).some(({ published_address = "" }) => {
      const colon = published_address.lastIndexOf(":");
      return (
        (host === null || published_address.slice(0, colon) === host) &&
        (port === null || published_address.slice(colon + 1) === port)
      );
    });
  const nodes = open(tx, TABLES.nodeInfo)
    .entries()
    .filter(([, info]) => (status === null || info.status === status) && at(info))
    .map(([id, info]) => describe(node, tx, id, info));
  return json({ nodes });
}

function removableNodes(node: NodeView, tx: Tx): Reply {
  const replica = replicaOf(node);
  const committed = open(replica.readCommitted(), TABLES.nodeInfo);
  const nodes = open(tx, TABLES.nodeInfo)
    .entries()
    .filter(([id, info]) => info.retired_committed === true && committed.get(id)?.retired_committed === true)
    .map(([id, info]) => describe(node, tx, id, info));
  return json({ nodes });
}

function unknownNode(): HttpError {
  return new HttpError(404, "ResourceNotFound", "Node not found");
}

async function selfQuote(node: NodeView, tx: Tx): Promise<Reply> {
  const info = open(tx, TABLES.nodeInfo).get(node.identity.id);
  if (info === undefined) throw new HttpError(404, "ResourceNotFound", "Could not find node quote.");
  return json(await quote(node.identity.id, info));
}

async function trustedQuotes(tx: Tx): Promise<object[]> {
  const trusted = open(tx, TABLES.nodeInfo)
    .entries()
    .filter(([, info]) => info.status === "Trusted");
  return Promise.all(trusted.map(([id, info]) => quote(id, info)));
}

async function quote(id: NodeId, info: NodeInfo): Promise<object> {
  const { format, quote: raw, endorsements, uvm_endorsements } = info.quote_info;
  try {
    const { measurement } = await verifyEvidence(info.quote_info);
    return {
      endorsements,
      format,
      measurement,
      node_id: id,
      raw,
      ...(uvm_endorsements !== undefined && { uvm_endorsements }),
    };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new HttpError(500, "InvalidQuote", "Failed to extract code id from node quote.");
  }
}

function configurationOf(status: CoreStatus): object {
  const nodes = status.configurations.at(-1)?.nodes ?? new Map<NodeId, string>();
  return Object.fromEntries([...nodes].map(([id, address]) => [id, { address }]));
}

function consensusDetails(status: CoreStatus): object {
  const LEADERSHIP = {
    none: "None",
    follower: "Follower",
    pre_vote_candidate: "PreVoteCandidate",
    candidate: "Candidate",
    leader: "Leader",
  } as const;
  return {
    acks: Object.fromEntries(
      [...status.peers].map(([id, peer]) => [id, { last_received_ms: peer.lastAckMs, seqno: peer.match }]),
    ),
    configs: status.configurations.map(({ seqno, nodes }) => ({
      idx: seqno,
      nodes: Object.fromEntries([...nodes].map(([id, address]) => [id, { address }])),
      rid: seqno,
    })),
    current_view: status.view,
    leadership_state: LEADERSHIP[status.role],
    membership_state: status.membership,
    primary_id: status.leader ?? null,
    ticking: status.ticking,
    ...(status.retirementPhase !== undefined && { retirement_phase: status.retirementPhase }),
  };
}
