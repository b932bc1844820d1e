import { describe, expect, test } from "vitest";
import { toHex, utf8 } from "../../../../protocol/bytes.ts";
import { Fault } from "../../../../protocol/check.ts";
import { generateEcKey, signRoot } from "../../../../protocol/crypto/keys.ts";
import { selfSigned } from "../../../../protocol/crypto/x509.ts";
import { MerkleTree } from "../../../../protocol/ledger/merkle.ts";
import { encodeRawSignature } from "../../../../protocol/ledger/signature.ts";
import { describeReport, LedgerVerifier, verifyLedger } from "../../../../protocol/ledger/verify.ts";
import { MAPS, MadeLedger, newNode, newService, ROW, type Writes } from "./made-ledger.ts";

async function goodLedger(): Promise<MadeLedger> {
  const ledger = await new MadeLedger().genesis().sign();
  ledger.log("one").log("two");
  await ledger.sign();
  ledger.write({ [MAPS.service]: { [ROW]: ledger.serviceRow("Open") } });
  for (let i = 0; i < 5; i++) await ledger.log(`more ${i}`).sign();
  return ledger;
}

/** What the verifier says is wrong: code and seqno. */
async function fault(ledger: MadeLedger | readonly Uint8Array[]): Promise<string> {
  try {
    await verifyLedger(ledger instanceof MadeLedger ? ledger.entries : ledger);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const { code, seqno } = error.detail as { code: string; seqno: number };
    return `${code} ${seqno}`;
  }
  return "verified";
}

describe("a good ledger", () => {
  test("is verified to its last signature, and says who signed", async () => {
    const ledger = await goodLedger();
    ledger.log("tail").log("tail");
    const report = await verifyLedger(ledger.entries);
    expect(report).toEqual({
      entries: 18,
      signatures: 7,
      verifiedUntil: { view: 2, seqno: 16 },
      unverifiedTail: 2,
      last: { view: 2, seqno: 18 },
      root: toHex(ledger.tree.rootOver(16) ?? Buffer.alloc(0)),
      service: { id: ledger.service.id, status: "Open", certificatePem: ledger.service.certificate },
      serviceIds: [ledger.service.id],
      nodes: [{ id: ledger.node.id, status: "Trusted" }],
    });
    expect(describeReport(report)).toBe(
      "18 entries, 7 signatures, verified until 2.16, 2 entries after that are not signed",
    );
  });

  test("may be empty, or not signed: then nothing is verified", async () => {
    expect(await verifyLedger([])).toMatchObject({ entries: 0, verifiedUntil: undefined, unverifiedTail: 0 });
    const report = await verifyLedger(new MadeLedger().genesis().log("x").entries);
    expect(report).toMatchObject({ entries: 2, signatures: 0, verifiedUntil: undefined, unverifiedTail: 2 });
    expect(describeReport(report)).toContain("verified until nothing");
  });

  test("may carry one kind of signature only", async () => {
    const ledger = await new MadeLedger().genesis().sign((writes) => delete writes[MAPS.node]);
    await ledger.log("x").sign((writes) => delete writes[MAPS.cose]);
    expect(await fault(ledger)).toBe("verified");
  });

  test("may be signed by one node after another, and lose one", async () => {
    const ledger = await goodLedger();
    const first = ledger.node;
    const second = newNode(ledger.service);
    ledger.write({
      [MAPS.nodes]: { [second.id]: utf8('{"status":"Trusted"}') },
      [MAPS.certificates]: { [second.id]: utf8(second.certificate) },
    });
    ledger.node = second;
    ledger.view = 4;
    await ledger.sign();
    await ledger
      .write({ [MAPS.nodes]: { [first.id]: undefined }, [MAPS.certificates]: { [first.id]: undefined } })
      .sign();
    const report = await verifyLedger(ledger.entries);
    expect(report.nodes).toEqual([{ id: second.id, status: "Trusted" }]);
    ledger.node = first;
    const at = ledger.seqno;
    expect(await fault(await ledger.sign())).toBe(`SignatureInvalid ${at}`);
  });

  test("may go on under a new service after a recovery, and then names both", async () => {
    const ledger = await goodLedger();
    const before = ledger.service.id;
    ledger.service = newService();
    ledger.node = newNode(ledger.service);
    ledger.view += 2;
    await ledger.genesis("Recovering").sign();
    const report = await verifyLedger(ledger.entries);
    expect(report.serviceIds).toEqual([before, ledger.service.id]);
    expect(report.verifiedUntil).toEqual({ view: 4, seqno: 18 });
  });

  test("keeps up with many signatures, checked side by side", async () => {
    const ledger = new MadeLedger().genesis();
    for (let i = 0; i < 60; i++) await ledger.log(`${i}`).sign();
    expect((await verifyLedger(ledger.entries)).signatures).toBe(60);
  });
});

