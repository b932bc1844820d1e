/**
 * Byte streams over the boundary: a client's connection or a line to a peer's host, many of them over one port.
 *
 * Each stream has two directions with a credit window each. A sender may have `STREAM_WINDOW` bytes out that the
 * receiver has not given back; so one slow client can neither fill the other process nor hold up its neighbours. The
 * receiver gives credit back in quarters of the window: a short exchange costs no credit message at all.
 *
 * How a stream ends:
 *   end     no more bytes will come from here; the other direction goes on (half-close)
 *   abort   the stream is over, both directions. After an `end` of the same sender, what was sent before it still goes
 *           out; without one, what is queued is dropped.
 * A number is free of meaning once both sides have ended or one has aborted; bytes that were under way then are dropped
 * silently. Numbers are never used again.
 *
 * A stream that was asked for takes bytes at once, before it is connected: they count against the window and wait at
 * the host.
 *
 * What the other side can do wrong to one stream (exceed its window, send after its end) aborts that stream. What makes
 * no sense at all (a number that was never given, or given twice) goes to `onNonsense`; the enclave stops there.
 *
 * Neutral: both sides use it, the enclave through `streams.ts`, the host's pumps directly.
 */
import { assert, Fault } from "../../protocol/check.ts";
import { STREAM_WINDOW } from "./messages.ts";

export type StreamFault = { code: "StreamNumberWrong"; stream: number };

/** What the owner of a stream is told. Nothing comes after `closed`. */
export type StreamEvents = Readonly<{
  /** Bytes arrived. Once they are used up, `used` gives them back; until then at most a window of them exists. */
  data(bytes: Uint8Array): void;
  /** There is credit again after a `send` that returned false. */
  drain(): void;
  /** The other side sends no more. */
  ended(): void;
  /** It is over: both sides ended (no error), or one aborted. */
  closed(error: string | undefined): void;
}>;

export interface BoundaryStream {
  readonly number: number;
  /** Sends bytes, or keeps them until there is credit. False: wait for `drain` before sending more. */
  send(bytes: Uint8Array): boolean;
  /** After what was sent, the end. */
  end(): void;
  /** Ends both directions now. `error` is told to the other side's people. */
  abort(error: string): void;
  /** Gives credit for received bytes back. */
  used(sizeBytes: number): void;
}

/** How a side spells the four things it can say about a stream. */
export type StreamWire = Readonly<{
  data(stream: number, data: Uint8Array): void;
  credit(stream: number, bytes: number): void;
  end(stream: number): void;
  abort(stream: number, error: string): void;
  /** The port takes more. While false, streams keep their bytes. */
  writable(): boolean;
}>;

export type StreamTableParts = Readonly<{
  /** Numbers of streams opened here: the host's are even, the enclave's odd. */
  side: "host" | "enclave";
  wire: StreamWire;
  /** More streams than this are refused, whoever opens them. */
  streamsMax: number;
}>;

export interface StreamTable {
  readonly size: number;
  /** Numbers a new stream of ours. Undefined: there are too many. */
  open(makeEvents: (stream: BoundaryStream) => StreamEvents): BoundaryStream | undefined;
  /** Registers a stream that the other side opened; undefined: too many, and it was aborted. @throws Fault<StreamFault> */
  opened(stream: number, makeEvents: (stream: BoundaryStream) => StreamEvents): BoundaryStream | undefined;
  /** @throws Fault<StreamFault> */
  received(stream: number, data: Uint8Array): void;
  /** @throws Fault<StreamFault> */
  credited(stream: number, sizeBytes: number): void;
  /** @throws Fault<StreamFault> */
  ended(stream: number): void;
  /** @throws Fault<StreamFault> */
  aborted(stream: number, error: string): void;
  /** To be called when the port has become writable again. */
  portDrained(): void;
  /** Ends every stream without a word to the other side, which is gone. */
  close(error: string): void;
}

/** Credit goes back when this much was used up. */
const CREDIT_STEP = STREAM_WINDOW / 4;

type Entry = {
  readonly stream: BoundaryStream;
  events: StreamEvents;
  /** Bytes that may still be sent. */
  credit: number;
  queue: Uint8Array[];
  /** `send` said no; `drain` is due. */
  waiting: boolean;
  ending: boolean;
  endSent: boolean;
  endReceived: boolean;
  /** Bytes received whose credit was not given back, and of them those used up already. */
  unreturned: number;
  usedUp: number;
};

