import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { concat, toHex, utf8 } from "../../../../protocol/bytes.ts";
import { sha256 } from "../../../../protocol/crypto/hash.ts";
import { MerkleTree, type PathStep, rootFromPath } from "../../../../protocol/ledger/merkle.ts";
import { codeOf } from "../codes.ts";

// Checked with CCF's own Python package; see test/vectors/README.md.
const ROOTS = [
  "d4dd1c16021b8125d5ada8989e27d9a15fdcc328059f8dd7493084383cbf2e37",
  "1ae737c8e70a77337e6c5f4dde9a0b111ba978bf1755ee817eedc505355d528d",
  "813d9b1437941281a5c9f2c21a1e7cdfdb4742697f1e921994f70ede58c6d91c",
  "1422c7d79630003b465b88bf2bda4c8672cc818941a17daa8308e2f4592de383",
  "873e15ecda2efa3d046b9d30dc2008cb703010398a871de8d3bdad2527117245",
  "35f5c9d7329b98147b04dc29609321b60fd7017e80439734551a031a19f3dcd8",
];
const SERIALISED_2_2 =
  "0000000000000002000000000000000227ca64c092a959c7edc525ed45e845b1de6a7590d173fd2fad9133c8a779a1e3" +
  "1f3cb18e896256d7d6bb8c11a6ec71f005c75de05e39beae5d93bbd1e2c8b7a9" +
  "d4dd1c16021b8125d5ada8989e27d9a15fdcc328059f8dd7493084383cbf2e37";
const SERIALISED_2_5 =
  "00000000000000020000000000000005a8c0cce8bb067e91cf2766c26be4e5d7cfba3d3323dc19d08a834391a1ce5acf" +
  "d20a624740ce1b7e2c74659bb291f665c021d202be02d13ce27feb067eeec83741b637cfd9eb3e2f60f734f9ca44e5c1" +
  "559c6f481d49d6ed6891f3e9a086ac78813d9b1437941281a5c9f2c21a1e7cdfdb4742697f1e921994f70ede58c6d91c";
const PATH_OF_5: [string, string][] = [
  ["left", "41b637cfd9eb3e2f60f734f9ca44e5c1559c6f481d49d6ed6891f3e9a086ac78"],
  ["right", "d20a624740ce1b7e2c74659bb291f665c021d202be02d13ce27feb067eeec837"],
  ["left", "813d9b1437941281a5c9f2c21a1e7cdfdb4742697f1e921994f70ede58c6d91c"],
];

const ZERO = Buffer.alloc(32);

function leafOf(index: number): Buffer {
  return index === 0 ? ZERO : sha256(utf8(`tx${index}`));
}

function treeOf(size: number): MerkleTree {
  const tree = new MerkleTree();
  for (let index = 1; index < size; index++) tree.append(leafOf(index));
  return tree;
}

/** The tree by its definition: pair from left to right, a lone last one moves up. */
function naiveRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 1) return leaves[0]!;
  const above: Uint8Array[] = [];
  for (let i = 0; i < leaves.length; i += 2) {
    const pair = leaves.slice(i, i + 2);
    above.push(pair.length === 1 ? pair[0]! : sha256(concat(pair)));
  }
  return naiveRoot(above);
}

function shown(path: PathStep[] | undefined): [string, string][] | undefined {
  return path?.map(({ side, hash }) => [side, toHex(hash)]);
}

describe("the recorded tree", () => {
  test.each(ROOTS.map((root, i) => [i + 1, root] as const))("has its root over leaves 0..%i", (last, root) => {
    expect(toHex(treeOf(last + 1).root())).toBe(root);
  });

  test("is serialised as recorded, and read back", () => {
    expect(toHex(treeOf(4).serialise(2))).toBe(SERIALISED_2_2);
    expect(toHex(treeOf(7).serialise(5))).toBe(SERIALISED_2_5);
    const tree = MerkleTree.deserialise(Buffer.from(SERIALISED_2_5, "hex"));
    expect(toHex(tree.root())).toBe(ROOTS[5]);
    expect([tree.size, tree.flushed]).toEqual([7, 5]);
  });

  test("has the recorded path of leaf 5", () => {
    expect(shown(treeOf(7).path(5))).toEqual(PATH_OF_5);
  });
});

test("a root is the digest of its two children, for every size", () => {
  for (let size = 2; size <= 70; size++) expect(sha256(treeOf(size).rootPreimage())).toEqual(treeOf(size).root());
  expect(() => new MerkleTree().rootPreimage()).toThrow("no children");
});

type Step = { do: "append" | "retract" | "flush"; much: number };
const steps = fc.array(
  fc.record<Step>({ do: fc.constantFrom("append", "append", "retract", "flush"), much: fc.nat(9) }),
  { maxLength: 60 },
);