describe("a ledger that was changed is refused:", () => {
  test("any entry with a byte changed, here or there", async () => {
    const { entries } = await goodLedger();
    for (const [i, entry] of entries.entries())
      for (let at = i; at < entry.length; at += 97) {
        const changed = Buffer.from(entry);
        changed[at] = (changed[at] ?? 0) ^ 0x10;
        const spoilt = [...entries.slice(0, i), changed, ...entries.slice(i + 1)];
        // The last entry's own bytes are covered by no signature: only what it says is checked.
        if (i === entries.length - 1) continue;
        expect(await fault(spoilt), `entry ${i + 1}, byte ${at}`).not.toBe("verified");
      }
  });

  test("an entry left out, put in twice, or swapped with its neighbour", async () => {
    const { entries } = await goodLedger();
    expect(await fault(entries.slice(1))).toBe("SeqnoNotDense 1");
    expect(await fault([...entries.slice(0, 3), ...entries.slice(4)])).toBe("SeqnoNotDense 4");
    expect(await fault([...entries.slice(0, 3), ...entries.slice(2)])).toBe("SeqnoNotDense 4");
    expect(await fault([...entries.slice(0, 2), entries[3]!, entries[2]!, ...entries.slice(4)])).toBe(
      "SeqnoNotDense 3",
    );
  });

  test("an entry replaced by another one with the same TxID", async () => {
    const ledger = await goodLedger();
    const other = new MadeLedger().genesis().log("2").log("other").entries[2]!;
    // The signature that covers it no longer fits.
    expect(await fault([...ledger.entries.slice(0, 2), other, ...ledger.entries.slice(3)])).toBe("TreeWrong 5");
  });

  test("an entry of a view that is over", async () => {
    const ledger = await goodLedger();
    ledger.view = 1;
    expect(await fault(ledger.log("old"))).toBe("ViewWentBack 17");
  });

  test("a cut entry", async () => {
    const { entries } = await goodLedger();
    expect(await fault([...entries.slice(0, 3), entries[3]!.subarray(0, 60)])).toBe("EntryInvalid 4");
  });
});

