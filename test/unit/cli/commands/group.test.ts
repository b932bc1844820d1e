/** The commands' own small language: name=value. */
import { expect, test } from "vitest";
import { parsePairs } from "../../../../cli/commands/group.ts";

test("a value that is JSON is meant as JSON, anything else is text", () => {
  expect(parsePairs(["id=1", "msg=hello", "flag=true", 'deep={"a":[1]}', 'text="1"', "empty=", "eq=a=b"])).toEqual({
    id: 1,
    msg: "hello",
    flag: true,
    deep: { a: [1] },
    text: "1",
    empty: "",
    eq: "a=b",
  });
});

test.each(["novalue", "=x", ""])("%j is not a pair", (pair) => {
  expect(() => parsePairs([pair])).toThrow(/name=value/);
});
