/**
 * This node as the HTTP layer sees it.
 *
 * Trusted.
 */

import { Fault } from "../../../protocol/check.ts";
import type { Frontend, ServicePort } from "../http/endpoint.ts";
import { Store } from "../kv/store.ts";
import { open } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import { Tx } from "../kv/tx.ts";
import type { Replica, ReplicaFault } from "./replica.ts";

/**
 * @param replica of this node; undefined until it takes part in consensus. Until then every state is empty and nothing
 *   can be written.
 */
export function servicePort(
  replica: () => Replica | undefined,
  frontendOpen: (frontend: Frontend) => boolean,
): ServicePort {
  const nothing = new Store();
  return {
    begin: () => replica()?.read() ?? new Tx(nothing),
    commit(tx) {
      const here = replica();
      if (here !== undefined) return here.submit(tx);
      if (tx.writes().size === 0) return { view: 0, seqno: 0 };
      throw new Fault<ReplicaFault>({ code: "NotPrimary" }, "this node does not take part in consensus yet");
    },
    frontendOpen,
    overloaded: () => replica()?.overloaded() ?? false,
    isPrimary: () => replica()?.isPrimary() ?? false,
    view: () => replica()?.view ?? 0,
    primaryAddress(interfaceName) {
      const here = replica();
      const leader = here?.leader;
      if (here === undefined || leader === undefined) return undefined;
      return open(here.read(), TABLES.nodeInfo).get(leader)?.rpc_interfaces[interfaceName]?.published_address;
    },
    commitTxId: () => replica()?.commitTxId() ?? { view: 0, seqno: 0 },
    viewHistory: (since) => replica()?.viewHistory(since) ?? [],
    txStatus: (id) => replica()?.txStatus(id) ?? "Unknown",
    outcome: (id) => replica()?.outcome(id) ?? Promise.resolve("Invalid"),
    lastSeqno: () => replica()?.lastSeqno ?? 0,
  };
}
