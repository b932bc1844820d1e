/**
 * The recorded answers of a running CCF 7.0.2, and the certificate of the member who signed its governance requests.
 */
import { readFileSync } from "node:fs";

export type Recorded = Readonly<{
  what: string;
  request: Readonly<{
    method: string;
    path: string;
    /** Whose certificate the client showed. */
    auth: string;
    node: "primary" | "backup";
    /** Extra headers, `name: value`. */
    headers?: readonly string[];
    content_type?: string;
    body?: string;
  }>;
  status: number;
  headers: Readonly<Record<string, string>>;
  body: unknown;
}>;

const FILE = new URL("../../../../vectors/ccf-recorded/answers.json", import.meta.url);
const SIGNED = "(COSE Sign1, base64) ";

export const RECORDED = (JSON.parse(readFileSync(FILE, "utf8")) as { service: { answers: Recorded[] } }).service
  .answers;

export function recorded(what: string): Recorded {
  const found = RECORDED.find((answer) => answer.what === what);
  if (found === undefined) throw new Error(`nothing recorded as '${what}'`);
  return found;
}

/** The body that was sent. */
export function bodyOf({ request: { body } }: Recorded): Buffer | undefined {
  if (body === undefined) return undefined;
  if (body.startsWith(SIGNED)) return Buffer.from(body.slice(SIGNED.length), "base64");
  if (body.startsWith("(JSON with a msg of 1,100,000 x)"))
    return Buffer.from(JSON.stringify({ id: 1, msg: "x".repeat(1_100_000) }));
  return Buffer.from(body);
}

export const RECORDED_MEMBER = RECORDED.map(({ body }) => body).find(isMember) as {
  memberId: string;
  certificate: string;
};

function isMember(body: unknown): boolean {
  return typeof body === "object" && body !== null && "memberId" in body && "certificate" in body;
}
