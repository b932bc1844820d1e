/**
 * Names in certificates: the subject, and the alternative names under which a node is reached.
 *
 * Both are written as in CCF's configuration: `CN=CCF Node`, `iPAddress:127.0.0.1`, `dNSName:node.example.com`. A name of
 * another kind is refused, not carried along: whoever verifies could read more into it than we did.
 *
 * Neutral. Pure.
 */
import { utf8 } from "../bytes.ts";
import { Fault } from "../check.ts";
import { contextTag, DerReader, element, malformed, objectId, sequence, TAG } from "./der.ts";

export type NameFault = { code: "SubjectNameMalformed" } | { code: "SubjectAltNameMalformed" };

/** Alternative names of one certificate. */
const ALT_NAMES_MAX = 64;
const DNS_TAG = contextTag(2, false);
const IP_TAG = contextTag(7, false);
const DNS =
  /^(?=.{1,253}$)(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

const ATTRIBUTES: Record<string, string> = {
  CN: "2.5.4.3",
  C: "2.5.4.6",
  L: "2.5.4.7",
  ST: "2.5.4.8",
  O: "2.5.4.10",
  OU: "2.5.4.11",
};

/** A distinguished name as DER, from `CN=name` or several such parts with commas. @throws Fault `SubjectNameMalformed` */
export function encodeSubject(name: string): Buffer {
  const parts = name.split(",").map((part) => {
    const [, type = "", value = ""] = /^\s*([A-Z]{1,2})=(.{1,64})$/u.exec(part) ?? [];
    const id = ATTRIBUTES[type];
    if (id === undefined)
      throw new Fault<NameFault>(
        { code: "SubjectNameMalformed" },
        `subject name ${JSON.stringify(name)}: expected CN=name, or several of CN, O, OU, L, ST, C with commas between them`,
      );
    const tag = type === "C" ? TAG.printableString : TAG.utf8String;
    return element(TAG.set, sequence(objectId(id), element(tag, utf8(value))));
  });
  return sequence(...parts);
}

/** The contents of a subjectAltName extension. @throws Fault `SubjectAltNameMalformed` */
export function encodeAltNames(names: readonly string[]): Buffer {
  if (names.length > ALT_NAMES_MAX) throw altName(names.length.toString(), `more than ${ALT_NAMES_MAX} names`);
  return sequence(
    ...names.map((name) => {
      const [, kind, value = ""] = /^(iPAddress|dNSName):(.+)$/.exec(name) ?? [];
      if (kind === "dNSName" && DNS.test(value)) return element(DNS_TAG, utf8(value));
      const address = kind === "iPAddress" ? (ipv4Bytes(value) ?? ipv6Bytes(value)) : undefined;
      if (address === undefined) throw altName(name, "expected iPAddress:<address> or dNSName:<name>");
      return element(IP_TAG, address);
    }),
  );
}

/** Reads the contents of a subjectAltName extension. @throws Fault<NameFault | DerFault> */
export function decodeAltNames(der: Uint8Array): string[] {
  const outer = new DerReader(der);
  const list = outer.inside(TAG.sequence);
  outer.end();
  const names: string[] = [];
  while (!list.done) {
    if (names.length === ALT_NAMES_MAX) throw malformed(`more than ${ALT_NAMES_MAX} alternative names`);
    names.push(list.next(IP_TAG) ? `iPAddress:${ipText(list.contents(IP_TAG))}` : dnsText(list.contents(DNS_TAG)));
  }
  if (names.length === 0) throw malformed("an empty list of alternative names");
  return names;
}

function dnsText(bytes: Buffer): string {
  const name = bytes.toString("latin1");
  if (!DNS.test(name)) throw altName(name, "not a DNS name");
  return `dNSName:${name}`;
}

function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) throw malformed("an IP address has 4 or 16 bytes");
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  return groups.join(":");
}

function ipv4Bytes(text: string): Buffer | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
    return undefined;
  return Buffer.from(parts.map(Number));
}

/** RFC 4291: groups of hex with at most one `::`, without a zone or an embedded IPv4 address. */
function ipv6Bytes(text: string): Buffer | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [left = [], right = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = 8 - left.length - right.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...left, ...Array.from({ length: missing }, () => "0"), ...right];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  const bytes = Buffer.alloc(16);
  for (const [i, group] of groups.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * i);
  return bytes;
}

function altName(name: string, why: string): Fault<NameFault> {
  return new Fault<NameFault>(
    { code: "SubjectAltNameMalformed" },
    `subject alternative name ${JSON.stringify(name)}: ${why}`,
  );
}
