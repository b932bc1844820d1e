/**
 * `camerata member`: those who govern.
 *
 * A member's machine.
 */
import { governancePath } from "../../governance/member/request.ts";
import { acknowledge, listMembers, type Member } from "../../governance/member/voting.ts";
import { readText } from "../client/context.ts";
import { type Session, signerOf } from "../client/session.ts";
import { usageError } from "../terminal/errors.ts";
import { argument, type Declare } from "./group.ts";
import { generateKeys, type KeygenOptions } from "./people.ts";
import { announce, type ProposeOptions, propose, withProposalOptions } from "./proposing.ts";

type AddOptions = ProposeOptions & { encryptionKey?: string; role?: string; memberData?: string };

const ROLES = ["NonParticipant", "Participant", "Owner"];

export const declare: Declare = (group, act) => {
  group.command("ls").description("all members").action(act(list));
  group
    .command("show")
    .description("one member")
    .argument("<id>", "member id, or the beginning of one")
    .action(act(show));
  withProposalOptions(
    group
      .command("add")
      .description("propose to add a member; it becomes active when it acknowledges")
      .argument("<certificate>", "PEM file")
      .option("--encryption-key <file>", "public key for recovery shares, PEM")
      .option("--role <role>", `in recovery: ${ROLES.join(", ")}`)
      .option("--member-data <json>", "whatever the constitution makes of it"),
  ).action(act(add));
  group
    .command("ack")
    .description("acknowledge the state of the service: a new member becomes active by it")
    .action(act(ack));
  withProposalOptions(
    group
      .command("rm")
      .description("propose to remove a member")
      .argument("<id>", "member id, or the beginning of one"),
  ).action(act(remove));
  group
    .command("keygen")
    .description("make a member's keys on this machine")
    .argument("<name>", "files are NAME_cert.pem, NAME_privk.pem, ...")
    .option("--dir <directory>", "where", ".")
    .option("--curve <curve>", "secp384r1 or secp256r1", "secp384r1")
    .option("--days <days>", "how long the certificate is valid", "365")
    .option("--no-recovery", "no key for recovery shares")
    .action(act(keygen));
};

async function list(session: Session): Promise<void> {
  const rows = (await listMembers(await session.client())).map(rowOf);
  session.output.list(rows, ["member", "status", "recovery", "data"], "member");
}

async function show(session: Session, args: readonly string[]): Promise<void> {
  const found = await memberById(session, argument(args, 0));
  session.output.record(
    { ...rowOf(found), certificate: found.certificate, encryption_key: found.publicEncryptionKey },
    "member",
  );
}

async function add(session: Session, args: readonly string[], options: AddOptions): Promise<void> {
  const { role } = options;
  if (role !== undefined && !ROLES.includes(role))
    throw usageError(`--role "${role}" is not known`, `use ${ROLES.join(", ")}`);
  const member = {
    cert: readText(argument(args, 0)),
    ...(options.encryptionKey !== undefined && { encryption_pub_key: readText(options.encryptionKey) }),
    ...(role !== undefined && { recovery_role: role }),
    ...(options.memberData !== undefined && { member_data: jsonOption("--member-data", options.memberData) }),
  };
  await propose(session, [{ name: "set_member", args: member }], options);
}

async function ack(session: Session): Promise<void> {
  const member = session.identity("member0");
  announce(session, member, "an acknowledgement", ["of the service's present state"]);
  const { value: digest } = await acknowledge(await session.client(), signerOf(member));
  session.output.record({ member: member.id, state_digest: digest }, "member");
}

async function remove(session: Session, args: readonly string[], options: ProposeOptions): Promise<void> {
  const { memberId } = await memberById(session, argument(args, 0));
  await propose(session, [{ name: "remove_member", args: { member_id: memberId } }], options);
}

async function keygen(session: Session, args: readonly string[], options: KeygenOptions): Promise<void> {
  await generateKeys(session, argument(args, 0), options);
}

function rowOf(member: Member) {
  return {
    member: member.memberId,
    status: member.status,
    recovery: member.recoveryRole ?? "-",
    data: member.memberData ?? undefined,
  };
}

async function memberById(session: Session, text: string): Promise<Member> {
  const client = await session.client();
  if (text.length === 64) return client.get<Member>(governancePath(`/service/members/${text}`));
  const found = (await listMembers(client)).filter((member) => member.memberId.startsWith(text));
  if (found.length === 1) return found[0]!;
  throw usageError(
    `"${text}" is the beginning of ${found.length} member ids`,
    "give more of it; see camerata member ls",
  );
}

export function jsonOption(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw usageError(`${name} is not JSON`, `write it like ${name} '{"a": 1}'`);
    throw error;
  }
}