test("whatever is appended, retracted and flushed, the tree agrees with its definition", () => {
  fc.assert(
    fc.property(steps, (script) => {
      let tree = new MerkleTree();
      const leaves: Uint8Array[] = [ZERO];
      let flushed = 0;
      let serial = 0;
      for (const step of script) {
        if (step.do === "append") {
          for (let i = 0; i < step.much; i++) {
            const leaf = sha256(utf8(`leaf ${serial++}`));
            leaves.push(leaf);
            tree.append(leaf);
          }
        } else if (step.do === "retract") {
          leaves.length = Math.max(flushed, 1, leaves.length - step.much);
          tree.retract(leaves.length);
        } else {
          flushed = Math.max(flushed, Math.min(leaves.length - 1, flushed + step.much));
          if (flushed < leaves.length) tree.flush(flushed);
        }
        expect(tree.size).toBe(leaves.length);
        expect(tree.root()).toEqual(Buffer.from(naiveRoot(leaves)));
        if (flushed < leaves.length) {
          // A copy that went through bytes is as good as the tree itself.
          const copy = MerkleTree.deserialise(tree.serialise());
          expect(copy.root()).toEqual(tree.root());
          if (step.much === 9) tree = copy;
        }
      }
      for (let count = Math.max(1, flushed); count <= leaves.length; count++) {
        const root = Buffer.from(naiveRoot(leaves.slice(0, count)));
        expect(tree.rootOver(count)).toEqual(root);
        for (let index = flushed; index < count; index++)
          expect(rootFromPath(leaves[index]!, tree.path(index, count) ?? [])).toEqual(root);
      }
      expect(tree.rootOver(leaves.length + 1)).toBeUndefined();
      expect(tree.path(leaves.length)).toBeUndefined();
      if (flushed > 1) {
        expect(tree.rootOver(flushed - 1)).toBeUndefined();
        expect(tree.path(flushed - 1)).toBeUndefined();
      }
    }),
    { numRuns: 200 },
  );
});

test("what a tree gave out does not change when the tree does", () => {
  const tree = treeOf(6);
  const root = tree.root();
  const path = tree.path(5);
  const bytes = tree.serialise(0);
  const preimage = tree.rootPreimage();
  const before = [root, ...(path ?? []).map((step) => step.hash), bytes, preimage].map(toHex);
  tree.retract(3);
  for (let i = 0; i < 40; i++) tree.append(sha256(utf8(`other ${i}`)));
  tree.flush(30);
  for (let i = 0; i < 40; i++) tree.append(sha256(utf8(`more ${i}`)));
  expect([root, ...(path ?? []).map((step) => step.hash), bytes, preimage].map(toHex)).toEqual(before);
});

test("a long ledger that is committed as it grows keeps no more than its tail", () => {
  const tree = new MerkleTree();
  const whole = new MerkleTree();
  for (let index = 1; index < 5000; index++) {
    tree.append(leafOf(index));
    whole.append(leafOf(index));
    if (index % 50 === 0) tree.flush(index - 20);
  }
  expect(tree.root()).toEqual(whole.root());
  expect(tree.serialise()).toEqual(whole.serialise(tree.flushed));
  expect(tree.serialise().length).toBeLessThan(16 + 32 * (70 + 13));
});

describe("a serialised tree is refused", () => {
  const bytes = Buffer.from(SERIALISED_2_5, "hex");

  test.each(Array.from({ length: bytes.length }, (_, cut) => cut))("cut at byte %i", (cut) => {
    expect(codeOf(() => MerkleTree.deserialise(bytes.subarray(0, cut)))).toBe("TreeMalformed");
  });

  test.each([
    ["without a leaf", "0000000000000000" + "0000000000000001" + "00".repeat(32)],
    ["with more leaves than bytes", "0000000000000003" + "0000000000000000" + "00".repeat(64)],
    ["with a count beyond reason", "ffffffffffffffff" + "0000000000000000"],
    ["with a prefix beyond reason", "0000000000000001" + "ffffffffffffffff" + "00".repeat(65 * 32)],
    ["with bytes after its end", SERIALISED_2_2 + "00"],
  ])("%s", (_, text) => {
    expect(codeOf(() => MerkleTree.deserialise(Buffer.from(text, "hex")))).toBe("TreeMalformed");
  });
});

test("a tree is not asked for what it cannot know", () => {
  const tree = treeOf(10);
  tree.flush(4);
  expect(() => tree.retract(3)).toThrow("still knows");
  expect(() => tree.retract(11)).toThrow("still knows");
  expect(() => tree.serialise(3)).toThrow("forgotten");
  expect(() => tree.flush(10)).toThrow("never forgotten");
  expect(() => tree.append(Buffer.alloc(31))).toThrow("32 bytes");
});
