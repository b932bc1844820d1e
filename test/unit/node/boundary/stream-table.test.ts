/** What a lying other side can do to a stream, and what it cannot do to the table. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { STREAM_WINDOW } from "../../../../node/boundary/messages.ts";
import { type BoundaryStream, createStreamTable } from "../../../../node/boundary/stream-table.ts";
import { Fault } from "../../../../protocol/check.ts";

function enclaveTable(streamsMax = 10) {
  const said: string[] = [];
  let open = true;
  const table = createStreamTable({
    side: "enclave",
    streamsMax,
    wire: {
      data: (stream, data) => said.push(`data ${stream} ${data.length}`),
      credit: (stream, bytes) => said.push(`credit ${stream} ${bytes}`),
      end: (stream) => said.push(`end ${stream}`),
      abort: (stream, error) => said.push(`abort ${stream} ${error}`),
      writable: () => open,
    },
  });
  const told: string[] = [];
  const events = (stream: BoundaryStream) => ({
    data: (bytes: Uint8Array) => void told.push(`data ${stream.number} ${bytes.length}`),
    drain: () => void told.push(`drain ${stream.number}`),
    ended: () => void told.push(`ended ${stream.number}`),
    closed: (error: string | undefined) => void told.push(`closed ${stream.number} ${error}`),
  });
  return { table, said, told, events, setWritable: (yes: boolean) => (open = yes) };
}

const window = new Uint8Array(STREAM_WINDOW);
const wrongNumber = expect.objectContaining({ detail: expect.objectContaining({ code: "StreamNumberWrong" }) });

test.each<[string, (t: ReturnType<typeof enclaveTable>) => void]>([
  ["a number of ours", ({ table, events }) => table.opened(3, events)],
  ["zero", ({ table, events }) => table.opened(0, events)],
  [
    "the same number twice",
    ({ table, events }) => {
      table.opened(4, events);
      table.opened(4, events);
    },
  ],
  [
    "a number below an earlier one",
    ({ table, events }) => {
      table.opened(6, events);
      table.opened(4, events);
    },
  ],
  ["bytes for a stream that never was", ({ table }) => table.received(2, window)],
  ["credit for one of ours that never was", ({ table }) => table.credited(1, 1)],
  [
    "an end of a stream to come",
    ({ table, events }) => {
      table.opened(2, events);
      table.ended(4);
    },
  ],
])("%s makes no sense and is a fault", (_, act) => {
  expect(() => act(enclaveTable())).toThrow(wrongNumber);
});

test("bytes over the window abort that stream only", () => {
  const { table, said, told, events } = enclaveTable();
  table.opened(2, events);
  table.opened(4, events);
  table.received(2, window);
  table.received(2, new Uint8Array(1));
  table.received(4, new Uint8Array(1));
  expect(said).toEqual(["abort 2 the window was exceeded"]);
  expect(told).toEqual([`data 2 ${STREAM_WINDOW}`, "closed 2 the window was exceeded", "data 4 1"]);
});

test("credit never sent for, bytes after the end and a second end abort the stream", () => {
  const { table, said, events } = enclaveTable();
  for (const number of [2, 4, 6]) table.opened(number, events);
  table.credited(2, 1);
  table.ended(4);
  table.received(4, new Uint8Array(1));
  table.ended(6);
  table.ended(6);
  expect(said).toEqual([
    "abort 2 credit was given for bytes never sent",
    "abort 4 bytes came after the end",
    "abort 6 the end came twice",
  ]);
});

test("what was under way to a stream that is over is dropped without a word", () => {
  const { table, said, told, events } = enclaveTable();
  table.opened(2, (stream) => {
    stream.abort("enough");
    return events(stream);
  });
  const before = said.length;
  table.received(2, window);
  table.credited(2, 5);
  table.ended(2);
  table.aborted(2, "late");
  expect(said.length).toBe(before);
  expect(told).toEqual([]);
});

test("more streams than allowed are refused on either side", () => {
  const { table, said, events } = enclaveTable(1);
  expect(table.opened(2, events)).toBeDefined();
  expect(table.opened(4, events)).toBeUndefined();
  expect(table.open(events)).toBeUndefined();
  expect(said).toEqual(["abort 4 too many streams are open"]);
  table.received(4, window);
});

test("sending stops without credit, goes on with it, and the end comes after the bytes", () => {
  const { table, said, told, events } = enclaveTable();
  const stream = table.open(events)!;
  expect(stream.send(window)).toBe(true);
  expect(stream.send(new Uint8Array(10))).toBe(false);
  table.credited(1, 4);
  table.credited(1, 6);
  expect(told).toEqual(["drain 1"]);
  expect(stream.send(new Uint8Array(2))).toBe(false);
  stream.end();
  expect(said).toEqual([`data 1 ${STREAM_WINDOW}`, "data 1 4", "data 1 6"]);
  table.credited(1, STREAM_WINDOW);
  expect(said.slice(3)).toEqual(["data 1 2", "end 1"]);
});

test("a full port holds bytes back until it drains", () => {
  const { table, said, told, events, setWritable } = enclaveTable();
  const stream = table.open(events)!;
  setWritable(false);
  expect(stream.send(new Uint8Array(3))).toBe(false);
  expect(said).toEqual([]);
  setWritable(true);
  table.portDrained();
  expect(said).toEqual(["data 1 3"]);
  expect(told).toEqual(["drain 1"]);
});

test("credit goes back in quarters of the window", () => {
  const { table, said, events } = enclaveTable();
  const stream = table.opened(2, events)!;
  table.received(2, window);
  stream.used(STREAM_WINDOW / 4 - 1);
  expect(said).toEqual([]);
  stream.used(1);
  expect(said).toEqual([`credit 2 ${STREAM_WINDOW / 4}`]);
});

test("whatever the other side says in whatever order, the table answers or faults and holds no more than its bounds", () => {
  const act = fc.tuple(
    fc.constantFrom("opened", "received", "credited", "ended", "aborted", "send", "end", "used"),
    fc.integer({ min: 0, max: 9 }),
    fc.integer({ min: 0, max: STREAM_WINDOW }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 200 }), (acts) => {
      const { table, events } = enclaveTable(4);
      const streams = new Map<number, BoundaryStream>();
      const held = new Map<number, number>();
      const ended = new Set<number>();
      const make = (stream: BoundaryStream) => {
        streams.set(stream.number, stream);
        const own = events(stream);
        return {
          ...own,
          data: (bytes: Uint8Array) => void held.set(stream.number, (held.get(stream.number) ?? 0) + bytes.length),
        };
      };
      table.open(make);
      for (const [what, number, size] of acts) {
        try {
          if (what === "opened") table.opened(number, make);
          else if (what === "received") table.received(number, window.subarray(0, size));
          else if (what === "credited") table.credited(number, size);
          else if (what === "ended") table.ended(number);
          else if (what === "aborted") table.aborted(number, "x");
          else if (what === "send" && !ended.has(number)) streams.get(number)?.send(window.subarray(0, size));
          else if (what === "end") {
            if (streams.has(number)) ended.add(number);
            streams.get(number)?.end();
          } else if (what === "used") {
            const have = held.get(number) ?? 0;
            held.set(number, 0);
            streams.get(number)?.used(have);
          }
        } catch (error) {
          if (!(error instanceof Fault)) throw error;
        }
        for (const have of held.values()) expect(have).toBeLessThanOrEqual(STREAM_WINDOW);
        expect(table.size).toBeLessThanOrEqual(4);
      }
    }),
    { numRuns: 500 },
  );
});
