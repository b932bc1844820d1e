/**
 * `camerata user`: those who use the application.
 *
 * A member's machine, but for keygen, which is the user's.
 */
import { governancePath } from "../../governance/member/request.ts";
import { readText } from "../client/context.ts";
import type { Session } from "../client/session.ts";
import { usageError } from "../terminal/errors.ts";
import { argument, type Declare } from "./group.ts";
import { jsonOption } from "./member.ts";
import { generateKeys, type KeygenOptions } from "./people.ts";
import { type ProposeOptions, propose, withProposalOptions } from "./proposing.ts";

type User = { userId: string; certificate: string; userData: unknown };
type AddOptions = ProposeOptions & { userData?: string };

export const declare: Declare = (group, act) => {
  group.command("ls").description("all users").action(act(list));
  group.command("show").description("one user").argument("<id>", "user id, or the beginning of one").action(act(show));
  withProposalOptions(
    group
      .command("add")
      .description("propose to admit a user")
      .argument("<certificate>", "PEM file")
      .option("--user-data <json>", "whatever the application makes of it"),
  ).action(act(add));
  withProposalOptions(
    group.command("rm").description("propose to remove a user").argument("<id>", "user id, or the beginning of one"),
  ).action(act(remove));
  group
    .command("keygen")
    .description("make a user's keys on this machine")
    .argument("<name>", "files are NAME_cert.pem and NAME_privk.pem")
    .option("--dir <directory>", "where", ".")
    .option("--curve <curve>", "secp384r1 or secp256r1", "secp384r1")
    .option("--days <days>", "how long the certificate is valid", "365")
    .action(act(keygen));
};

async function list(session: Session): Promise<void> {
  const users = await allUsers(session);
  session.output.list(
    users.map((user) => ({ user: user.userId, data: user.userData ?? undefined })),
    ["user", "data"],
    "user",
  );
}

async function show(session: Session, args: readonly string[]): Promise<void> {
  const user = await userById(session, argument(args, 0));
  session.output.record({ user: user.userId, data: user.userData ?? undefined, certificate: user.certificate }, "user");
}

async function add(session: Session, args: readonly string[], options: AddOptions): Promise<void> {
  const user = {
    cert: readText(argument(args, 0)),
    ...(options.userData !== undefined && { user_data: jsonOption("--user-data", options.userData) }),
  };
  await propose(session, [{ name: "set_user", args: user }], options);
}

async function remove(session: Session, args: readonly string[], options: ProposeOptions): Promise<void> {
  const { userId } = await userById(session, argument(args, 0));
  await propose(session, [{ name: "remove_user", args: { user_id: userId } }], options);
}

async function keygen(session: Session, args: readonly string[], options: KeygenOptions): Promise<void> {
  await generateKeys(session, argument(args, 0), options);
}

async function allUsers(session: Session): Promise<readonly User[]> {
  const client = await session.client();
  return (await client.get<{ value: readonly User[] }>(governancePath("/service/users"))).value;
}

async function userById(session: Session, text: string): Promise<User> {
  const found = (await allUsers(session)).filter((user) => user.userId.startsWith(text));
  if (found.length === 1) return found[0]!;
  throw usageError(`"${text}" is the beginning of ${found.length} user ids`, "give more of it; see camerata user ls");
}
