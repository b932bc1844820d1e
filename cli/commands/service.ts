/**
 * `camerata service`: the service as a whole.
 *
 * A member's machine.
 */
import { X509Certificate } from "node:crypto";
import { spkiDigest } from "../../protocol/crypto/keys.ts";
import type { Session } from "../client/session.ts";
import type { Declare } from "./group.ts";
import { type ProposeOptions, propose, withProposalOptions } from "./proposing.ts";

type Network = {
  service_status: string;
  service_certificate: string;
  current_view: number | null;
  primary_id: string | null;
  recovery_count: number;
  current_service_create_txid: string | null;
};

export const declare: Declare = (group, act) => {
  group.command("status").description("is it open, who leads, what is its identity").action(act(status));
  withProposalOptions(
    group.command("open").description("propose to open the service to users; members vote on it"),
  ).action(act(open));
};

async function status(session: Session): Promise<void> {
  const client = await session.client();
  const network = await client.get<Network>("/node/network");
  const version = await client.get<{ camerata?: { platform: string; confidential: boolean } }>("/node/version");
  const { transaction_id: committed } = await client.get<{ transaction_id: string }>("/node/commit");
  session.output.record(
    {
      status: network.service_status,
      identity: spkiDigest(new X509Certificate(network.service_certificate).publicKey),
      primary: network.primary_id,
      view: network.current_view,
      committed,
      platform: version.camerata?.platform,
      confidential: version.camerata?.confidential === true ? "yes" : "NO: for development only",
      certificate: network.service_certificate,
    },
    "status",
  );
}

async function open(session: Session, _: readonly string[], options: ProposeOptions): Promise<void> {
  const { service_certificate: identity } = await (await session.client()).get<Network>("/node/network");
  await propose(session, [{ name: "transition_service_to_open", args: { next_service_identity: identity } }], options);
}
