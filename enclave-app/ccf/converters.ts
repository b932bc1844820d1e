/**
 * `ccf.strToBuf` and its kin: between strings, JSON, certificates and ArrayBuffers.
 *
 * Reference ccf-js-apps.md 3.1. They run in the worker; nothing here sees the node.
 *
 * Trusted.
 */
import { utf8, view } from "../../protocol/bytes.ts";
import { certificateId } from "../../protocol/crypto/keys.ts";
import { PEM_CHARS_MAX } from "../../protocol/crypto/pem.ts";
import type { GuestGlobal } from "../js/guest-types.ts";
import { SYNC_BYTES_MAX } from "../js/sync-call.ts";
import { asGuestError, bytesOf, textOf } from "./served.ts";

export const convertersGlobal: GuestGlobal = {
  prelude: `
const { count, isBuffer, stringify, parse } = tools;
const encode = (text) => call("converters.encode", text);
const decode = (buffer) => {
  if (!isBuffer(buffer)) throw new TypeError("Argument must be an ArrayBuffer");
  return call("converters.decode", buffer);
};
ccf.strToBuf = (...args) => {
  count(args, 1);
  if (typeof args[0] !== "string") throw new TypeError("Argument must be a string");
  return encode(args[0]);
};
ccf.bufToStr = (...args) => {
  count(args, 1);
  return decode(args[0]);
};
ccf.jsonCompatibleToBuf = (...args) => {
  count(args, 1);
  const text = stringify(args[0]);
  if (text === undefined) throw new TypeError("Argument must be a JSON-compatible value");
  return encode(text);
};
ccf.bufToJsonCompatible = (...args) => {
  count(args, 1);
  return parse(decode(args[0]));
};
ccf.pemToId = (...args) => {
  count(args, 1);
  if (typeof args[0] !== "string") throw new TypeError("Argument must be a string");
  return call("converters.pemToId", args[0]);
};`,
  local: {
    "converters.encode": (_, text) => utf8(textOf(text, "a text", SYNC_BYTES_MAX)),
    "converters.decode": (_, bytes) => view(bytesOf(bytes, "a buffer", SYNC_BYTES_MAX)).toString("utf8"),
    "converters.pemToId": (_, pem) => asGuestError(() => certificateId(textOf(pem, "a certificate", PEM_CHARS_MAX))),
  },
};
