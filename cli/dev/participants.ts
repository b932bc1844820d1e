/**
 * The people of a development network: keys made on the spot and written where CCF's sandbox has them.
 *
 * In a real consortium nobody has two of these: each member makes its keys on its own machine (`camerata member keygen`)
 * and gives away only certificates. Here they lie side by side, readable by their owner alone.
 *
 * A member's machine.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { createEncryptionKeyPair, createParticipant } from "../../protocol/crypto/participant.ts";
import type { Identity } from "../client/context.ts";
import { keyFiles } from "./layout.ts";

/** Only its owner reads a private key. */
const SECRET_MODE = 0o600;

/** Makes a member with keys for identity and recovery shares, and writes the four files. */
export async function createMember(directory: string, name: string, now: Date): Promise<Identity> {
  const encryption = await createEncryptionKeyPair();
  const files = keyFiles(directory, name);
  const identity = createUser(directory, name, now);
  writeFileSync(files.encryptionPublicKey, encryption.publicKeyPem);
  writeFileSync(files.encryptionPrivateKey, encryption.privateKeyPem, { mode: SECRET_MODE });
  return identity;
}

/** Makes a user, and writes certificate and key. Fails where there is one already: a key is never written over. */
export function createUser(directory: string, name: string, now: Date): Identity {
  mkdirSync(directory, { recursive: true });
  const files = keyFiles(directory, name);
  const { id, certificatePem, privateKeyPem } = createParticipant({ name, validFrom: now });
  writeFileSync(files.privateKey, privateKeyPem, { mode: SECRET_MODE, flag: "wx" });
  writeFileSync(files.certificate, certificatePem);
  return { name, id, certificatePem, privateKeyPem };
}
