import { describe, expect, test } from "vitest";
import { Progress } from "../../../../../node/enclave/consensus/progress.ts";

const BYTES_MAX = 100;

/** A peer that has acknowledged everything up to `seqno`. */
function following(seqno: number): Progress {
  const progress = new Progress(seqno);
  progress.acknowledged(seqno);
  return progress;
}

describe("a new peer", () => {
  test("is asked once, and sent nothing until it answers", () => {
    const progress = new Progress(10);
    expect(progress.maySend(BYTES_MAX)).toBe(false);
    progress.acknowledged(10);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
    expect(progress.match).toBe(10);
  });

  test("that refuses gets one append from where it may match, and the next when it acknowledged that", () => {
    const progress = new Progress(10);
    progress.refused(0);
    expect(progress.sent).toBe(0);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
    progress.sentTo(4, 50);
    expect(progress.maySend(BYTES_MAX)).toBe(false);
    progress.acknowledged(2);
    expect(progress.maySend(BYTES_MAX)).toBe(false);
    progress.acknowledged(4);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
  });
});

describe("in flight are at most", () => {
  test("four appends", () => {
    const progress = following(0);
    for (let last = 1; last <= 4; last++) {
      expect(progress.maySend(BYTES_MAX)).toBe(true);
      progress.sentTo(last, 1);
    }
    expect(progress.maySend(BYTES_MAX)).toBe(false);
    progress.acknowledged(2);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
  });

  test("four times the bytes of one, also when single entries are larger", () => {
    const progress = following(0);
    progress.sentTo(1, 1000);
    expect(progress.maySend(BYTES_MAX)).toBe(false);
    progress.acknowledged(1);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
  });
});

describe("a refusal", () => {
  test("moves back what is sent next, not what matches", () => {
    const progress = following(5);
    progress.sentTo(8, 10);
    progress.refused(6);
    expect([progress.sent, progress.match]).toEqual([6, 5]);
  });

  test("never moves below what matches, nor beyond what was sent", () => {
    const progress = following(5);
    progress.refused(2);
    expect(progress.sent).toBe(5);
    const other = following(5);
    other.refused(99);
    expect(other.sent).toBe(5);
  });

  test("that comes again does not send again", () => {
    const progress = following(5);
    for (let last = 6; last <= 9; last++) progress.sentTo(last, 1);
    progress.refused(5);
    progress.sentTo(9, 4);
    progress.refused(5);
    expect(progress.maySend(BYTES_MAX)).toBe(false);
  });

  test("does send again when a tick went by since the last append", () => {
    const progress = following(5);
    progress.refused(5);
    progress.sentTo(9, 4);
    progress.tick(9);
    progress.refused(5);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
  });
});

describe("a silent peer", () => {
  test("is asked anew, from the tail, after two ticks with something in flight", () => {
    const progress = following(5);
    progress.sentTo(6, 1);
    progress.tick(8);
    expect(progress.sent).toBe(6);
    progress.tick(8);
    expect([progress.sent, progress.match]).toEqual([8, 5]);
    expect(progress.maySend(BYTES_MAX)).toBe(false);
  });

  test("with nothing in flight is not doubted", () => {
    const progress = following(5);
    for (let i = 0; i < 5; i++) progress.tick(5);
    progress.sentTo(6, 1);
    expect(progress.maySend(BYTES_MAX)).toBe(true);
  });

  test("that acknowledges anything is not doubted", () => {
    const progress = following(5);
    progress.sentTo(6, 1);
    for (let i = 0; i < 5; i++) {
      progress.tick(8);
      progress.acknowledged(5);
    }
    expect(progress.sent).toBe(6);
  });
});
