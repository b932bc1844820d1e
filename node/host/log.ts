/**
 * The host's log: one line for each event, on standard error, as text or JSON.
 *
 * What comes from the enclave process is somebody else's text: control characters are taken out, lines are cut, and no
 * more than a few hundred a second are taken, so that a broken enclave cannot fill the disk.
 *
 * Untrusted.
 */
export type Level = "info" | "warn" | "error";
export type Side = "host" | "enclave";
export type Log = (level: Level, message: string, side?: Side) => void;

const LINE_CHARS_MAX = 4096;
/** Lines that the enclave may log in one second. */
const ENCLAVE_LINES_MAX = 200;

/** @param write takes a line with its end */
export function createLog(format: "Text" | "Json", write: (line: string) => void, now = () => new Date()): Log {
  let second = 0;
  let lines = 0;
  return (level, message, side = "host") => {
    const time = now();
    if (side === "enclave") {
      const current = Math.floor(time.getTime() / 1000);
      if (current !== second) {
        second = current;
        lines = 0;
      }
      if (++lines > ENCLAVE_LINES_MAX) return;
      if (lines === ENCLAVE_LINES_MAX) message = "more lines of this second are dropped";
    }
    const text = clean(message, side);
    if (format === "Json") write(`${JSON.stringify({ ts: time.toISOString(), level, side, msg: text })}\n`);
    else write(`${time.toISOString()} ${level.padEnd(5)} ${side.padEnd(7)} ${text}\n`);
  };
}

/** Splits a stream's chunks into lines for a log; a line without end is cut, not kept for ever. */
export function lineSplitter(onLine: (line: string) => void): (chunk: Buffer) => void {
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk.toString("utf8")).split("\n");
    rest = (lines.pop() ?? "").slice(0, LINE_CHARS_MAX);
    for (const line of lines) if (line.trim() !== "") onLine(line);
  };
}

/** Only the host's own texts may have several lines. */
function clean(text: string, side: Side): string {
  const kept = side === "host" ? "\n" : "";
  return text.slice(0, LINE_CHARS_MAX).replace(/\p{Cc}/gu, (character) => (character === kept ? character : "?"));
}
