/**
 * `camerata proposal`: members decide.
 *
 * A member's machine.
 */
import { VOTE_AGAINST, VOTE_FOR } from "../../governance/member/ballots.ts";
import { describeActions, describeBallot } from "../../governance/member/describe.ts";
import { governancePath } from "../../governance/member/request.ts";
import {
  vote as castVote,
  createProposal,
  getActions,
  getProposal,
  listProposals,
  withdraw as withdrawProposal,
} from "../../governance/member/voting.ts";
import { readText } from "../client/context.ts";
import { type Session, signerOf } from "../client/session.ts";
import { untilResolved } from "../client/transactions.ts";
import { CliError, usageError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import { argument, type Declare, parsePairs } from "./group.ts";
import { announce, type ProposeOptions, propose, showProposal, withProposalOptions } from "./proposing.ts";

type NewOptions = ProposeOptions & { file?: string };
type VoteOptions = { for?: boolean; against?: boolean; ballot?: string; dryRun?: boolean };

export const declare: Declare = (group, act) => {
  withProposalOptions(
    group
      .command("new")
      .description("propose an action of the constitution")
      .argument("[action]", "its name, such as set_user")
      .argument("[pairs...]", "its arguments, name=value; a value @FILE is the text of a file")
      .option("--file <json>", 'a whole proposal, {"actions": [...]}, signed byte for byte'),
  ).action(act(create));
  group.command("ls").description("the proposals that the service remembers").action(act(list));
  group.command("show").description("one proposal, and in words what it would do").argument("<id>").action(act(show));
  group
    .command("vote")
    .description("cast a ballot; it cannot be changed afterwards")
    .argument("<id>")
    .option("--for", "in favour")
    .option("--against", "against")
    .option("--ballot <file>", "a JavaScript module that exports vote(proposal, proposerId)")
    .option("--dry-run", "say what would be signed, and sign nothing")
    .action(act(vote));
  group.command("withdraw").description("take back your own proposal").argument("<id>").action(act(withdraw));
  group.command("wait").description("wait until it is no longer open").argument("<id>").action(act(wait));
  group.command("actions").description("the actions that the constitution in force names").action(act(actions));
};

async function create(session: Session, args: readonly string[], options: NewOptions): Promise<void> {
  const name = args[0];
  if ((name === undefined) === (options.file === undefined))
    throw usageError("name an action, or a file with --file", "camerata proposal new set_user cert=@user1_cert.pem");
  if (options.file !== undefined) return createFromFile(session, options.file, options);
  const pairs = parsePairs((args[1] as unknown as string[] | undefined) ?? []);
  const values = Object.fromEntries(
    Object.entries(pairs).map(([key, value]) => [
      key,
      typeof value === "string" && value.startsWith("@") ? readText(value.slice(1)) : value,
    ]),
  );
  await propose(session, [{ name: name!, ...(Object.keys(values).length > 0 && { args: values }) }], options);
}

async function createFromFile(session: Session, file: string, options: NewOptions): Promise<void> {
  const text = readText(file);
  const member = session.identity("member0");
  announce(session, member, "a proposal", describeActions(actionsIn(text, file)));
  if (options.dryRun === true) return session.output.say("nothing was signed (--dry-run)");
  const { value } = await createProposal(await session.client(), signerOf(member), text);
  showProposal(session, value);
}

function actionsIn(text: string, file: string): { name: string; args?: unknown }[] {
  const malformed = () =>
    usageError(`${file} is not a proposal`, 'it is JSON of the form {"actions": [{"name": ..., "args": ...}]}');
  try {
    const { actions: found } = JSON.parse(text) as { actions?: unknown };
    if (!Array.isArray(found) || !found.every((action) => typeof action?.name === "string")) throw malformed();
    return found as { name: string; args?: unknown }[];
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) throw malformed();
    throw error;
  }
}

async function list(session: Session): Promise<void> {
  const proposals = await listProposals(await session.client());
  const rows = proposals.map((found) => ({
    proposal: found.proposalId,
    state: found.proposalState,
    ballots: found.ballotCount,
    proposer: found.proposerId,
  }));
  session.output.list(rows, ["proposal", "state", "ballots", "proposer"], "proposal");
}

async function show(session: Session, args: readonly string[]): Promise<void> {
  const client = await session.client();
  const id = argument(args, 0);
  const found = await getProposal(client, id);
  const what = await getActions(client, id);
  for (const line of describeActions(what)) session.output.say(line);
  if (session.output.format === "table") return showProposal(session, found);
  session.output.record({ ...found, actions: what }, "proposalId");
}

async function vote(session: Session, args: readonly string[], options: VoteOptions): Promise<void> {
  const chosen = [options.for, options.against, options.ballot].filter((one) => one !== undefined);
  if (chosen.length !== 1) throw usageError("how do you vote?", "choose one of --for, --against and --ballot FILE");
  const id = argument(args, 0);
  const member = session.identity("member0");
  const client = await session.client();
  const ballot =
    options.ballot === undefined ? (options.for === true ? VOTE_FOR : VOTE_AGAINST) : readText(options.ballot);
  announce(session, member, `a ballot on proposal ${id}`, [
    ...describeBallot(ballot),
    "the proposal would:",
    ...describeActions(await getActions(client, id)).map((line) => `  ${line}`),
  ]);
  if (options.dryRun === true) return session.output.say("nothing was signed (--dry-run)");
  const { value } = await castVote(client, signerOf(member), id, ballot);
  showProposal(session, value);
}

async function withdraw(session: Session, args: readonly string[]): Promise<void> {
  const id = argument(args, 0);
  const member = session.identity("member0");
  announce(session, member, "a withdrawal", [`of proposal ${id}`]);
  const { value } = await withdrawProposal(await session.client(), signerOf(member), id);
  if (value === undefined) return session.output.say(`the service does not know proposal ${id} (any more)`);
  showProposal(session, value);
}

async function wait(session: Session, args: readonly string[]): Promise<void> {
  const found = await untilResolved(await session.client(), argument(args, 0), session.timeoutMs);
  showProposal(session, found);
  if (found.proposalState !== "Accepted")
    throw new CliError({
      id: "E-NOT-ACCEPTED",
      exit: EXIT.refused,
      headline: `the proposal is ${found.proposalState.toLowerCase()}`,
      fix: "read its votes and failures above; a new proposal may be made",
    });
}

/** Names as they stand in the constitution's text: running it here would be the members' code on this machine. */
async function actions(session: Session): Promise<void> {
  const answer = await (await session.client()).send({ method: "GET", path: governancePath("/service/constitution") });
  const names = [...answer.body.toString("utf8").matchAll(/["'](\w+)["']\s*,\s*new Action\b/g)].map(
    (match) => match[1]!,
  );
  session.output.list(
    [...new Set(names)].sort().map((action) => ({ action })),
    ["action"],
    "action",
  );
}
