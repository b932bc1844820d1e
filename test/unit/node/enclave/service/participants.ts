/** Keys and certificates of made-up people, made once a name. */
import { generateEcKey } from "../../../../../protocol/crypto/keys.ts";
import { selfSigned } from "../../../../../protocol/crypto/x509.ts";

export async function participantKeys(name: string) {
  const { privateKey } = generateEcKey("P-384");
  return {
    privateKey,
    certificate: selfSigned({ subjectName: `CN=${name}`, key: privateKey, validFrom: new Date(), days: 30 }),
  };
}
