/**
 * Defects that can be put back into the core, one switch each, to measure the tests.
 *
 * Most are historic bugs of CCF's Raft (its issue or pull request is named); the others are what our own additions could
 * get wrong. A simulator that does not find one of these within a few hundred seeds is not looking. Production code never
 * passes any: `createRaft` without the argument has none.
 *
 * Trusted. Pure.
 */
export const MUTATIONS = {
  unionQuorum: "elections count votes over the union of configurations (CCF #3837, #4018)",
  commitPreviousView: "a leader commits an entry of an earlier view on agreement alone (CCF #3950, #5674)",
  refusalSetsMatch: "a refusal's estimate is taken as agreement (CCF #5324)",
  truncateWithoutConflict: "a new follower drops its suffix on any append (CCF #5971, #6016)",
  ackLocalTail: "an acknowledgement names the local tail (CCF #6016)",
  silentWhenRetired: "a node stops replicating once its retirement completes (CCF #5919, #6008)",
  checkQuorumAny: "a leader stays while any one configuration answers (CCF #7375)",
  truncateOnStepDown: "a leader that steps down drops its unsigned suffix (CCF #7618)",
  forgetVoteOnStepDown: "stepping down within a view forgets the vote (CCF #5891, #8094)",
  commitBeyondVerified: "a follower commits to the leader's commit point, verified or not (CCF #8172)",
  ackBeforeStable: "a follower acknowledges what is not on its disk",
  countUnstable: "a leader counts its own entries before they are on its disk",
  staleStableReport: "a report about rolled back entries counts for their successors",
  minorityQuorum: "half of the nodes pass for a majority",
  voteForStaleLog: "a vote is granted whatever the candidate's log",
  commitOldestConfiguration: "only the oldest active configuration must agree to a commit",
} as const;

export type Mutation = keyof typeof MUTATIONS;
export type Mutations = Readonly<Partial<Record<Mutation, true>>>;
