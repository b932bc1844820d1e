/**
 * Keeps an enemy from filling the operator's log: at most `LINES_MAX` lines in `WINDOW_MS`, then one that counts the rest.
 *
 * Trusted.
 */
import type { ChannelParts } from "./channel-types.ts";

type Log = ChannelParts["log"];

const LINES_MAX = 20;
const WINDOW_MS = 10_000;

export function limitLog(log: Log): Log {
  let windowStartMs = 0;
  let lines = 0;
  return (level, message) => {
    const nowMs = performance.now();
    if (windowStartMs === 0 || nowMs - windowStartMs >= WINDOW_MS) {
      if (lines > LINES_MAX) log("warn", `${lines - LINES_MAX} more lines about channels were left out`);
      windowStartMs = nowMs;
      lines = 0;
    }
    if (++lines <= LINES_MAX) log(level, message);
  };
}
