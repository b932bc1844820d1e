/**
 * What every frontend answers: how far the service has committed, and what became of a transaction.
 *
 * `GET /X/commit` and `GET /X/tx` for X in app, gov and node, in CCF's words (CCF 7.0.2
 * `src/endpoints/common_endpoint_registry.cpp`). The answers are those of the node asked; nothing is read in a transaction.
 *
 * Trusted.
 */
import { isFault } from "../../../protocol/check.ts";
import { formatTxId, parseTxId, type TxId, type View } from "../../../protocol/ids.ts";
import { noAuth } from "./auth.ts";
import {
  type Endpoint,
  type Frontend,
  HttpError,
  json,
  type Reply,
  type Request,
  type ServicePort,
} from "./endpoint.ts";

const FRONTENDS: readonly Frontend[] = ["app", "gov", "node"];

export function commonEndpoints(service: ServicePort): Endpoint[] {
  return FRONTENDS.flatMap((frontend): Endpoint[] => [
    {
      method: "GET",
      path: `/${frontend}/commit`,
      auth: [noAuth],
      kind: "local",
      handler: ({ request }) => commit(service, request),
    },
    {
      method: "GET",
      path: `/${frontend}/tx`,
      auth: [noAuth],
      kind: "local",
      handler: ({ request }) => status(service, request),
    },
  ]);
}

function commit(service: ServicePort, { query }: Request): Reply {
  const since = historySince(service, query);
  const transaction_id = formatTxId(service.commitTxId());
  if (since === undefined) return json({ transaction_id });
  const view_history = service.viewHistory(since).map(formatTxId);
  return json({ transaction_id, ...(view_history.length > 0 && { view_history }) });
}

function historySince(service: ServicePort, query: URLSearchParams): View | undefined {
  const since = query.get("view_history_since");
  const all = query.get("view_history");
  if (all !== null && all !== "true" && all !== "false")
    throw invalid(`Invalid value '${all}' for query parameter 'view_history'. Must be 'true' or 'false'.`);
  if (since === null) return all === "true" ? 1 : undefined;
  const view = /^[1-9]\d{0,14}$/.test(since) ? Number(since) : undefined;
  if (view === undefined || view > service.view())
    throw invalid(
      `Invalid value '${since}' for query parameter 'view_history_since'. Must be in range [1, ${service.view()}].`,
    );
  return view;
}

function status(service: ServicePort, { query }: Request): Reply {
  const text = query.get("transaction_id");
  if (text === null) throw invalid("Missing query parameter 'transaction_id'");
  const id = parse(text);
  return json({ status: service.txStatus(id), transaction_id: formatTxId(id) });
}

function parse(text: string): TxId {
  try {
    return parseTxId(text);
  } catch (error) {
    if (!isFault(error, "TxIdMalformed")) throw error;
    throw invalid(
      `The value '${text}' passed as query parameter 'transaction_id' could not be converted to a valid Transaction ID.`,
    );
  }
}

function invalid(message: string): HttpError {
  return new HttpError(400, "InvalidQueryParameterValue", message);
}
