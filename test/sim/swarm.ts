/**
 * What one seed decides about the world in which the consortium lives. Ranges are wide on purpose: some worlds are quiet
 * and make long ledgers, some lose every third message, some never stop changing their members.
 */
import type { Prng } from "../../node/enclave/consensus/prng.ts";

export type Swarm = Readonly<{
  nodesAtStart: number;
  identitiesMax: number;
  tickMs: number;
  messageTimeoutMs: number;
  electionTimeoutMs: number;
  appendBytesMax: number;
  /** Milliseconds that every message takes, and a mean to add to it. */
  delayMinMs: number;
  delayMeanMs: number;
  /** Messages of one link arrive in the order they were sent. */
  fifo: boolean;
  /** In 1/1000. */
  loss: number;
  duplicate: number;
  damage: number;
  diskMeanMs: number;
  /** In 1/1000: a write that takes longer than an election. */
  diskStall: number;
  signMeanMs: number;
  /** Mean milliseconds between two events of a kind; 0 for never. */
  clientMs: number;
  partitionMs: number;
  partitionLengthMs: number;
  crashMs: number;
  reconfigureMs: number;
  nominateMs: number;
  replayMs: number;
  pauseMs: number;
}>;

export function drawSwarm(prng: Prng): Swarm {
  const between = (low: number, high: number): number => low + prng.below(high - low + 1);
  const oneOf = <T>(...choices: readonly T[]): T => choices[prng.below(choices.length)]!;
  const nodesAtStart = oneOf(1, 2, 3, 3, 3, 4, 5, 5);
  return {
    nodesAtStart,
    identitiesMax: nodesAtStart + between(0, 5),
    tickMs: between(5, 30),
    messageTimeoutMs: between(20, 100),
    electionTimeoutMs: between(250, 600),
    appendBytesMax: oneOf(1, 300, 1000, 20_000),
    delayMinMs: between(0, 10),
    delayMeanMs: oneOf(1, 5, 20, 80),
    fifo: oneOf(true, false),
    loss: oneOf(0, 0, 20, 100, 300),
    duplicate: oneOf(0, 20, 200),
    damage: oneOf(0, 0, 10),
    diskMeanMs: oneOf(0, 2, 10, 50),
    diskStall: oneOf(0, 0, 5),
    signMeanMs: oneOf(0, 2, 10),
    clientMs: oneOf(5, 20, 50, 200),
    partitionMs: oneOf(0, 500, 1500, 4000),
    partitionLengthMs: oneOf(100, 500, 1500),
    crashMs: oneOf(0, 3000, 10_000),
    reconfigureMs: oneOf(0, 800, 3000, 3000),
    nominateMs: oneOf(0, 2000),
    replayMs: oneOf(0, 100, 500),
    pauseMs: oneOf(0, 0, 1000),
  };
}
