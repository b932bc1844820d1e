/**
 * Whose code may take part in this service.
 *
 * `protocol/attestation` has proven what evidence claims; here it is decided whether that is acceptable. The members'
 * decisions are in tables; a joiner, which has no tables yet, goes by what its operator configured. Names, order and texts
 * of refusals are CCF's (7.0.2 src/node/quote.cpp, src/node/rpc/node_frontend.h), except that CCF leaves debug enclaves to
 * the verifier of each platform, and that it does not bind evidence to sessions.
 *
 * Trusted. Pure.
 */
import type { Claims, EvidenceFault, QuoteFormat } from "../../../protocol/attestation/evidence.ts";
import { Fault } from "../../../protocol/check.ts";
import { HttpError } from "../http/endpoint.ts";
import { open } from "../kv/table.ts";
import { TABLES } from "../kv/tables.ts";
import type { Tx } from "../kv/tx.ts";

/** Judges verified claims. @throws Fault<EvidenceFault> */
export type Policy = (claims: Claims) => void;

/**
 * The service's policy, as the members have set it: no debug build, host data listed, measurement listed.
 * @throws Fault<EvidenceFault> `FailedDebugEnclave`, `FailedHostDataDigestNotFound`, `FailedMeasurementNotFound`, `Failed`
 */
export function checkJoinPolicy(tx: Tx, claims: Claims): void {
  refuseDebug(claims);
  if (claims.format !== "Insecure_Virtual") throw noPolicy(claims.format);
  if (!open(tx, TABLES.virtualHostData).has(claims.hostData))
    throw refused("FailedHostDataDigestNotFound", `no decision of the members lists the host data ${claims.hostData}`);
  if (open(tx, TABLES.virtualMeasurements).get(claims.measurement) !== "AllowedToJoin")
    throw refused(
      "FailedMeasurementNotFound",
      `no decision of the members lists the measurement ${claims.measurement}; a proposal with add_virtual_measurement can`,
    );
}

/**
 * A joiner's policy for the nodes that answer it. Host data is not judged: it describes another operator's launch, which
 * the members approved.
 * @param acceptedMeasurements what the operator accepts; empty: the joiner's own measurement only
 * @param own what this enclave's own evidence claims
 * @throws Fault<EvidenceFault> `FailedDebugEnclave`, `FailedMeasurementNotFound`, `Failed`
 */
export function checkOwnPolicy(
  acceptedMeasurements: readonly string[],
  own: Pick<Claims, "format" | "measurement">,
  claims: Claims,
): void {
  refuseDebug(claims);
  if (claims.format !== own.format) throw noPolicy(claims.format);
  const accepted = acceptedMeasurements.length > 0 ? acceptedMeasurements : [own.measurement];
  if (!accepted.includes(claims.measurement))
    throw refused(
      "FailedMeasurementNotFound",
      `this node accepts no service whose nodes have the measurement ${claims.measurement}; ` +
        "if that is the right one, list it in accepted_measurements",
    );
}

/** CCF's text for each refusal. */
const TEXTS: Readonly<Record<EvidenceFault["code"], string>> = {
  Failed: "Quote could not be verified",
  FailedMeasurementNotFound: "Quote does not contain known enclave measurement",
  FailedInvalidQuotedPublicKey: "Quote report data does not contain node's public key hash",
  FailedHostDataDigestNotFound: "Quote does not contain trusted host data",
  FailedInvalidHostData: "Quote host data is not authorised",
  FailedDebugEnclave: "Quote is of a debug enclave",
  FailedSessionBinding: "Session evidence was not made for this session",
};

/** The answer to a caller whose evidence was refused: CCF's 401 `InvalidQuote`, with the refusal's name in its details. */
export function invalidQuote(fault: Fault<EvidenceFault>): HttpError {
  const { code } = fault.detail;
  return new HttpError(401, "InvalidQuote", TEXTS[code], { details: [{ code, message: fault.message }] });
}

/** True for a refusal of evidence, whatever its name. */
export function isEvidenceFault(error: unknown): error is Fault<EvidenceFault> {
  return error instanceof Fault && Object.hasOwn(TEXTS, error.detail.code);
}

function refuseDebug(claims: Claims): void {
  if (claims.debug)
    throw refused("FailedDebugEnclave", "the enclave is a debug build: its host can look into it, and it may not join");
}

function noPolicy(format: QuoteFormat): Fault<EvidenceFault> {
  return refused("Failed", `evidence of the format ${format} is not accepted here`);
}

function refused(code: EvidenceFault["code"], message: string): Fault<EvidenceFault> {
  return new Fault<EvidenceFault>({ code }, message);
}
