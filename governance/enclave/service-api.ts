/**
 * `/gov/service`: what the service is, read from its tables.
 *
 * Paths and shapes: reference ccf-api-governance.md 4.3, 4.4, and the answers of a running CCF 7.0.2.
 *
 * Trusted.
 */
import { type Call, type Endpoint, HttpError, json, type ServicePort } from "../../node/enclave/http/endpoint.ts";
import { getOne, open, type Table, type TableReader } from "../../node/enclave/kv/table.ts";
import { type NodeInfo, type ServiceInfo, TABLES } from "../../node/enclave/kv/tables.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { QuoteInfo } from "../../protocol/attestation/evidence.ts";
import { fromBase64, fromUtf8 } from "../../protocol/bytes.ts";
import { isFault } from "../../protocol/check.ts";
import { derToPem } from "../../protocol/crypto/pem.ts";
import { formatTxId, type MemberId, type NodeId, parseTxId, type TxId, type UserId } from "../../protocol/ids.ts";
import { idIn, reads, script } from "./gov-endpoint.ts";
import { recoveryRole } from "./shares.ts";

const VALIDITY_DAYS_DEFAULT = 365;
const WINDOW_SIZE_DEFAULT = 100;

/** What these endpoints ask the node about transactions. */
export type Transactions = Pick<ServicePort, "txStatus" | "commitTxId">;

export function serviceEndpoints(transactions: Transactions): Endpoint[] {
  return [
    reads("/service/constitution", ({ tx }) => {
      const text = getOne(tx, TABLES.constitution);
      if (text === undefined) throw missing("No constitution found.");
      return script(text);
    }),
    reads("/service/info", ({ tx }) => json(serviceInfo(tx))),
    reads("/service/join-policy", ({ tx }) => json(joinPolicy(tx))),
    reads("/service/jwk", ({ tx }) => json(jwtKeys(tx))),

    reads("/service/members", ({ tx }) => json({ value: idsOf(tx, TABLES.memberInfo).map((id) => member(tx, id)) })),
    reads("/service/members/{memberId}", (call) => {
      const id = known(call, "memberId", "member", open(call.tx, TABLES.memberInfo));
      return json(member(call.tx, id));
    }),
    reads("/service/users", ({ tx }) => json({ value: idsOf(tx, TABLES.userCerts).map((id) => user(tx, id)) })),
    reads("/service/users/{userId}", (call) => {
      const id = known(call, "userId", "user", open(call.tx, TABLES.userCerts));
      return json(user(call.tx, id));
    }),
    reads("/service/nodes", ({ tx }) =>
      json({
        value: open(tx, TABLES.nodeInfo)
          .entries()
          .map(([id, info]) => node(tx, id, info)),
      }),
    ),
    reads("/service/nodes/{nodeId}", (call) => {
      const id = idIn(call, "nodeId", "node");
      const info = open(call.tx, TABLES.nodeInfo).get(id);
      if (info === undefined) throw missing(`No node found with ID ${id}.`);
      return json(node(call.tx, id, info));
    }),

    reads("/service/transactions/commit", () => json(transaction(transactions, transactions.commitTxId()))),
    reads("/service/transactions/{transactionId}", ({ request }) =>
      json(transaction(transactions, txIdIn(request.params["transactionId"] ?? ""))),
    ),
  ];
}

function serviceInfo(tx: Tx): object {
  const info = getOne(tx, TABLES.serviceInfo);
  const config = getOne(tx, TABLES.serviceConfig);
  if (info === undefined || config === undefined) throw missing("Service information not available.");
  return {
    certificate: info.cert,
    configuration: {
      maximumNodeCertificateValidityDays: config.maximum_node_certificate_validity_days ?? VALIDITY_DAYS_DEFAULT,
      maximumServiceCertificateValidityDays: config.maximum_service_certificate_validity_days ?? VALIDITY_DAYS_DEFAULT,
      recentCoseProposalsWindowSize: config.recent_cose_proposals_window_size ?? WINDOW_SIZE_DEFAULT,
      recoveryThreshold: config.recovery_threshold,
    },
    creationTransactionId: info.current_service_create_txid,
    recoveryCount: info.recovery_count ?? 0,
    serviceData: info.service_data ?? null,
    status: info.status satisfies ServiceInfo["status"],
  };
}

