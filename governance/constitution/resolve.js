/**
 * The constitution, part 3: has a proposal been decided?
 *
 * A proposal is accepted when more than half of the active members have voted for it, and rejected when so many have
 * voted against it that this cannot happen any more. Until then it is open. To propose is not to vote. A member who has
 * left does not count, nor does a ballot that fails: its author has not voted.
 *
 * It is called again after each ballot, with what every ballot says at that moment. A ballot is code and may change its
 * mind; a rejected proposal stays rejected.
 *
 * @param proposal text of the proposal
 * @param proposerId id of the member who made it
 * @param votes `[{member_id: string, vote: boolean}, ...]`
 * @returns "Open", "Accepted" or "Rejected"
 */
export function resolve(proposal, proposerId, votes) {
  const active = new Set();
  ccf.kv["public:ccf.gov.members.info"].forEach((value, key) => {
    if (ccf.bufToJsonCompatible(value).status === "Active") active.add(ccf.bufToStr(key));
  });

  const counted = votes.filter(({ member_id }) => active.has(member_id));
  const inFavour = counted.filter(({ vote }) => vote === true).length;
  const against = counted.length - inFavour;

  if (inFavour * 2 > active.size) return "Accepted";
  if ((active.size - against) * 2 <= active.size) return "Rejected";
  return "Open";
}
