/** fast-check values for the messages of a direction, derived from the same declaration the codec is derived from. */
import fc from "fast-check";
import type { TSchema } from "typebox";
import { Check } from "typebox/value";
import type { Direction, MessageOf } from "../../../../node/boundary/schema.ts";

/** Any message of a direction, of any kind, within its bounds but small. */
export function anyMessage<D extends Direction>(direction: D): fc.Arbitrary<MessageOf<D>> {
  const kinds = Object.entries(direction).map(([kind, fields]) =>
    fc.record({
      kind: fc.constant(kind),
      ...Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, fieldValue(schema)])),
    }),
  );
  return fc.oneof(...kinds) as unknown as fc.Arbitrary<MessageOf<D>>;
}

type Shape = Readonly<{
  type?: string;
  enum?: unknown[];
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  items?: TSchema;
  maxItems?: number;
}>;

function fieldValue(schema: TSchema): fc.Arbitrary<unknown> {
  const shape = schema as Shape;
  if (shape.enum) return fc.constantFrom(...shape.enum);
  switch (shape.type) {
    case "integer":
      return fc.oneof(
        fc.integer({ min: 0, max: 300 }),
        fc.maxSafeInteger().map((n) => Math.abs(n)),
        fc.constantFrom(shape.minimum ?? 0, shape.maximum ?? 0, 2 ** 31, 2 ** 32 - 1, 2 ** 32),
      );
    case "string":
      return fc
        .string({ maxLength: Math.min(shape.maxLength ?? 0, 80), unit: "grapheme" })
        .filter((text) => Check(schema, text));
    case "boolean":
      return fc.boolean();
    case "array":
      return fc.array(fieldValue(shape.items as TSchema), { maxLength: Math.min(shape.maxItems ?? 0, 5) });
    default: {
      // Bytes and numbers by name are refinements without a JSON Schema type.
      if (Check(schema, Buffer.alloc(0))) return fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
      return fc.dictionary(
        fc.stringMatching(/^[a-z]{1,12}$/),
        fc.maxSafeInteger().map((n) => Math.abs(n)),
        { maxKeys: 8, noNullPrototype: true },
      );
    }
  }
}
