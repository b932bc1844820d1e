/**
 * What runs in the guest before its module: builds `ccf`, and gives the worker two functions to drive the guest with.
 *
 * Everything used here later is captured first, so that a guest that rewrites `JSON` or `ArrayBuffer` breaks only
 * itself. Strings cross as JSON text, because the engine's C strings end at the first NUL.
 *
 * The tools that each global's prelude gets:
 *
 *   count(args, n, text?)     throws CCF's `TypeError: Passed N arguments, but expected M`
 *   isBuffer(value)           an ArrayBuffer by its brand, whatever its prototype says
 *   stringify, parse          the JSON functions as they were
 *   unpack(buffer)            a list of ArrayBuffers from `u32 length ‖ bytes`, little-endian
 *   freeze                    Object.freeze
 *
 * Trusted.
 */
import type { GuestGlobal } from "./guest-types.ts";

/** Longest result of a guest, as JSON text. */
export const RESULT_CHARS_MAX = 4 * 1024 * 1024;
/** What is kept of an error's text and of its trace. */
export const REASON_CHARS_MAX = 4096;

/**
 * The text of a script whose value is a function `host => ({ run, describe })`.
 *
 * `host(json, ...buffers)` makes a call; its string answers are JSON text.
 * `run(function, argumentsJson)` gives the result as JSON text; `describe(error)` gives `{"reason", "trace"?}` as JSON text.
 */
export function preludeText(globals: readonly GuestGlobal[]): string {
  const parts = globals.map(
    ({ prelude }) => `(function (ccf, call, tools) {\n"use strict";\n${prelude}\n})(ccf, call, tools);`,
  );
  return `(function (host) {\n${HEAD}\n${parts.join("\n")}\n${TAIL}\n})`;
}

const HEAD = `"use strict";
const { stringify, parse } = JSON;
const { apply } = Reflect;
const { freeze, getOwnPropertyDescriptor, defineProperty } = Object;
const toText = String;
const { slice } = String.prototype;
const { push } = Array.prototype;
const bufferLength = getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength").get;
const bufferSlice = ArrayBuffer.prototype.slice;
const { getUint32 } = DataView.prototype;
const View = DataView;
const classes = { __proto__: null, TypeError, RangeError, InternalError, Error };

function isBuffer(value) {
  try {
    apply(bufferLength, value, []);
    return true;
  } catch {
    return false;
  }
}

function call(name, ...args) {
  const plain = [name];
  const sent = [undefined];
  for (let i = 0; i < args.length; i++) apply(push, isBuffer(args[i]) ? sent : plain, [args[i]]);
  sent[0] = stringify(plain);
  let answer;
  try {
    answer = apply(host, undefined, sent);
  } catch (error) {
    const Class = classes[error.name];
    throw Class === undefined ? error : new Class(error.message);
  }
  return typeof answer === "string" ? parse(answer) : answer;
}

const tools = freeze({
  stringify,
  parse,
  isBuffer,
  freeze,
  apply,
  defineProperty,
  count(args, expected, text = toText(expected)) {
    if (args.length !== expected)
      throw new TypeError("Passed " + args.length + " arguments, but expected " + text);
  },
  unpack(buffer) {
    const view = new View(buffer);
    const length = apply(bufferLength, buffer, []);
    const list = [];
    for (let at = 0; at < length; ) {
      const size = apply(getUint32, view, [at, true]);
      apply(push, list, [apply(bufferSlice, buffer, [at + 4, at + 4 + size])]);
      at += 4 + size;
    }
    return list;
  },
});
const ccf = {};`;

const TAIL = `globalThis.ccf = ccf;
return freeze({
  run(target, args) {
    const text = stringify(apply(target, undefined, parse(args)));
    if (text !== undefined && text.length > ${RESULT_CHARS_MAX})
      throw new RangeError("a result may have at most ${RESULT_CHARS_MAX} characters of JSON");
    return text;
  },
  describe(error) {
    let reason = "an exception that cannot be described";
    let trace;
    try {
      reason = toText(error);
      if (typeof error === "object" && error !== null && typeof error.stack === "string") trace = error.stack;
    } catch {
      trace = undefined;
    }
    const short = (text) => text === undefined ? undefined : apply(slice, text, [0, ${REASON_CHARS_MAX}]);
    return stringify({ reason: short(reason), trace: short(trace) });
  },
});`;
