/** The commands' own small languages: pairs, actions in words. */
import { expect, test } from "vitest";
import { describeActions } from "../../../../cli/commands/action-words.ts";
import { parsePairs } from "../../../../cli/commands/group.ts";
import { createParticipant } from "../../../../protocol/crypto/participant.ts";

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

test("everything that is signed is shown; a certificate by the id the service will know it by", () => {
  const person = createParticipant({ name: "x", validFrom: new Date("2026-01-01T00:00:00Z"), curve: "P-256" });
  const lines = describeActions([
    { name: "set_user", args: { cert: person.certificatePem, user_data: { role: "clerk" } } },
    { name: "set_constitution", args: { constitution: "line one\nline two" } },
    { name: "trigger_ledger_chunk" },
  ]);
  expect(lines).toEqual([
    "1. set user",
    `   cert: certificate ${person.id}`,
    '   user_data: {"role":"clerk"}',
    "2. set constitution",
    "   constitution: line one",
    "     line two",
    "3. trigger ledger chunk",
  ]);
});
