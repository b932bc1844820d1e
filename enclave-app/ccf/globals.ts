/**
 * Which globals a script gets, by what it runs for, and who answers its calls.
 *
 * Trusted.
 */
import type { Purpose } from "../../governance/enclave/interpreter.ts";
import type { Tx } from "../../node/enclave/kv/tx.ts";
import type { Operations } from "../../node/enclave/service/operations.ts";
import type { GuestGlobal } from "../js/guest-types.ts";
import { GuestError, type SyncValue } from "../js/sync-call.ts";
import { ambientGlobal } from "./ambient.ts";
import { consoleGlobal } from "./console.ts";
import { convertersGlobal } from "./converters.ts";
import { cryptoGlobal } from "./crypto.ts";
import { govGlobal } from "./gov.ts";
import { kvGlobal, serveKv } from "./kv.ts";
import { networkGlobal, serveNetwork } from "./network.ts";
import { nodeGlobal, serveNode } from "./node.ts";

const COMMON = [consoleGlobal, ambientGlobal, convertersGlobal, cryptoGlobal, govGlobal, kvGlobal];

/** In the worker: the globals of a script. */
export function guestGlobals(purpose: Purpose): readonly GuestGlobal[] {
  switch (purpose) {
    case "decide":
    case "ballot":
      return COMMON;
    case "apply":
      return [...COMMON, nodeGlobal, networkGlobal];
  }
}

/** On the main thread: answers a script's calls from its transaction. */
export function serveGuest(
  purpose: Purpose,
  tx: Tx,
  operations: Operations,
): (name: string, args: readonly SyncValue[]) => SyncValue {
  const served = new Map(
    Object.entries({
      ...serveKv(tx, purpose),
      ...(purpose === "apply" && { ...serveNode(tx, operations), ...serveNetwork(tx, operations) }),
    }),
  );
  return (name, args) => {
    const serve = served.get(name);
    if (serve === undefined) throw new GuestError("TypeError", `${name} is not available here`);
    return serve(...args);
  };
}
