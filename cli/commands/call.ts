/**
 * `camerata call`: one request to the service's application (or any other path), as a user would send it.
 *
 * A member's or a user's machine.
 */
import { readFileSync } from "node:fs";
import type { Call } from "../../governance/member/client.ts";
import { type Session, sendAccepted } from "../client/session.ts";
import { unreadable, usageError } from "../terminal/errors.ts";
import { argument, type Declare, parsePairs } from "./group.ts";

type Options = { data?: string; wait: string; contentType: string; header: string[] };

const METHODS = ["GET", "POST", "PUT", "DELETE"] as const;
type Method = (typeof METHODS)[number];

export const declare: Declare = (command, act) => {
  command
    .argument("<method>", METHODS.join(", "))
    .argument("<path>", "such as /app/log/private")
    .argument("[pairs...]", "name=value: query of a GET or DELETE, JSON body of a POST or PUT")
    .option("--data <body>", "the body as it is; @FILE reads a file, - reads stdin")
    .option("--wait <until>", "none: answer at once; commit: answer when the transaction is committed", "none")
    .option("--content-type <type>", "of --data", "application/json")
    .option("--header <line>", "another header, name: value; may be repeated", collect, [])
    .addHelpText(
      "after",
      `
The body of the answer goes to stdout, the transaction id to stderr.

  camerata call POST /app/log/private id=1 msg=hello --wait commit
  camerata call GET /app/log/private id=1 --node 1`,
    )
    .action(act(call));
};

async function call(session: Session, args: readonly string[], options: Options): Promise<void> {
  const method = argument(args, 0).toUpperCase();
  if (!isMethod(method)) throw usageError(`"${method}" is not a method`, `use one of ${METHODS.join(", ")}`);
  if (options.wait !== "none" && options.wait !== "commit")
    throw usageError(`--wait "${options.wait}" is not known`, "use --wait none or --wait commit");
  const path = argument(args, 1);
  // commander gives a variadic argument as one list in its place.
  const pairs = (args[2] as unknown as string[] | undefined) ?? [];
  const identity = path.startsWith("/app") || session.hasIdentity ? session.identity("user0") : undefined;
  const answer = await sendAccepted(await session.client(identity), requestOf(method, path, pairs, options));
  const { output } = session;
  if (output.format === "table" || output.format === "id") {
    if (output.format === "id") output.raw(`${answer.txId ?? ""}\n`);
    else if (answer.body.length > 0) output.raw(`${answer.body.toString("utf8").trimEnd()}\n`);
    if (answer.txId !== undefined) output.say(output.paint("dim", `transaction ${answer.txId}${committed(options)}`));
    return;
  }
  output.record(
    { status: answer.status, transaction_id: answer.txId, body: jsonOrText(answer.body) },
    "transaction_id",
  );
}

function requestOf(method: Method, path: string, pairs: readonly string[], options: Options): Call {
  const headers: Record<string, string> = options.wait === "commit" ? { "x-camerata-wait": "committed" } : {};
  for (const line of options.header) {
    const at = line.indexOf(":");
    if (at <= 0) throw usageError(`"${line}" is not a header`, "write it like --header 'name: value'");
    headers[line.slice(0, at).trim().toLowerCase()] = line.slice(at + 1).trim();
  }
  if (options.data !== undefined) {
    if (pairs.length > 0) throw usageError("--data and name=value exclude each other", "use one of them");
    return { method, path, headers: { "content-type": options.contentType, ...headers }, body: bodyFrom(options.data) };
  }
  if (method === "GET" || method === "DELETE") {
    const query = new URLSearchParams(pairs.map((pair) => splitPair(pair))).toString();
    return { method, path: query === "" ? path : `${path}${path.includes("?") ? "&" : "?"}${query}`, headers };
  }
  const body = JSON.stringify(parsePairs(pairs));
  return { method, path, headers: { "content-type": "application/json", ...headers }, body };
}

function splitPair(pair: string): [string, string] {
  const [name] = Object.keys(parsePairs([pair]));
  return [name!, pair.slice(name!.length + 1)];
}

function bodyFrom(data: string): Buffer {
  const path = data === "-" ? "/dev/stdin" : data.startsWith("@") ? data.slice(1) : undefined;
  if (path === undefined) return Buffer.from(data);
  try {
    return readFileSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function jsonOrText(body: Buffer): unknown {
  const text = body.toString("utf8");
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

const committed = (options: Options) => (options.wait === "commit" ? " (committed)" : "");
const collect = (value: string, previous: readonly string[]) => [...previous, value];
const isMethod = (text: string): text is Method => (METHODS as readonly string[]).includes(text);