describe("a signature transaction is refused", () => {
  const spoilt = async (change: (writes: Writes, ledger: MadeLedger) => void | Promise<void>) => {
    const ledger = await goodLedger();
    ledger.log("x");
    const writes = await ledger.signature();
    await change(writes, ledger);
    ledger.write(writes);
    return fault(ledger);
  };
  const nodeRow = (ledger: MadeLedger, change: Partial<Parameters<typeof encodeRawSignature>[0]>) =>
    encodeRawSignature({
      node: ledger.node.id,
      seqno: ledger.seqno,
      view: ledger.view,
      root: toHex(ledger.tree.root()),
      signature: Buffer.alloc(0),
      ...change,
    });

  test("(the unchanged one is accepted)", async () => {
    expect(await spoilt(() => undefined)).toBe("verified");
  });

  test.each<[string, (writes: Writes, ledger: MadeLedger) => void | Promise<void>, string]>([
    ["without its tree", (writes) => void delete writes[MAPS.tree], "SignatureInvalid 18"],
    [
      "with a tree and nothing else",
      (writes) => {
        delete writes[MAPS.node];
        delete writes[MAPS.cose];
      },
      "SignatureInvalid 18",
    ],
    [
      "with another table beside it",
      (writes) => {
        writes["public:other"] = { k: utf8("v") };
      },
      "SignatureInvalid 18",
    ],
    [
      "with a private write beside it",
      (writes) => {
        writes["other"] = { k: utf8("v") };
      },
      "SignatureInvalid 18",
    ],
    [
      "with the tree of another moment",
      (writes, ledger) => {
        writes[MAPS.tree] = { [ROW]: new MadeLedger().genesis().tree.serialise(0) };
        ledger.tree.root();
      },
      "TreeWrong 18",
    ],
    [
      "with a tree of the right size and other leaves",
      (writes, ledger) => {
        const tree = new MerkleTree();
        while (tree.size < ledger.tree.size) tree.append(Buffer.alloc(32, 1));
        writes[MAPS.tree] = { [ROW]: tree.serialise(0) };
      },
      "TreeWrong 18",
    ],
    [
      "with a tree that is cut off",
      (writes) => {
        writes[MAPS.tree] = { [ROW]: writes[MAPS.tree]![ROW]!.subarray(0, 40) };
      },
      "TreeWrong 18",
    ],
    [
      "with the tree removed",
      (writes) => {
        writes[MAPS.tree] = { [ROW]: undefined };
      },
      "TreeWrong 18",
    ],
    [
      "with the tree under another key",
      (writes) => {
        writes[MAPS.tree] = { other: writes[MAPS.tree]![ROW] };
      },
      "TreeWrong 18",
    ],
    [
      "with the signature of an unknown node",
      (writes, ledger) => {
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, { node: "ab".repeat(32) }) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with a node signature for another seqno",
      (writes, ledger) => {
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, { seqno: 3 }) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with a node signature for another view",
      (writes, ledger) => {
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, { view: 3 }) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with a node signature over another root",
      (writes, ledger) => {
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, { root: "ab".repeat(32) }) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with an empty node signature",
      (writes, ledger) => {
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, {}) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with a node signature by another key",
      async (writes, ledger) => {
        const signature = await signRoot(ledger.tree.rootPreimage(), generateEcKey("P-384").privateKey);
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, { signature }) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with another certificate beside the node signature",
      async (writes, ledger) => {
        const signature = await signRoot(ledger.tree.rootPreimage(), ledger.node.key);
        writes[MAPS.node] = { [ROW]: nodeRow(ledger, { signature, certificate: newNode(ledger.service).certificate }) };
      },
      "SignatureInvalid 18",
    ],
    [
      "with a node signature that is not JSON",
      (writes) => {
        writes[MAPS.node] = { [ROW]: utf8("{") };
      },
      "SignatureInvalid 18",
    ],
    [
      "with the service signature of another service",
      async (writes, ledger) => {
        const other = Object.assign(new MadeLedger(), { tree: ledger.tree, entries: ledger.entries });
        writes[MAPS.cose] = (await other.signature())[MAPS.cose]!;
      },
      "SignatureInvalid 18",
    ],
    [
      "with the service signature of another transaction",
      async (writes, ledger) => {
        const later = Object.assign(new MadeLedger(), {
          tree: ledger.tree,
          service: ledger.service,
          entries: [...ledger.entries, Buffer.alloc(0)],
        });
        writes[MAPS.cose] = (await later.signature())[MAPS.cose]!;
      },
      "SignatureInvalid 18",
    ],
    [
      "with a service signature that is not base64",
      (writes) => {
        writes[MAPS.cose] = { [ROW]: utf8('"%"') };
      },
      "SignatureInvalid 18",
    ],
  ])("%s", async (_, change, expected) => {
    expect(await spoilt(change)).toBe(expected);
  });

  test("as the very first entry", async () => {
    const ledger = new MadeLedger();
    const writes = await (async () => {
      ledger.tree.append(Buffer.alloc(32));
      const rows = await ledger.signature();
      ledger.tree.retract(1);
      return rows;
    })();
    expect(await fault(ledger.write(writes))).toBe("SignatureInvalid 1");
  });

  test("before anything says who the service is", async () => {
    const ledger = await new MadeLedger().log("x").sign((writes) => delete writes[MAPS.node]);
    expect(await fault(ledger)).toBe("SignatureInvalid 2");
  });

  test("by a node that is pending", async () => {
    const ledger = await new MadeLedger()
      .genesis()
      .write({ [MAPS.nodes]: { x: undefined } })
      .log("");
    expect(await fault(ledger)).toBe("NodeInvalid 2");
    const pending = new MadeLedger().genesis();
    pending.write({ [MAPS.nodes]: { [pending.node.id]: utf8('{"status":"Pending"}') } });
    expect(await fault(await pending.sign())).toBe("SignatureInvalid 3");
  });
});

