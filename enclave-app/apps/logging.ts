/**
 * A log of messages under numbers: the paths, answers and tables of CCF's logging sample.
 *
 *   POST    /app/log/private       {"id": 7, "msg": "..."}   true
 *   GET     /app/log/private?id=7                            {"msg": "..."}
 *   DELETE  /app/log/private?id=7                            whether there was one
 *   GET     /app/log/private/count                           how many there are
 *   DELETE  /app/log/private/all                             true
 *   POST    /app/log/blocking/private                        as above, answered once committed
 *
 * and the first five under `/app/log/public`, where the ledger holds the message in clear, `"record_claim": true` makes it
 * a claim of the receipt, and a read carries its SHA-256 as etag. `?scope=x` keeps messages in a table of their own.
 * Keys and values are JSON text, as the C++ sample's `kv::Map<size_t, string>` (CCF 7.0.2 `samples/apps/logging`).
 *
 * Trusted.
 */

import { userCert } from "../../node/enclave/http/auth.ts";
import {
  type Call,
  type Endpoint,
  HttpError,
  json,
  type Method,
  type Reply,
} from "../../node/enclave/http/endpoint.ts";
import { type Codec, open, type Table, type TableWriter } from "../../node/enclave/kv/table.ts";
import { fromUtf8, utf8 } from "../../protocol/bytes.ts";
import { sha256, sha256Hex } from "../../protocol/crypto/hash.ts";

type Place = "private" | "public";
type Records = TableWriter<number, string>;
type LogRecord = Readonly<{ id: number; msg: string; record_claim: boolean }>;

const RECORDS: Record<Place, string> = { private: "records", public: "public:records" };
const SCOPE = /^[A-Za-z0-9_.-]{1,64}$/;
const ID_DIGITS_MAX = 16;

const idCodec: Codec<number> = { encode: (id) => utf8(String(id)), decode: (bytes) => Number(fromUtf8(bytes)) };
const messageCodec: Codec<string> = {
  encode: (message) => utf8(JSON.stringify(message)),
  decode: (bytes) => JSON.parse(fromUtf8(bytes)) as string,
};

export function loggingEndpoints(): Endpoint[] {
  return [
    ...(["private", "public"] as const).flatMap((place): Endpoint[] => [
      endpoint("POST", `/${place}`, "write", (call) => record(call, place)),
      endpoint("GET", `/${place}`, "read", (call) => read(call, place)),
      endpoint("DELETE", `/${place}`, "write", (call) => remove(call, place)),
      endpoint("GET", `/${place}/count`, "read", (call) => json(call.tx.map(nameOf(call, place)).size())),
      endpoint("DELETE", `/${place}/all`, "write", (call) => clear(call, place)),
    ]),
    { ...endpoint("POST", "/blocking/private", "write", (call) => record(call, "private")), respondOnCommit: true },
  ];
}

function endpoint(method: Method, path: string, kind: Endpoint["kind"], handler: (call: Call) => Reply): Endpoint {
  return { method, path: `/app/log${path}`, auth: [userCert], kind, handler };
}

function record(call: Call, place: Place): Reply {
  const { id, msg, record_claim } = recordIn(call.request.json());
  if (msg === "") throw invalid("Cannot record an empty log message.");
  recordsOf(call, place).set(id, msg);
  if (place === "public" && record_claim) call.tx.claimsDigest = sha256(utf8(msg));
  return json(true);
}

function read(call: Call, place: Place): Reply {
  const id = idOf(call);
  const msg = recordsOf(call, place).get(id);
  if (msg === undefined) throw new HttpError(404, "ResourceNotFound", `No such record: ${id}.`);
  const reply = json({ msg });
  return place === "public" ? { ...reply, headers: { etag: sha256Hex(utf8(msg)) } } : reply;
}

function remove(call: Call, place: Place): Reply {
  const id = idOf(call);
  const records = recordsOf(call, place);
  const had = records.has(id);
  records.delete(id);
  return json(had);
}

function clear(call: Call, place: Place): Reply {
  recordsOf(call, place).clear();
  return json(true);
}

function recordsOf(call: Call, place: Place): Records {
  const table: Table<number, string> = { name: nameOf(call, place), key: idCodec, value: messageCodec };
  return open(call.tx, table);
}

function nameOf({ request }: Call, place: Place): string {
  const scope = request.url.includes("?") ? request.query.get("scope") : null;
  if (scope !== null && !SCOPE.test(scope))
    throw new HttpError(
      400,
      "InvalidQueryParameterValue",
      "The query parameter 'scope' is 1 to 64 letters, digits, '_', '.' and '-'.",
    );
  return scope === null ? RECORDS[place] : `${RECORDS[place]}-${scope}`;
}

function recordIn(body: unknown): LogRecord {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw invalid("At #/: Expected an object.");
  const { id, msg, record_claim = false } = body as Partial<Record<keyof LogRecord, unknown>>;
  if (id === undefined) throw invalid("At #/: Missing required field 'id' in object.");
  if (msg === undefined) throw invalid("At #/: Missing required field 'msg' in object.");
  if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0)
    throw invalid("At #/id: Expected a whole number from 0 to 2^53 - 1.");
  if (typeof msg !== "string") throw invalid("At #/msg: Expected a string.");
  if (typeof record_claim !== "boolean") throw invalid("At #/record_claim: Expected true or false.");
  return { id, msg, record_claim };
}

function idOf({ request }: Call): number {
  const text = request.query.get("id");
  if (text === null) throw new HttpError(400, "InvalidQueryParameterValue", "Missing query parameter 'id'");
  const id = /^\d+$/.test(text) && text.length <= ID_DIGITS_MAX ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(id))
    throw new HttpError(400, "InvalidQueryParameterValue", `Unable to parse value '${text}' in parameter 'id'`);
  return id;
}

function invalid(message: string): HttpError {
  return new HttpError(400, "InvalidInput", message);
}
