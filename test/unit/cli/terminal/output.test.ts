/** What goes to stdout and what to stderr, in each format. */
import { Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { createOutput, type Format, type Output } from "../../../../cli/terminal/output.ts";

class Sink extends Writable {
  text = "";
  readonly isTTY: boolean;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString("utf8");
    done();
  }
}

function open(parts: { format?: Format; tty?: boolean; quiet?: boolean; environment?: Record<string, string> } = {}) {
  const { format = "table", tty = false, quiet = false, environment = {} } = parts;
  const [stdout, stderr] = [new Sink(tty), new Sink(tty)];
  let now = 0;
  const output: Output = createOutput({
    stdout,
    stderr,
    format,
    quiet,
    noColour: false,
    environment,
    clock: () => (now += 1500),
  });
  return { output, stdout, stderr };
}

const ROWS = [
  { id: "a1", name: "first", more: { deep: [1] } },
  { id: "b2", name: undefined, more: null },
];

describe("a list", () => {
  test.each<[Format, string]>([
    ["table", "ID  NAME\na1  first\nb2  -\n"],
    ["jsonl", '{"id":"a1","name":"first","more":{"deep":[1]}}\n{"id":"b2","more":null}\n'],
    ["id", "a1\nb2\n"],
  ])("as %s", (format, text) => {
    const { output, stdout, stderr } = open({ format });
    output.list(ROWS, ["id", "name"], "id");
    expect([stdout.text, stderr.text]).toEqual([text, ""]);
  });

  test("as json carries every field, not only the columns", () => {
    const { output, stdout } = open({ format: "json" });
    output.list(ROWS, ["id"], "id");
    expect(JSON.parse(stdout.text)).toEqual([
      { id: "a1", name: "first", more: { deep: [1] } },
      { id: "b2", more: null },
    ]);
  });

  test("an empty one has its head", () => {
    const { output, stdout } = open();
    output.list([], ["id", "name"], "id");
    expect(stdout.text).toBe("ID  NAME\n");
  });
});

test("one thing, as a table: long text is indented under itself", () => {
  const { output, stdout } = open();
  output.record({ id: "a1", certificate: "BEGIN\nEND\n" }, "id");
  expect(stdout.text).toBe("id           a1\ncertificate  BEGIN\n             END\n");
});

test("what a service says cannot drive the terminal", () => {
  const { output, stdout } = open();
  output.record({ reason: "\u001b[2J\u009b1mgone\u0007" }, "reason");
  expect(stdout.text).toBe("reason  \ufffd[2J\ufffd1mgone\ufffd\n");
});

describe("progress", () => {
  test("goes to stderr, one line a step when it ends, without control codes in a pipe", () => {
    const { output, stdout, stderr } = open();
    output.step("working").done("worked");
    output.step("trying").failed();
    expect(stdout.text).toBe("");
    expect(stderr.text.split("\n").map((line) => line.replace(/ {2,}/, " … "))).toEqual([
      "✔ worked … 1.5 s",
      "✘ trying … 1.5 s",
      "",
    ]);
  });

  test("moves only where a person looks, and CI is no person", () => {
    const terminal = open({ tty: true });
    terminal.output.step("working").done();
    expect(terminal.stderr.text).toContain("\r\u001b[2K");
    const ci = open({ tty: true, environment: { CI: "true", NO_COLOR: "1" } });
    ci.output.step("working").done();
    expect(ci.stderr.text).not.toContain("\u001b");
  });

  test("is silent when asked to be quiet", () => {
    const { output, stderr } = open({ quiet: true, tty: true });
    output.step("working").done();
    output.say("remark");
    expect(stderr.text).toBe("");
  });
});

test.each([
  [{ tty: true }, true],
  [{ tty: true, environment: { NO_COLOR: "1" } }, false],
  [{ tty: false }, false],
  [{ tty: false, environment: { FORCE_COLOR: "1" } }, true],
  [{ tty: true, environment: { NO_COLOR: "1", FORCE_COLOR: "1" } }, false],
])("colour with %j: %s", (parts, coloured) => {
  expect(open(parts).output.paint("red", "x") !== "x").toBe(coloured);
});
