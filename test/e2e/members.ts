/** Members as governance tests need them: well-behaved through the production client, and otherwise byte by byte. */
import { createPrivateKey, randomUUID } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openClient, type ServiceClient } from "../../governance/member/client.ts";
import { type Action, type MemberCall, memberIdOf, type Signer, signCall } from "../../governance/member/request.ts";
import { createProposal, type Proposal, vote } from "../../governance/member/voting.ts";
import { type Consortium, type CurlAnswer, type Person, readPem } from "./consortium.ts";

export const YES = "export function vote() { return true; }";

export function signer(consortium: Consortium, person: Person): Signer {
  const { certificate, privateKey } = consortium.keys(person);
  return { certificatePem: readPem(certificate), sign: createPrivateKey(readPem(privateKey)) };
}

export const idOf = (consortium: Consortium, person: Person) => memberIdOf(signer(consortium, person));

export function client(consortium: Consortium, node: number): ServiceClient {
  return openClient({
    url: `https://${consortium.address(node)}`,
    serviceCertificate: readPem(consortium.serviceCertificate),
  });
}

/** A signed request of a member, as bytes. @param createdAt seconds since 1970 */
export async function signed(
  consortium: Consortium,
  person: Person,
  call: MemberCall,
  createdAt = Math.floor(Date.now() / 1000),
): Promise<Buffer> {
  return Buffer.from((await signCall(call, signer(consortium, person), createdAt)).body);
}

/** Posts bytes to a path of the primary, with curl. */
export function postBytes(
  consortium: Consortium,
  node: number,
  path: string,
  body: Uint8Array,
  contentType = "application/cose",
  more: readonly string[] = [],
): Promise<CurlAnswer> {
  // curl reads a body twice when it follows a redirect, which only works from a file.
  const file = join(consortium.directory, `request-${randomUUID()}`);
  writeFileSync(file, body);
  const data = ["--header", `content-type: ${contentType}`, "--data-binary", `@${file}`];
  return consortium.curl("nobody", ...more, ...data, consortium.url(node, path)).finally(() => rmSync(file));
}

/** One proposes, the named ones vote in favour. */
export async function decide(
  to: ServiceClient,
  consortium: Consortium,
  actions: readonly Action[],
  voters: readonly Person[] = ["member0", "member1"],
): Promise<Proposal> {
  let { value: proposal } = await createProposal(to, signer(consortium, voters[0]!), actions);
  for (const voter of voters)
    if (proposal.proposalState === "Open")
      ({ value: proposal } = await vote(to, signer(consortium, voter), proposal.proposalId, YES));
  return proposal;
}
