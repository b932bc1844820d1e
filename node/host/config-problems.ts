/**
 * What is wrong with a configuration, in words for the person who wrote it: each problem names the place and the remedy.
 *
 * A schema compiler answers yes or no, or in JSON Schema's words; people need all problems at once, and "did you mean".
 * Walks the few kinds of schema that `config-schema.ts` is made of.
 *
 * Untrusted. Pure.
 */
import type { TSchema } from "typebox";
import { Broken } from "../../protocol/check.ts";

type Shape = Readonly<{
  type?: string;
  const?: unknown;
  enum?: readonly unknown[];
  anyOf?: readonly TSchema[];
  properties?: Readonly<Record<string, TSchema>>;
  required?: readonly string[];
  patternProperties?: Readonly<Record<string, TSchema>>;
  minProperties?: number;
  maxProperties?: number;
  items?: TSchema;
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  description?: string;
  minimum?: number;
  maximum?: number;
}>;

/** All problems, in the order of the schema; empty when `value` fits. */
export function problemsOf(schema: TSchema, value: unknown): string[] {
  const problems: string[] = [];
  walk(schema as Shape, value, "", problems);
  return problems;
}

function walk(shape: Shape, value: unknown, path: string, problems: string[]): void {
  const say = (what: string) => void problems.push(`${path || "the configuration"} ${what}`);

  if (shape.anyOf !== undefined) {
    const fits = shape.anyOf.some((option) => problemsOf(option, value).length === 0);
    if (!fits) walk(shape.anyOf[0] as Shape, value, path, problems);
    return;
  }
  if (shape.const !== undefined) {
    if (value !== shape.const) say(`must be ${JSON.stringify(shape.const)}`);
    return;
  }
  if (shape.enum !== undefined) {
    if (!shape.enum.includes(value)) say(`must be ${shape.enum.map((option) => JSON.stringify(option)).join(" or ")}`);
    return;
  }
  switch (shape.type) {
    case "object":
      if (typeof value !== "object" || value === null || Array.isArray(value)) return say("must be an object");
      return walkObject(shape, value as Readonly<Record<string, unknown>>, path, problems);
    case "array":
      if (!Array.isArray(value)) return say("must be a list");
      if (value.length < (shape.minItems ?? 0)) say(`must have at least ${shape.minItems} item`);
      if (value.length > (shape.maxItems ?? Number.POSITIVE_INFINITY)) say(`may have at most ${shape.maxItems} items`);
      for (const [i, item] of value.entries()) walk(shape.items as Shape, item, `${path}[${i}]`, problems);
      return;
    case "string":
      if (typeof value !== "string") return say(`must be ${shape.description ?? "text"}`);
      if (value.length < (shape.minLength ?? 0)) say("must not be empty");
      else if (value.length > (shape.maxLength ?? Number.POSITIVE_INFINITY)) say(`is longer than ${shape.maxLength}`);
      else if (shape.pattern !== undefined && !new RegExp(shape.pattern).test(value))
        say(`is ${JSON.stringify(value)}, but must be ${shape.description ?? `text like ${shape.pattern}`}`);
      return;
    case "integer":
      if (!Number.isInteger(value)) return say("must be a whole number");
      if ((value as number) < (shape.minimum ?? Number.NEGATIVE_INFINITY)) say(`must be at least ${shape.minimum}`);
      if ((value as number) > (shape.maximum ?? Number.POSITIVE_INFINITY)) say(`must be at most ${shape.maximum}`);
      return;
    case "boolean":
      if (typeof value !== "boolean") say("must be true or false");
      return;
    case "null":
      if (value !== null) say("must be null");
      return;
    default:
      throw new Broken(`no branch for a schema of type ${shape.type}`);
  }
}

function walkObject(shape: Shape, value: Readonly<Record<string, unknown>>, path: string, problems: string[]): void {
  const at = (name: string) => (path ? `${path}.${name}` : name);
  const any = shape.patternProperties && Object.values(shape.patternProperties)[0];
  const known = shape.properties ?? {};
  const names = Object.keys(value);

  if (any !== undefined) {
    if (names.length < (shape.minProperties ?? 0))
      problems.push(`${path} must have at least ${shape.minProperties} entry`);
    if (names.length > (shape.maxProperties ?? Number.POSITIVE_INFINITY))
      problems.push(`${path} may have at most ${shape.maxProperties} entries`);
    for (const name of names) walk(any as Shape, value[name], at(name), problems);
    return;
  }
  const missing = (shape.required ?? []).filter((name) => !Object.hasOwn(value, name));
  for (const name of names)
    if (Object.hasOwn(known, name)) walk(known[name] as Shape, value[name], at(name), problems);
    else problems.push(`${at(name)} is not a known key${didYouMean(name, Object.keys(known))}`);
  for (const name of missing) problems.push(`${at(name)} is missing`);
}

function didYouMean(name: string, known: readonly string[]): string {
  const near = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate) }))
    .filter(({ candidate, distance }) => distance <= Math.max(2, Math.floor(candidate.length / 4)))
    .sort((a, b) => a.distance - b.distance)[0];
  if (near !== undefined) return `; did you mean ${near.candidate}?`;
  return known.length <= 12 ? `; known are ${known.join(", ")}` : "";
}

/** Levenshtein's distance. Names are short; `name` is cut so that a hostile file costs nothing. */
function editDistance(name: string, other: string): number {
  const a = name.slice(0, 64);
  let row = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === other[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[other.length]!;
}
