/**
 * What an entry's writes mean to consensus: who the trusted nodes are from now on, and whose retirement is final.
 *
 * Trusted. Pure.
 */
import type { NodeId } from "../../../protocol/ids.ts";
import { keyBytes, type WriteSet } from "../../../protocol/ledger/write-set.ts";
import type { Configuration, EntryInfo } from "../consensus/core.ts";
import type { Store } from "../kv/store.ts";
import { open } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import { Tx } from "../kv/tx.ts";

/** @param store with the entry's writes applied. */
export function consensusHooks(store: Store, writes: WriteSet): Pick<EntryInfo, "configuration" | "retiredCommitted"> {
  const rows = writes.get(TABLES.nodeInfo.name);
  if (rows === undefined) return {};
  const retired: NodeId[] = [];
  for (const [key, value] of rows) {
    if (value === undefined) continue;
    if (TABLES.nodeInfo.value.decode(value).retired_committed === true) retired.push(keyBytes(key).toString("utf8"));
  }
  return { configuration: trustedNodes(store), ...(retired.length > 0 && { retiredCommitted: retired.sort() }) };
}

/** The nodes that the newest state trusts, and where they listen for other nodes. */
export function trustedNodes(store: Store): Configuration {
  const nodes = new Map<NodeId, string>();
  open(new Tx(store), TABLES.nodeInfo).forEach((id, info) => {
    const { published_address, bind_address } = info.node_to_node_interface;
    if (info.status === "Trusted") nodes.set(id, published_address ?? bind_address);
  });
  return nodes;
}

/**
 * The retired nodes that an entry deletes from the table. Their retirement is committed for good, whatever becomes of
 * the deletion, and their certificates would go on looking like a node's.
 * @param store as it is before the entry.
 */
export function departingNodes(store: Store, writes: WriteSet): NodeId[] {
  const departing: NodeId[] = [];
  for (const [key, value] of writes.get(TABLES.nodeInfo.name) ?? []) {
    if (value !== undefined) continue;
    const node = keyBytes(key).toString("utf8");
    if (open(new Tx(store), TABLES.nodeInfo).get(node)?.retired_committed === true) departing.push(node);
  }
  return departing;
}
