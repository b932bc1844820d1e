/**
 * The ledger secrets of the service, each valid from a seqno until the next one's.
 *
 * They are in every trusted enclave and nowhere else in clear.
 *
 * Trusted. Pure.
 */
import { assert, present } from "../../../protocol/check.ts";
import type { Seqno } from "../../../protocol/ids.ts";
import { LedgerSecret } from "../../../protocol/ledger/entry.ts";

export type SecretFrom = Readonly<{ from: Seqno; secret: LedgerSecret }>;

export class LedgerSecrets {
  readonly #secrets: SecretFrom[];

  /** @param secrets in ascending order of their first seqno, at least one. */
  constructor(secrets: readonly SecretFrom[]) {
    assert(secrets.length > 0, "a service has a ledger secret");
    this.#secrets = [...secrets];
  }

  /** The secret in force at a seqno. */
  at(seqno: Seqno): LedgerSecret {
    let found: LedgerSecret | undefined;
    for (const { from, secret } of this.#secrets) {
      if (from > seqno) break;
      found = secret;
    }
    return present(found, "the first ledger secret is valid from the first entry");
  }

  /** The newest secret and where it begins. */
  latest(): SecretFrom {
    return present(this.#secrets.at(-1), "a service has a ledger secret");
  }

  /** All of them, for a node that the service trusts. */
  all(): readonly SecretFrom[] {
    return this.#secrets;
  }
}

/** Secrets as they came in a join response. */
export function importSecrets(rows: readonly (readonly [Seqno, Uint8Array])[]): LedgerSecrets {
  const sorted = [...rows].sort(([a], [b]) => a - b);
  return new LedgerSecrets(sorted.map(([from, raw]) => ({ from, secret: new LedgerSecret(raw) })));
}