/** This release admits nodes of the virtual platform; CCF's other lists have nothing to show. */
function joinPolicy(tx: Tx): object {
  return {
    sgx: { measurements: [] },
    snp: { hostData: {}, measurements: [], tcbVersions: {}, uvmEndorsements: {} },
    virtual: {
      hostData: idsOf(tx, TABLES.virtualHostData),
      measurements: idsOf(tx, TABLES.virtualMeasurements),
    },
  };
}

function jwtKeys(tx: Tx): object {
  return {
    caCertBundles: Object.fromEntries(open(tx, TABLES.caCertBundles).entries()),
    issuers: Object.fromEntries(
      open(tx, TABLES.jwtIssuers)
        .entries()
        .map(([url, { auto_refresh, ca_cert_bundle_name }]) => [
          url,
          { autoRefresh: auto_refresh ?? false, caCertBundleName: ca_cert_bundle_name },
        ]),
    ),
    keys: Object.fromEntries(
      open(tx, TABLES.jwtKeys)
        .entries()
        .map(([kid, keys]) => [
          kid,
          keys.map(({ public_key, issuer, constraint }) => ({
            publicKey: derToPem("PUBLIC KEY", fromBase64(public_key)),
            issuer,
            constraint: constraint ?? null,
          })),
        ]),
    ),
  };
}

function member(tx: Tx, id: MemberId): object {
  const info = open(tx, TABLES.memberInfo).get(id);
  const encryptionKey = open(tx, TABLES.memberEncryptionKeys).get(id);
  return {
    certificate: open(tx, TABLES.memberCerts).get(id),
    memberData: info?.member_data ?? null,
    memberId: id,
    publicEncryptionKey: encryptionKey,
    recoveryRole: encryptionKey === undefined ? info?.recovery_role : recoveryRole(tx, id),
    status: info?.status,
  };
}

/** `userData` is the stored record, with its own `user_data` inside: CCF shows it so. */
function user(tx: Tx, id: UserId): object {
  return {
    certificate: open(tx, TABLES.userCerts).get(id),
    userData: open(tx, TABLES.userInfo).get(id) ?? null,
    userId: id,
  };
}

function node(tx: Tx, id: NodeId, info: NodeInfo): object {
  return {
    certificate: open(tx, TABLES.nodeCertificates).get(id),
    nodeData: info.node_data ?? null,
    nodeId: id,
    quoteInfo: quoteInfo(info.quote_info),
    retiredCommitted: info.retired_committed ?? false,
    rpcInterfaces: Object.fromEntries(
      Object.entries(info.rpc_interfaces).map(([name, { published_address, bind_address, app_protocol }]) => [
        name,
        { publishedAddress: published_address ?? bind_address, protocol: app_protocol },
      ]),
    ),
    status: info.status,
  };
}

function quoteInfo({ format, quote, endorsements, uvm_endorsements, endorsed_tcb }: QuoteInfo): object {
  if (format === "Insecure_Virtual") {
    const { measurement, report_data, host_data } = JSON.parse(fromUtf8(fromBase64(quote))) as Record<string, unknown>;
    return { format, rawQuote: quote, details: { measurement, reportData: report_data, hostData: host_data } };
  }
  return { format, quote, endorsements, uvmEndorsements: uvm_endorsements, endorsedTcb: endorsed_tcb };
}

function transaction(transactions: Transactions, id: TxId): object {
  return { status: transactions.txStatus(id), transactionId: formatTxId(id) };
}

function txIdIn(text: string): TxId {
  try {
    return parseTxId(text);
  } catch (error) {
    if (!isFault(error, "TxIdMalformed")) throw error;
    throw new HttpError(
      400,
      "InvalidQueryParameterValue",
      `The value '${text}' passed as path parameter 'transactionId' could not be converted to a valid Transaction ID.`,
    );
  }
}

function idsOf(tx: Tx, table: Table<string, unknown>): string[] {
  return open(tx, table)
    .entries()
    .map(([id]) => id);
}

function known(call: Call, name: string, kind: "member" | "user", table: TableReader<string, unknown>): string {
  const id = idIn(call, name, kind);
  if (!table.has(id)) throw missing(`No ${kind} found with ID ${id}.`);
  return id;
}

function missing(message: string): HttpError {
  return new HttpError(404, "ResourceNotFound", message);
}
