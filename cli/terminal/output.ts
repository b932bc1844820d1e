/**
 * Everything the command line prints.
 *
 * Data goes to stdout in the format that was asked for, progress and remarks to stderr, so that a pipe carries data and
 * nothing else. Colour and moving lines only where a person looks (a terminal, NO_COLOR not set); a pipe gets plain lines.
 *
 * Neutral: streams and the environment are handed in.
 */
import type { Writable } from "node:stream";

export const FORMATS = ["table", "json", "jsonl", "id"] as const;
export type Format = (typeof FORMATS)[number];

export type Colour = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";
const ANSI: Readonly<Record<Colour, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
};

export type OutputParts = Readonly<{
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean };
  format: Format;
  quiet: boolean;
  /** Explicitly off; else on where stderr is a terminal, unless NO_COLOR says no. */
  noColour: boolean;
  environment: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since any fixed moment. */
  clock(): number;
}>;

/** A row of a list or the fields of one thing. */
export type Row = Readonly<Record<string, unknown>>;

export interface Step {
  /** Ends the step. `detail` replaces what it was called at the start. */
  done(detail?: string): void;
  failed(detail?: string): void;
}

export interface Output {
  readonly format: Format;
  readonly interactive: boolean;
  paint(colour: Colour, text: string): string;
  /** One thing. `id` names the field that `-o id` prints. */
  record(row: Row, id: string): void;
  /** Many things. `columns` are shown in a table; json formats carry every field. */
  list(rows: readonly Row[], columns: readonly string[], id: string): void;
  /** Bytes or text as they are, to stdout. */
  raw(data: Uint8Array | string): void;
  /** A remark for a person, to stderr. */
  say(line?: string): void;
  /** A step that takes time: shown with its elapsed time when it ends. */
  step(name: string): Step;
}

export function createOutput(parts: OutputParts): Output {
  return new TerminalOutput(parts);
}

class TerminalOutput implements Output {
  readonly format: Format;
  readonly interactive: boolean;
  readonly #parts: OutputParts;
  readonly #colour: boolean;

  constructor(parts: OutputParts) {
    const { NO_COLOR, FORCE_COLOR, CI } = parts.environment;
    this.#parts = parts;
    this.format = parts.format;
    this.interactive = parts.stderr.isTTY === true && (CI ?? "") === "";
    const wanted = (FORCE_COLOR ?? "") !== "" && FORCE_COLOR !== "0";
    this.#colour = !parts.noColour && (NO_COLOR ?? "") === "" && (wanted || parts.stderr.isTTY === true);
  }

  paint(colour: Colour, text: string): string {
    const [on, off] = ANSI[colour];
    return this.#colour ? `\u001b[${on}m${text}\u001b[${off}m` : text;
  }

  record(row: Row, id: string): void {
    switch (this.format) {
      case "json":
        return this.raw(`${JSON.stringify(row, undefined, 2)}\n`);
      case "jsonl":
        return this.raw(`${JSON.stringify(row)}\n`);
      case "id":
        return this.raw(`${cell(row[id])}\n`);
      case "table": {
        const width = Math.max(...Object.keys(row).map((name) => name.length));
        const lines = Object.entries(row).map(([name, value]) => `${name.padEnd(width)}  ${cell(value, width + 2)}\n`);
        return this.raw(lines.join(""));
      }
    }
  }

  list(rows: readonly Row[], columns: readonly string[], id: string): void {
    switch (this.format) {
      case "json":
        return this.raw(`${JSON.stringify(rows, undefined, 2)}\n`);
      case "jsonl":
        return this.raw(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
      case "id":
        return this.raw(rows.map((row) => `${cell(row[id])}\n`).join(""));
      case "table":
        return this.raw(table(rows, columns));
    }
  }

  raw(data: Uint8Array | string): void {
    this.#parts.stdout.write(data);
  }

  say(line = ""): void {
    if (!this.#parts.quiet) this.#parts.stderr.write(`${line}\n`);
  }

  step(name: string): Step {
    const start = this.#parts.clock();
    const moving = this.interactive && !this.#parts.quiet;
    if (moving) this.#parts.stderr.write(`${this.paint("dim", "…")} ${name}`);
    const end = (mark: string, detail: string): void => {
      const elapsed = `${((this.#parts.clock() - start) / 1000).toFixed(1)} s`;
      // A line that is written over must first be emptied: the new text may be shorter.
      if (moving) this.#parts.stderr.write("\r\u001b[2K");
      this.say(`${mark} ${detail.padEnd(STEP_WIDTH)} ${this.paint("dim", elapsed.padStart(7))}`);
    };
    return {
      done: (detail = name) => end(this.paint("green", "✔"), detail),
      failed: (detail = name) => end(this.paint("red", "✘"), detail),
    };
  }
}

const STEP_WIDTH = 68;

/** A value in a table: nothing is left out, long text is indented under itself. */
function cell(value: unknown, indent = 0): string {
  if (value === undefined || value === null) return "-";
  const text = visible(typeof value === "string" ? value : JSON.stringify(value));
  return text.trimEnd().replaceAll("\n", `\n${" ".repeat(indent)}`);
}

/** Text from elsewhere without what would move a terminal's cursor or change its colours. Lines stay lines. */
export function visible(text: string): string {
  return text.replaceAll(/(?!\n)\p{Cc}/gu, "\ufffd");
}

function table(rows: readonly Row[], columns: readonly string[]): string {
  const texts = rows.map((row) => columns.map((name) => cell(row[name])));
  const lines = [columns.map((name) => name.toUpperCase()), ...texts];
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at]!.length)));
  return lines
    .map(
      (line) =>
        `${line
          .map((text, at) => text.padEnd(widths[at]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
