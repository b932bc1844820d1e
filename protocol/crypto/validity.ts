/**
 * When a certificate is valid.
 *
 * A period begins at a second and lasts whole days; its last second is one before the same time of day, because both ends
 * of an X.509 validity count (RFC 5280, 4.1.2.5). CCF takes the beginning in several spellings, from operators and from
 * constitutions; all of them mean UTC unless they say otherwise.
 *
 * Neutral. Pure.
 */
import { Fault } from "../check.ts";
import { element, sequence, TAG } from "./der.ts";

export type ValidityFault = { code: "ValidFromMalformed" };

export const DAY_MS = 86_400_000;

const FORMS = [
  /^(?<yy>\d\d)(?<month>\d\d)(?<day>\d\d)(?<hour>\d\d)(?<minute>\d\d)(?<second>\d\d)Z$/,
  /^(?<year>\d{4})(?<month>\d\d)(?<day>\d\d)(?<hour>\d\d)(?<minute>\d\d)(?<second>\d\d)Z$/,
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[ T](?<hour>\d\d):(?<minute>\d\d):(?<second>\d\d)(\.\d{1,6})?(Z|(?<sign>[+-])(?<zoneHour>\d\d):(?<zoneMinute>\d\d))?$/,
];

/**
 * Reads `YYMMDDhhmmssZ`, `YYYYMMDDhhmmssZ`, `YYYY-MM-DD hh:mm:ss[.ffffff][+hh:mm]`, or the last with a `T`.
 * Fractions of a second are dropped.
 * @throws Fault `ValidFromMalformed`
 */
export function parseValidFrom(text: string): Date {
  const found = FORMS.map((form) => form.exec(text)?.groups).find((groups) => groups !== undefined);
  if (found === undefined) throw malformed(text);
  const { yy, year = yy, month, day, hour, minute, second, sign, zoneHour = "0", zoneMinute = "0" } = found;
  const short = yy === undefined ? 0 : Number(yy) < 50 ? 2000 : 1900;
  const fields = [
    Number(year) + short,
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  ] as const;
  const local = new Date(Date.UTC(...fields));
  const back = [
    local.getUTCFullYear(),
    local.getUTCMonth(),
    local.getUTCDate(),
    local.getUTCHours(),
    local.getUTCMinutes(),
    local.getUTCSeconds(),
  ];
  // `Date` rolls 30 February over into March; such a date is refused.
  if (back.some((field, i) => field !== fields[i]) || Number(zoneHour) > 23 || Number(zoneMinute) > 59)
    throw malformed(text);
  const offsetMs = (Number(zoneHour) * 60 + Number(zoneMinute)) * 60_000;
  return new Date(local.getTime() - (sign === "-" ? -offsetMs : offsetMs));
}

/** The last second of a period of `days` days. */
export function validTo(validFrom: Date, days: number): Date {
  return new Date(validFrom.getTime() + days * DAY_MS - 1000);
}

/** A certificate's Validity. */
export function encodeValidity(validFrom: Date, days: number): Buffer {
  return sequence(encodeTime(validFrom), encodeTime(validTo(validFrom, days)));
}

/** UTCTime up to 2049, GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5). */
function encodeTime(time: Date): Buffer {
  const digits = time.toISOString().slice(0, 19).replaceAll(/[-:T]/g, "") + "Z";
  const short = time.getUTCFullYear() >= 1950 && time.getUTCFullYear() < 2050;
  return element(short ? TAG.utcTime : TAG.generalizedTime, Buffer.from(short ? digits.slice(2) : digits, "latin1"));
}

function malformed(text: string): Fault<ValidityFault> {
  return new Fault<ValidityFault>(
    { code: "ValidFromMalformed" },
    `${JSON.stringify(text.slice(0, 64))} is not a date and time like 2026-01-31 12:00:00 or 20260131120000Z`,
  );
}