test("the first fault in the order of the ledger is the one that is named, also if a later one is found sooner", async () => {
  const ledger = await new MadeLedger().genesis().sign();
  const other = generateEcKey("P-384").privateKey;
  const honest = ledger.node;
  ledger.node = { ...honest, key: other };
  await ledger.log("x").sign();
  ledger.node = honest;
  const entries = [...ledger.entries, Buffer.from("no entry")];
  expect(await fault(entries)).toBe("SignatureInvalid 4");
});

describe("governance rows that do not fit are refused:", () => {
  const after = async (change: (ledger: MadeLedger) => Writes) => {
    const ledger = await goodLedger();
    return fault(ledger.write(change(ledger)));
  };
  const service = (row: unknown) => ({
    [MAPS.service]: { [ROW]: row === undefined ? undefined : utf8(JSON.stringify(row)) },
  });
  const rsa = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

  test.each<[string, (ledger: MadeLedger) => Writes, string]>([
    [
      "a service that goes back to Waiting",
      (ledger) => service({ cert: ledger.service.certificate, status: "WaitingForRecoveryShares" }),
      "ServiceInvalid 17",
    ],
    [
      "a service with an unknown status",
      (ledger) => service({ cert: ledger.service.certificate, status: "toString" }),
      "ServiceInvalid 17",
    ],
    ["a service without certificate", () => service({ status: "Open" }), "ServiceInvalid 17"],
    [
      "a service with another key",
      () => service({ cert: newService().certificate, status: "Open" }),
      "ServiceInvalid 17",
    ],
    ["a service that is removed", () => service(undefined), "ServiceInvalid 17"],
    ["a service that is no object", () => service([]), "ServiceInvalid 17"],
    [
      "a service whose certificate is no certificate",
      () => service({ cert: rsa, status: "Open" }),
      "ServiceInvalid 17",
    ],
    [
      "a node with an unknown status",
      (ledger) => ({ [MAPS.nodes]: { [ledger.node.id]: utf8('{"status":"Great"}') } }),
      "NodeInvalid 17",
    ],
    ["a node that is no JSON", (ledger) => ({ [MAPS.nodes]: { [ledger.node.id]: utf8("Trusted") } }), "NodeInvalid 17"],
    [
      "a node with a name of its own",
      () => ({ [MAPS.nodes]: { node0: utf8('{"status":"Trusted"}') } }),
      "NodeInvalid 17",
    ],
    [
      "a certificate for another key",
      (ledger) => ({ [MAPS.certificates]: { [ledger.node.id]: utf8(newNode(ledger.service).certificate) } }),
      "NodeInvalid 17",
    ],
    [
      "a certificate by another service",
      () => {
        const node = newNode(newService());
        return { [MAPS.certificates]: { [node.id]: utf8(node.certificate) } };
      },
      "NodeInvalid 17",
    ],
    [
      "a certificate by the node itself",
      (ledger) => ({
        [MAPS.certificates]: {
          [ledger.node.id]: utf8(
            selfSigned({ subjectName: "CN=x", key: ledger.node.key, validFrom: new Date(0), days: 1 }),
          ),
        },
      }),
      "NodeInvalid 17",
    ],
    [
      "a certificate that is not text",
      (ledger) => ({ [MAPS.certificates]: { [ledger.node.id]: Buffer.from("ff", "hex") } }),
      "NodeInvalid 17",
    ],
  ])("%s", async (_, change, expected) => {
    expect(await after(change)).toBe(expected);
  });
});

test("a verifier can be fed entry by entry", async () => {
  const verifier = new LedgerVerifier();
  for (const entry of (await goodLedger()).entries) await verifier.add(entry);
  expect((await verifier.finish()).verifiedUntil).toEqual({ view: 2, seqno: 16 });
});
