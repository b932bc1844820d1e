/**
 * Checks of what a guest passes to the functions that the main thread serves.
 *
 * Trusted. Pure.
 */
import { fromUtf8 } from "../../protocol/bytes.ts";
import { Fault, isFault } from "../../protocol/check.ts";
import { GuestError, type SyncValue } from "../js/sync-call.ts";

/** Functions of the main thread, by the name that the guest's prelude calls. */
export type Served = Readonly<Record<string, (...args: readonly SyncValue[]) => SyncValue>>;

/** @throws GuestError unless `value` is a string of at most `maxChars` characters. */
export function textOf(value: SyncValue, what: string, maxChars: number): string {
  if (typeof value !== "string") throw new GuestError("TypeError", `${what} must be a string`);
  if (value.length > maxChars) throw new GuestError("RangeError", `${what} is longer than ${maxChars} characters`);
  return value;
}

/** @throws GuestError unless `value` is bytes, at most `maxBytes`. */
export function bytesOf(value: SyncValue, what: string, maxBytes: number): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new GuestError("TypeError", `${what} must be an ArrayBuffer`);
  if (value.length > maxBytes) throw new GuestError("RangeError", `${what} is larger than ${maxBytes} bytes`);
  return value;
}

/** @throws GuestError unless `value` is UTF-8 bytes of at most `maxBytes`. */
export function utf8Of(value: SyncValue, what: string, maxBytes: number): string {
  return asGuestError(() => fromUtf8(bytesOf(value, what, maxBytes)));
}

/** Runs `action`; a fault of what the guest asked for becomes the guest's own error. */
export function asGuestError<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    // A conflict is no fault of the guest: the whole request runs again.
    if (error instanceof Fault && !isFault(error, "TxConflict")) throw new GuestError("InternalError", error.message);
    throw error;
  }
}