export function createStreamTable(parts: StreamTableParts): StreamTable {
  const { wire } = parts;
  const entries = new Map<number, Entry>();
  const ours = parts.side === "host" ? 0 : 1;
  let nextOurs = parts.side === "host" ? 2 : 1;
  let lastTheirs = 0;
  /** Streams that have credit and bytes but met a full port. */
  let stalled = new Set<Entry>();

  function add(number: number, makeEvents: (stream: BoundaryStream) => StreamEvents): BoundaryStream {
    const stream: BoundaryStream = {
      number,
      send: (bytes) => send(entry, bytes),
      end: () => end(entry),
      abort: (error) => abort(entry, error),
      used: (sizeBytes) => used(entry, sizeBytes),
    };
    const entry: Entry = {
      stream,
      events: SILENT,
      credit: STREAM_WINDOW,
      queue: [],
      waiting: false,
      ending: false,
      endSent: false,
      endReceived: false,
      unreturned: 0,
      usedUp: 0,
    };
    entries.set(number, entry);
    entry.events = makeEvents(stream);
    return stream;
  }

  function send(entry: Entry, bytes: Uint8Array): boolean {
    assert(!entry.ending, "nothing is sent after the end");
    if (!alive(entry)) return false;
    if (bytes.length === 0) return !entry.waiting;
    entry.queue.push(bytes);
    if (entry.waiting) return false;
    pump(entry);
    entry.waiting = entry.queue.length > 0;
    return !entry.waiting;
  }

  /** Sends as much of the queue as credit and port allow, then the end if it is due. */
  function pump(entry: Entry): void {
    while (entry.queue.length > 0) {
      if (entry.credit === 0) return;
      if (!wire.writable()) {
        stalled.add(entry);
        return;
      }
      const bytes = entry.queue[0]!;
      if (bytes.length <= entry.credit) {
        entry.queue.shift();
        entry.credit -= bytes.length;
        wire.data(entry.stream.number, bytes);
      } else {
        const piece = bytes.subarray(0, entry.credit);
        entry.queue[0] = bytes.subarray(entry.credit);
        entry.credit = 0;
        wire.data(entry.stream.number, piece);
      }
    }
    if (entry.ending && !entry.endSent) {
      entry.endSent = true;
      wire.end(entry.stream.number);
      if (entry.endReceived) remove(entry, undefined);
    }
  }

  function resume(entry: Entry): void {
    pump(entry);
    if (!entry.waiting || entry.queue.length > 0) return;
    entry.waiting = false;
    if (!entry.ending) entry.events.drain();
  }

  function end(entry: Entry): void {
    if (!alive(entry) || entry.ending) return;
    entry.ending = true;
    pump(entry);
  }

  function abort(entry: Entry, error: string): void {
    if (!alive(entry)) return;
    wire.abort(entry.stream.number, error);
    remove(entry, error);
  }

  function used(entry: Entry, sizeBytes: number): void {
    if (!alive(entry)) return;
    entry.usedUp += sizeBytes;
    assert(entry.usedUp <= entry.unreturned, "only received bytes are used up");
    if (entry.usedUp < CREDIT_STEP || entry.endReceived) return;
    const bytes = entry.usedUp;
    entry.unreturned -= bytes;
    entry.usedUp = 0;
    wire.credit(entry.stream.number, bytes);
  }

  function remove(entry: Entry, error: string | undefined): void {
    entries.delete(entry.stream.number);
    stalled.delete(entry);
    entry.queue = [];
    entry.events.closed(error);
  }

  function alive(entry: Entry): boolean {
    return entries.get(entry.stream.number) === entry;
  }

  /** The stream, or undefined when it is over already. */
  function find(number: number): Entry | undefined {
    const entry = entries.get(number);
    if (entry !== undefined) return entry;
    const given = number % 2 === ours ? number < nextOurs && number > 0 : number <= lastTheirs;
    if (!given) throw wrongNumber(number);
    return undefined;
  }

  return {
    get size() {
      return entries.size;
    },
    open(makeEvents) {
      if (entries.size >= parts.streamsMax) return undefined;
      const number = nextOurs;
      nextOurs += 2;
      return add(number, makeEvents);
    },
    opened(number, makeEvents) {
      if (number % 2 === ours || number <= lastTheirs) throw wrongNumber(number);
      lastTheirs = number;
      if (entries.size >= parts.streamsMax) {
        wire.abort(number, "too many streams are open");
        return undefined;
      }
      return add(number, makeEvents);
    },
    received(number, data) {
      const entry = find(number);
      if (entry === undefined) return;
      entry.unreturned += data.length;
      if (entry.endReceived) abort(entry, "bytes came after the end");
      else if (entry.unreturned > STREAM_WINDOW) abort(entry, "the window was exceeded");
      else entry.events.data(data);
    },
    credited(number, sizeBytes) {
      const entry = find(number);
      if (entry === undefined) return;
      if (entry.credit + sizeBytes > STREAM_WINDOW) return abort(entry, "credit was given for bytes never sent");
      entry.credit += sizeBytes;
      resume(entry);
    },
    ended(number) {
      const entry = find(number);
      if (entry === undefined) return;
      if (entry.endReceived) return abort(entry, "the end came twice");
      entry.endReceived = true;
      entry.events.ended();
      if (entry.endSent && alive(entry)) remove(entry, undefined);
    },
    aborted(number, error) {
      const entry = find(number);
      if (entry !== undefined) remove(entry, error);
    },
    portDrained() {
      const entriesNow = stalled;
      stalled = new Set();
      for (const entry of entriesNow) if (alive(entry)) resume(entry);
    },
    close(error) {
      for (const entry of entries.values()) remove(entry, error);
    },
  };
}

const SILENT: StreamEvents = { data: () => {}, drain: () => {}, ended: () => {}, closed: () => {} };

function wrongNumber(stream: number): Fault<StreamFault> {
  return new Fault<StreamFault>(
    { code: "StreamNumberWrong", stream },
    "a stream number was never given, or given twice",
  );
}
