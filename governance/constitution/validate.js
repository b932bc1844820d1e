/**
 * The constitution, part 2: is this a proposal that members can vote on?
 *
 * @param input text of the proposal: `{"actions": [{"name": string, "args": any}, ...]}`
 * @returns `{valid: boolean, description: string}`, the description listing everything that is wrong
 */
export function validate(input) {
  let proposal;
  try {
    proposal = JSON.parse(input);
  } catch (error) {
    return { valid: false, description: `the proposal is not JSON: ${error.message}` };
  }
  if (typeof proposal !== "object" || proposal === null || !Array.isArray(proposal.actions))
    return { valid: false, description: 'a proposal is an object with a list of "actions"' };

  const errors = [];
  for (const key of Object.keys(proposal))
    if (key !== "actions") errors.push(`${key}: a proposal has "actions" and nothing else`);
  for (const [position, action] of proposal.actions.entries()) {
    const name = action?.name;
    const definition = actions.get(name);
    if (definition === undefined) {
      errors.push(`${name}: no such action`);
      continue;
    }
    try {
      definition.validate(action.args);
    } catch (error) {
      errors.push(`${name} at position ${position} failed validation: ${error}`);
    }
  }
  return { valid: errors.length === 0, description: errors.join(", ") };
}
