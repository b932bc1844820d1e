/**
 * Evidence of the `virtual` platform: a statement without any proof.
 *
 * The quote is CCF's JSON, compact and with its members in order of name:
 *
 *   {"camerata":{"author_id"?,"debug","product_id","security_version"},"host_data","measurement","report_data"}
 *
 * `host_data` is lower-case hex SHA-256, `measurement` a text (CCF: a constant; here: the unique id of the enclave package,
 * hex), `report_data` base64 of exactly 32 bytes. `camerata` is ours; CCF's readers pass over it. Anyone can write such a
 * quote, which is why the format's name is `Insecure_Virtual`: the checks here keep the code paths honest, not the nodes.
 *
 * Format: CCF 7.0.2 include/ccf/pal/attestation.h, and a recorded `/node/quotes/self`.
 *
 * Neutral. Pure.
 */
import { Type } from "typebox";
import { Check } from "typebox/value";
import { fromBase64, toBase64, utf8 } from "../bytes.ts";
import { assert, Fault } from "../check.ts";
import type { Claims, QuoteInfo } from "./evidence.ts";
import { failed, parseJson } from "./quote-info.ts";
import { REPORT_DATA_BYTES } from "./report-data.ts";

/** What a virtual enclave says about itself. */
export type VirtualIdentity = Readonly<{
  /** The measurement of the code, at most 128 characters. */
  measurement: string;
  /** Lower-case hex SHA-256 of what the host was told to launch with. */
  hostData: string;
  debug: boolean;
  /** Lower-case hex SHA-256 of the DER public key of the package's signer. */
  authorId?: string;
  productId: number;
  securityVersion: number;
}>;

const QUOTE_BYTES_MAX = 4096;
const digest = Type.String({ pattern: "^[0-9a-f]{64}$" });
const u16 = Type.Integer({ minimum: 0, maximum: 65535 });
const closed = { additionalProperties: false };

const VirtualQuote = Type.Object(
  {
    camerata: Type.Optional(
      Type.Object(
        { author_id: Type.Optional(digest), debug: Type.Boolean(), product_id: u16, security_version: u16 },
        closed,
      ),
    ),
    host_data: digest,
    measurement: Type.String({ minLength: 1, maxLength: 128, pattern: "^[\\x20-\\x7e]*$" }),
    report_data: Type.String({ minLength: 44, maxLength: 44 }),
  },
  closed,
);

/** The quote object of a virtual enclave for 32 bytes of report data. */
export function virtualQuote(identity: VirtualIdentity, reportData: Uint8Array): QuoteInfo {
  assert(reportData.length === REPORT_DATA_BYTES, "virtual evidence holds 32 bytes of report data");
  const quote = {
    camerata: {
      ...(identity.authorId !== undefined && { author_id: identity.authorId }),
      debug: identity.debug,
      product_id: identity.productId,
      security_version: identity.securityVersion,
    },
    host_data: identity.hostData,
    measurement: identity.measurement,
    report_data: toBase64(reportData),
  };
  assert(Check(VirtualQuote, quote), "a virtual enclave's own identity has the form that verifiers accept");
  return { format: "Insecure_Virtual", quote: toBase64(utf8(JSON.stringify(quote))), endorsements: "" };
}

/**
 * What a virtual quote claims. A quote without our member, such as CCF's own, does not say whether its enclave can be
 * looked into, and counts as one that can.
 * @throws Fault<EvidenceFault> `Failed`
 */
export function verifyVirtual(info: QuoteInfo): Claims {
  assert(info.format === "Insecure_Virtual", "the virtual verifier is given virtual evidence");
  if (info.endorsements !== "" || info.uvm_endorsements !== undefined || info.endorsed_tcb !== undefined)
    throw failed("virtual evidence has no endorsements");
  const quote = parseJson(decode(info.quote), "the virtual quote");
  if (!Check(VirtualQuote, quote))
    throw failed("a virtual quote holds measurement, host_data (hex SHA-256) and report_data (base64 of 32 bytes)");
  const { camerata } = quote;
  const reportData = decode(quote.report_data);
  if (reportData.length !== REPORT_DATA_BYTES)
    throw failed(`a virtual quote holds ${REPORT_DATA_BYTES} bytes of report data, not ${reportData.length}`);
  return {
    format: "Insecure_Virtual",
    measurement: quote.measurement,
    hostData: quote.host_data,
    reportData,
    debug: camerata?.debug ?? true,
    ...(camerata !== undefined && { productId: camerata.product_id, securityVersion: camerata.security_version }),
    ...(camerata?.author_id !== undefined && { authorId: camerata.author_id }),
  };
}

function decode(base64: string): Buffer {
  // Refuses before decoding: 4 characters make 3 bytes.
  if (base64.length > Math.ceil(QUOTE_BYTES_MAX / 3) * 4) throw failed("the virtual quote is too long");
  try {
    return fromBase64(base64);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw failed(`virtual quote: ${error.message}`, { cause: error });
  }
}
