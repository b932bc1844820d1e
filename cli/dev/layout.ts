/**
 * What lies where in the directory of a development network.
 *
 *   service_cert.pem                                    the service's identity
 *   member0_cert.pem  member0_privk.pem                 a member; member0_enc_privk.pem, member0_enc_pubk.pem for shares
 *   user0_cert.pem    user0_privk.pem                   a user
 *   ready.json                                          there once the service is open and every node trusted
 *   nodes/node0/      config.json, ledger/, host.log, status.json    one directory for each node that ever started
 *
 * The names of keys and certificates are those of CCF's sandbox, so that its users' scripts work.
 *
 * Neutral.
 */
import { join } from "node:path";
import { type Static, Type } from "typebox";

export const DEV_DIRECTORY = ".camerata/dev";

export function keyFiles(directory: string, name: string) {
  return {
    certificate: join(directory, `${name}_cert.pem`),
    privateKey: join(directory, `${name}_privk.pem`),
    encryptionPublicKey: join(directory, `${name}_enc_pubk.pem`),
    encryptionPrivateKey: join(directory, `${name}_enc_privk.pem`),
  };
}

export const serviceCertificate = (directory: string) => join(directory, "service_cert.pem");
export const readyFile = (directory: string) => join(directory, "ready.json");
export const nodesDirectory = (directory: string) => join(directory, "nodes");

/** `generation` counts how often the place of a node was taken by a new one: identities never restart. */
export function nodeDirectory(directory: string, index: number, generation: number): string {
  return join(nodesDirectory(directory), generation === 0 ? `node${index}` : `node${index}.${generation}`);
}

export const statusFile = (nodeDirectory: string) => join(nodeDirectory, "status.json");

const id = Type.String({ pattern: "^[0-9a-f]{64}$" });

/** `ready.json`. `ledger` is the directory of a node's store; ids of members and users in the order of their names. */
export const Ready = Type.Object({
  service_id: id,
  primary_id: id,
  nodes: Type.Array(
    Type.Object({
      node_id: id,
      rpc_address: Type.String(),
      host_pid: Type.Integer(),
      enclave_pid: Type.Integer(),
      ledger: Type.String(),
    }),
  ),
  members: Type.Array(id),
  users: Type.Array(id),
});
export type Ready = Static<typeof Ready>;
