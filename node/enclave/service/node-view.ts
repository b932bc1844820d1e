/**
 * What a node says about itself and its service, as the `/node` endpoints need it. Supplied by the composition root.
 *
 * Trusted.
 */
import type { NodeId, Seqno } from "../../../protocol/ids.ts";
import type { EnclaveConfig } from "../../boundary/config.ts";
import type { SessionMetrics } from "../http/server.ts";
import type { NodeIdentity } from "./identity.ts";
import type { Replica } from "./replica.ts";

/** CCF's start-up states of a node, those that exist before recovery does. */
export type NodeState = "Initialized" | "Pending" | "PartOfNetwork";

export interface NodeView {
  readonly config: EnclaveConfig;
  readonly identity: NodeIdentity;
  /** False on the `virtual` platform: said wherever this node shows itself. */
  readonly confidential: boolean;
  readonly platform: string;
  readonly version: string;
  state(): NodeState;
  /** Undefined until this node takes part in consensus. */
  replica(): Replica | undefined;
  lastSignedSeqno(): Seqno;
  primary(): NodeId | undefined;
  stopping(): boolean;
  frontendOpen(frontend: "app" | "gov"): boolean;
  sessionMetrics(): SessionMetrics;
}
