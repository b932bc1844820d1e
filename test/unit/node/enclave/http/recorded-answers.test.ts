/**
 * Requests that were put to a running CCF 7.0.2 with its logging sample, put to this server with ours: status, headers and
 * error code must be the same, and the body wherever it does not depend on the run.
 *
 * Left out: `/node` and `/gov` endpoints beside the common ones, and what the sample does with receipts, history, JWT and
 * signed statements, none of which is in this layer.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { loggingEndpoints } from "../../../../../enclave-app/apps/logging.ts";
import { commonEndpoints } from "../../../../../node/enclave/http/common-api.ts";
import { bench, type Client, codeOf, person } from "./client.ts";
import { bodyOf, RECORDED, type Recorded } from "./recorded.ts";

const { server, user, member, connect } = bench((port) => [...commonEndpoints(port), ...loggingEndpoints()]);
const clients: Record<string, Client> = {};

const OURS =
  /^\/(app|node|gov)\/(commit|tx|api)\b|^\/app\/log\/(private|public|blocking\/private)(\/count|\/all)?(\?|$)/;
const UNKNOWN = /^\/(nothing|other\/commit|(app|node|gov)\/nothing.*|node\/(memory|local_tx.*))?$/;

const replayed = RECORDED.filter(
  ({ request: { path, node }, what }) =>
    (OURS.test(path) || UNKNOWN.test(path)) &&
    // Ours redirects where the recorded service was configured to forward.
    !(node === "backup" && what.includes("forwarded")) &&
    // That interface's own header limit: covered with its answer in server.test.ts.
    what !== "bad: header over the limit",
);

beforeAll(async () => {
  clients["none"] = await connect();
  clients["user0"] = await connect(user);
  clients["member0"] = await connect(member);
  clients["stranger"] = await connect(person("stranger"));
  for (const [place, words] of [
    ["private", "private"],
    ["public", "public"],
  ])
    for (let id = 0; id < 110; id++)
      await clients["user0"]?.call("POST", `/app/log/${place}`, { id, msg: `${words} message number ${id}` });
});
afterAll(() => server.close());

test("all 47 recorded requests that are for this layer are compared", () => {
  expect(replayed).toHaveLength(47);
});

test.each(replayed.map((answer) => [`${answer.request.method} ${answer.request.path}`, answer.what, answer] as const))(
  "%s (%s)",
  async (_name, _what, answer) => {
    const { method, path, auth, content_type, headers = [] } = answer.request;
    let client = clients[auth];
    if (client === undefined || client.socket.destroyed || !client.socket.writable)
      clients[auth] = client = await connect(auth === "user0" ? user : undefined);
    const got = await client.call(method, path, bodyOf(answer), {
      ...(content_type !== undefined && { "content-type": content_type }),
      ...Object.fromEntries(headers.map((line) => line.split(": ", 2) as [string, string])),
    });

    expect(got.status).toBe(answer.status);
    expect(headersOf(got.headers)).toEqual(headersOf(answer.headers));
    for (const name of ["content-type", "allow", "etag"]) expect(got.headers[name], name).toBe(answer.headers[name]);
    if (answer.status >= 400 && method !== "HEAD") {
      expect(codeOf(got)).toBe((answer.body as { error: { code: string } }).error.code);
      if (!isOwnWording(answer))
        expect(JSON.parse(got.text).error.message).toBe((answer.body as { error: { message: string } }).error.message);
    } else if (path.includes("/log/") && answer.body !== null && answer.body !== undefined) {
      expect(JSON.parse(got.text)).toEqual(answer.body);
    }
  },
);

/** Names of headers, but for those that go with credentials this layer does not know and with closing a session. */
function headersOf(headers: Readonly<Record<string, string>>): string[] {
  return Object.keys(headers)
    .filter((name) => name !== "www-authenticate" && name !== "connection")
    .sort();
}

/** CCF's message quotes its JSON library, or the object. */
function isOwnWording({ what, status }: Recorded): boolean {
  return status === 400 && /malformed JSON|another shape|id is a string|no body/.test(what);
}
