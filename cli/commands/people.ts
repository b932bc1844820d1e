/**
 * What `camerata member` and `camerata user` share: keys made on this machine.
 *
 * A member's or a user's machine.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Curve } from "../../protocol/crypto/keys.ts";
import { createEncryptionKeyPair, createParticipant } from "../../protocol/crypto/participant.ts";
import type { Session } from "../client/session.ts";
import { CliError, usageError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";

export type KeygenOptions = { dir: string; curve: string; days: string; recovery?: boolean };

const CURVES: Readonly<Record<string, Curve>> = { secp384r1: "P-384", secp256r1: "P-256" };
const SECRET_MODE = 0o600;

/** Makes keys named as CCF's tools name them, and never writes over any. */
export async function generateKeys(session: Session, name: string, options: KeygenOptions): Promise<void> {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
    throw usageError(`"${name}" cannot be part of a file name here`, "use letters, digits, _ and -");
  const curve = CURVES[options.curve];
  if (curve === undefined)
    throw usageError(`--curve "${options.curve}" is not known`, `use ${Object.keys(CURVES).join(" or ")}`);
  const days = Number(options.days);
  if (!Number.isInteger(days) || days < 1)
    throw usageError(`--days "${options.days}" is not a number of days`, "use a whole number");
  const file = (suffix: string) => join(options.dir, `${name}_${suffix}.pem`);
  mkdirSync(options.dir, { recursive: true });
  if (existsSync(file("privk")))
    throw new CliError({
      id: "E-KEY-EXISTS",
      exit: EXIT.state,
      headline: `${file("privk")} exists, and a key is never written over`,
      fix: "choose another name or --dir, or move the old key away",
    });
  const person = createParticipant({ name, validFrom: new Date(), curve, days });
  writeFileSync(file("privk"), person.privateKeyPem, { mode: SECRET_MODE, flag: "wx" });
  writeFileSync(file("cert"), person.certificatePem);
  if (options.recovery === true) {
    const encryption = await createEncryptionKeyPair();
    writeFileSync(file("enc_privk"), encryption.privateKeyPem, { mode: SECRET_MODE, flag: "wx" });
    writeFileSync(file("enc_pubk"), encryption.publicKeyPem);
  }
  session.output.record(
    {
      id: person.id,
      certificate: file("cert"),
      private_key: file("privk"),
      ...(options.recovery === true && {
        encryption_public_key: file("enc_pubk"),
        encryption_private_key: file("enc_privk"),
      }),
    },
    "id",
  );
  session.output.say("give away the certificate and public keys; keep the private keys where only you can read them");
}
