/**
 * CCF's quote object as bytes from outside: its shape, its bounds, and its form inside our own frames.
 *
 * In `/node/join` the object is part of a larger JSON body, which uses `QuoteInfoSchema`. In the hello of a channel it
 * travels alone, as UTF-8 JSON of at most `EVIDENCE_BYTES_MAX`. Nothing hashes or signs these bytes: what matters in them
 * is signed by the platform, so JSON is good enough.
 *
 * Neutral. Pure.
 */
import { Type } from "typebox";
import { Check } from "typebox/value";
import { fromUtf8, utf8 } from "../bytes.ts";
import { Fault } from "../check.ts";
import type { EvidenceFault, QuoteFormat, QuoteInfo } from "./evidence.ts";

/** Evidence with endorsements: a TDX quote with its collateral is the largest, some 30 KiB. */
export const EVIDENCE_BYTES_MAX = 128 * 1024;

const FORMATS: QuoteFormat[] = ["Insecure_Virtual", "OE_SGX_v1", "AMD_SEV_SNP_v1", "Intel_TDX_v1"];
const base64 = Type.String({ maxLength: EVIDENCE_BYTES_MAX });

export const QuoteInfoSchema = Type.Object(
  {
    format: Type.Enum(FORMATS),
    quote: base64,
    endorsements: base64,
    uvm_endorsements: Type.Optional(base64),
    endorsed_tcb: Type.Optional(Type.String({ maxLength: 64 })),
  },
  { additionalProperties: false },
);

/** Evidence as it is sent in a frame. */
export function encodeEvidence(quote: QuoteInfo): Uint8Array {
  return utf8(JSON.stringify(quote));
}

/** @throws Fault<EvidenceFault> `Failed` unless these bytes are exactly one quote object within its bounds */
export function decodeEvidence(bytes: Uint8Array): QuoteInfo {
  if (bytes.length > EVIDENCE_BYTES_MAX)
    throw failed(`evidence of ${bytes.length} bytes is longer than the ${EVIDENCE_BYTES_MAX} that are accepted`);
  const value = parseJson(bytes, "evidence");
  if (!Check(QuoteInfoSchema, value))
    throw failed(
      "evidence must be an object of format, quote and endorsements (optional: uvm_endorsements, endorsed_tcb)",
    );
  return value;
}

/** JSON from outside. @throws Fault<EvidenceFault> `Failed` */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw failed(`${what} is not UTF-8 JSON`, { cause });
  }
}

/** The fault of evidence that proves nothing. */
export function failed(message: string, options?: ErrorOptions): Fault<EvidenceFault> {
  return new Fault<EvidenceFault>({ code: "Failed" }, message, options);
}
