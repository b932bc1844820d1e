/**
 * The constitution, part 4: carries out an accepted proposal.
 *
 * If one action fails, none has happened.
 *
 * @param proposal text of the proposal
 * @param proposalId id of the proposal
 */
export function apply(proposal, proposalId) {
  for (const { name, args } of JSON.parse(proposal).actions) actions.get(name).apply(args, proposalId);
}
