import { createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { describe, expect, test } from "vitest";
import { canonical, checkFresh } from "../../../../governance/enclave/replay.ts";
import { Store } from "../../../../node/enclave/kv/store.ts";
import { open, setOne } from "../../../../node/enclave/kv/table.ts";
import { TABLES } from "../../../../node/enclave/kv/tables.ts";
import { Tx } from "../../../../node/enclave/kv/tx.ts";
import { sha256Hex } from "../../../../protocol/crypto/hash.ts";

const NOW = 1_800_000_000;
const signature = (n: number) => Buffer.alloc(96, n);

function submit(tx: Tx, createdAt: number, n: number, now = NOW): string {
  const freshness = checkFresh(tx, { createdAt, signature: signature(n), now });
  if (!freshness.fresh) return freshness.code;
  freshness.remember(`proposal ${n}`);
  return "fresh";
}

function emptyTx(windowSize?: number): Tx {
  const tx = new Tx(new Store());
  if (windowSize !== undefined)
    setOne(tx, TABLES.serviceConfig, { recovery_threshold: 1, recent_cose_proposals_window_size: windowSize });
  return tx;
}

describe("the window of recent proposals", () => {
  test("keeps time and digest as CCF does", () => {
    const tx = emptyTx();
    submit(tx, 42, 1);
    expect(open(tx, TABLES.coseRecentProposals).entries()).toEqual([
      [`0000000042:${sha256Hex(signature(1))}`, "proposal 1"],
    ]);
  });

  test("admits what is not older than its median", () => {
    const tx = emptyTx();
    for (const [i, createdAt] of [100, 200, 300, 400].entries()) expect(submit(tx, createdAt, i)).toBe("fresh");
    // Sorted, element [4 / 2] is 300.
    expect(submit(tx, 299, 10)).toBe("ProposalCreatedTooLongAgo");
    expect(submit(tx, 300, 11)).toBe("fresh");
    expect(submit(tx, 300, 11)).toBe("ProposalReplay");
    expect(submit(tx, 300, 12)).toBe("fresh");
  });

  test("names the earlier proposal, and the time that a new one must have", () => {
    const tx = emptyTx();
    submit(tx, 100, 1);
    expect(checkFresh(tx, { createdAt: 100, signature: signature(1), now: NOW })).toMatchObject({
      message: "Proposal submission replay, already exists as proposal proposal 1",
    });
    expect(checkFresh(tx, { createdAt: 99, signature: signature(2), now: NOW })).toMatchObject({
      message: "Proposal created too long ago, created_at must be greater than 0000000100",
    });
  });

  test("forgets the oldest beyond its size, and nothing forgotten comes back", () => {
    const tx = emptyTx(3);
    for (let i = 0; i < 10; i++) expect(submit(tx, 100 + i, i)).toBe("fresh");
    expect(
      open(tx, TABLES.coseRecentProposals)
        .entries()
        .map(([key]) => key.slice(0, 10)),
    ).toEqual(["0000000107", "0000000108", "0000000109"]);
    for (let i = 0; i < 8; i++) expect(submit(tx, 100 + i, i)).not.toBe("fresh");
  });

  test("does not take a time that lies in the future, or beyond ten digits", () => {
    const tx = emptyTx();
    expect(submit(tx, NOW + 600, 1)).toBe("fresh");
    expect(submit(tx, NOW + 601, 2)).toBe("InvalidCreatedAt");
    expect(submit(tx, 10_000_000_000, 3, 10_000_000_000)).toBe("InvalidCreatedAt");
    expect(submit(tx, 1.5, 4)).toBe("InvalidCreatedAt");
  });
});

describe("a signature's twin", () => {
  test.each([
    ["P-256", "sha256", p256.Point.Fn.ORDER],
    ["P-384", "sha384", p384.Point.Fn.ORDER],
    ["P-521", "sha512", p521.Point.Fn.ORDER],
  ])("verifies as well on %s, and is the same to the window", (curve, hash, order) => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: curve });
    const message = Buffer.from("proposal");
    for (let i = 0; i < 4; i++) {
      const signed = sign(hash, message, { key: privateKey, dsaEncoding: "ieee-p1363" });
      const half = signed.length / 2;
      const s = BigInt(`0x${signed.subarray(half).toString("hex")}`);
      const twin = Buffer.from(signed);
      twin.write((order - s).toString(16).padStart(half * 2, "0"), half, "hex");
      const key = { key: createPublicKey(privateKey), dsaEncoding: "ieee-p1363" } as const;
      expect(verify(hash, message, key, twin)).toBe(true);
      expect(twin.equals(signed)).toBe(false);
      expect(canonical(twin)).toEqual(canonical(signed));
      expect(canonical(canonical(signed))).toEqual(canonical(signed));
    }
  });

  test("of a length that no curve has is left alone", () => {
    expect(canonical(new Uint8Array(7))).toEqual(new Uint8Array(7));
  });
});
