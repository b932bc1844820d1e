/**
 * A consortium in one process: a real store, the real constitution in the real engine, real signatures; and a dispatcher
 * of a page that finds the endpoint, authenticates, runs the handler and commits.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterpreter } from "../../../enclave-app/interpreter.ts";
import { GOVERNANCE_LIMITS, type GuestLimits } from "../../../enclave-app/js/guest-types.ts";
import { governanceEndpoints } from "../../../governance/enclave/governance-api.ts";
import { createShares } from "../../../governance/enclave/shares.ts";
import { type MemberCall, type SignedCall, signCall } from "../../../governance/member/request.ts";
import { type Call, type Endpoint, HttpError, type Reply, type Request } from "../../../node/enclave/http/endpoint.ts";
import { errorBody } from "../../../node/enclave/http/errors.ts";
import { createRegistry } from "../../../node/enclave/http/registry.ts";
import { Store } from "../../../node/enclave/kv/store.ts";
import { getOne, open, setOne } from "../../../node/enclave/kv/table.ts";
import { type MemberInfo, type NodeInfo, TABLES } from "../../../node/enclave/kv/tables.ts";
import { Tx } from "../../../node/enclave/kv/tx.ts";
import type { OperationFault, Operations } from "../../../node/enclave/service/operations.ts";
import { fromUtf8, toHex, utf8 } from "../../../protocol/bytes.ts";
import { Fault, isFault } from "../../../protocol/check.ts";
import { sha256 } from "../../../protocol/crypto/hash.ts";
import {
  createEncryptionKeyPair,
  createParticipant,
  type EncryptionKeyPair,
  type Participant,
} from "../../../protocol/crypto/participant.ts";
import { guestWorkerText, quickjsWasm } from "../enclave-app/engine.ts";

const file = (name: string) =>
  readFileSync(new URL(`../../../governance/constitution/${name}.js`, import.meta.url), "utf8");

/** Our default constitution, as the genesis would have it. */
export const CONSTITUTION = ["actions", "validate", "resolve", "apply"].map(file).join("\n");

/** The constitution of CCF's sandbox: everything passes at once. */
export const PASSES_AT_ONCE = CONSTITUTION.replace(/export function resolve[\s\S]*?\n}\n/, "").concat(
  'export function resolve(proposal, proposerId, votes) { return "Accepted"; }\n',
);

export type TestMember = Participant & Readonly<{ encryption?: EncryptionKeyPair }>;
export type Answer = Readonly<{
  status: number;
  body: unknown;
  text: string;
  headers: Readonly<Record<string, string>>;
}>;

/** Recovery keys, made once: each takes a good part of a second. */
const encryptionKeys: Promise<EncryptionKeyPair>[] = [];
const encryptionKey = (i: number) => (encryptionKeys[i] ??= createEncryptionKeyPair());

export const SERVICE_CERTIFICATE = createParticipant({ name: "service", validFrom: new Date() }).certificatePem;
export const LEDGER_SECRET = randomBytes(32);
const NODE_ID = "11".repeat(32);

/** Times that members sign: one more for each request, so that none is too old for the next. */
const START_SECONDS = 1_800_000_000;

export class Consortium {
  readonly store = new Store();
  readonly members: TestMember[];
  readonly interpreter: ReturnType<typeof createInterpreter>;
  readonly endorsed: string[] = [];
  readonly endpoints: Endpoint[];
  seconds = START_SECONDS;
  /** Runs before each commit: whoever else writes at the same time. */
  meanwhile: () => void = () => undefined;
  readonly #registry;

  private constructor(members: TestMember[], workerText: string, limits: GuestLimits) {
    this.members = members;
    const operations = this.#operations();
    this.interpreter = createInterpreter({ operations, workerText, wasm: quickjsWasm(), threads: 2, limits });
    this.endpoints = governanceEndpoints({
      interpreter: this.interpreter,
      operations,
      transactions: {
        commitTxId: () => ({ view: 2, seqno: this.store.committed }),
        txStatus: ({ view, seqno }) =>
          view !== 2
            ? "Invalid"
            : seqno > this.store.version
              ? "Unknown"
              : seqno > this.store.committed
                ? "Pending"
                : "Committed",
      },
      nowMs: () => this.seconds * 1000,
    });
    this.#registry = createRegistry(this.endpoints);
  }

  /** A service with active members; the first of them hold recovery keys. */
  static async found(
    parts: Readonly<{
      members?: number;
      recovery?: number;
      threshold?: number;
      constitution?: string;
      limits?: Partial<GuestLimits>;
    }> = {},
  ): Promise<Consortium> {
    const { members: count = 3, recovery = 0, constitution = CONSTITUTION } = parts;
    const members: TestMember[] = [];
    for (let i = 0; i < count; i++) {
      const participant = createParticipant({
        name: `member${i}`,
        validFrom: new Date(),
        curve: i % 2 === 0 ? "P-384" : "P-256",
      });
      members.push(i < recovery ? { ...participant, encryption: await encryptionKey(i) } : participant);
    }
    const consortium = new Consortium(members, await guestWorkerText(), { ...GOVERNANCE_LIMITS, ...parts.limits });
    consortium.write((tx) => {
      setOne(tx, TABLES.serviceInfo, {
        cert: SERVICE_CERTIFICATE,
        status: "Opening",
        current_service_create_txid: "2.1",
      });
      setOne(tx, TABLES.serviceConfig, {
        recovery_threshold: parts.threshold ?? Math.max(1, recovery),
        consensus: "CFT",
      });
      setOne(tx, TABLES.constitution, constitution);
      for (const member of members) addMember(tx, member, "Active");
      addNode(tx, NODE_ID, "Trusted");
    });
    consortium.sign();
    return consortium;
  }

  close(): Promise<void> {
    return this.interpreter.close();
  }

  read(): Tx {
    return new Tx(this.store);
  }

  write(change: (tx: Tx) => void): void {
    const tx = this.read();
    change(tx);
    this.store.apply(this.store.version + 1, tx.writes());
    this.store.commit(this.store.version);
  }

  /** A signature transaction: the state digest that members acknowledge. */
  sign(): string {
    const root = toHex(sha256(utf8(`root at ${this.store.version}`)));
    this.write((tx) => {
      setOne(tx, TABLES.signatures, {
        node: NODE_ID,
        commit_seqno: 0,
        commit_view: 0,
        hashed_nonce: "",
        root,
        seqno: this.store.version + 1,
        view: 2,
        sig: "",
      });
    });
    return root;
  }

  async send(call: MemberCall, member: Participant, createdAt = ++this.seconds): Promise<Answer> {
    const signer = { certificatePem: member.certificatePem, sign: member.privateKey };
    return this.sendSigned(await signCall(call, signer, createdAt));
  }

  sendSigned({ path, body }: SignedCall): Promise<Answer> {
    return this.request("POST", path, body, { "content-type": "application/cose" });
  }

  get(path: string): Promise<Answer> {
    return this.request("GET", path.includes("?") ? path : `${path}?api-version=2024-07-01`);
  }

  async request(
    method: Request["method"],
    url: string,
    body: Uint8Array = new Uint8Array(),
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const [path = "", query = ""] = url.split("?");
    const found = this.#registry.find(method, path);
    if (found.kind !== "endpoint")
      return answerOf({ status: 404, body: errorBody("ResourceNotFound", `Unknown path: ${path}`) });
    const session = {
      id: 1,
      interface: "primary_rpc_interface",
      clientCertificate: undefined,
      exportKey: () => new Uint8Array(32),
    };
    const request: Request = {
      method,
      path,
      url,
      params: found.params ?? {},
      query: new URLSearchParams(query),
      headers,
      body,
      session,
      json: () => JSON.parse(fromUtf8(body)) as unknown,
    };
    for (let attempt = 0; attempt < 5; attempt++) {
      const tx = this.read();
      try {
        return answerOf(await this.#run(found.endpoint, { request, tx }));
      } catch (error) {
        if (!isFault(error, "TxConflict")) throw error;
      }
    }
    throw new Error("every attempt ended in a conflict");
  }

  async #run(endpoint: Endpoint, { request, tx }: Omit<Call, "caller">): Promise<Reply> {
    try {
      const refusals: object[] = [];
      for (const policy of endpoint.auth) {
        const result = policy.authenticate(request, tx);
        if ("caller" in result) {
          const reply = await endpoint.handler({ request, tx, caller: result.caller });
          this.#commit(tx);
          return reply;
        }
        refusals.push({ auth_policy: policy.name, code: "InvalidAuthenticationInfo", message: result.refused });
      }
      throw new HttpError(401, "InvalidAuthenticationInfo", "Invalid authentication credentials.", {
        details: refusals,
      });
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      return { status: error.status, body: errorBody(error.code, error.message, error.details) };
    }
  }

  #commit(tx: Tx): void {
    this.meanwhile();
    const conflict = tx.conflicts();
    if (conflict !== undefined) throw new Fault({ code: "TxConflict", map: conflict });
    const writes = tx.writes();
    if (writes.size === 0) return;
    this.store.apply(this.store.version + 1, writes);
    this.store.commit(this.store.version);
  }

  #operations(): Operations {
    const shares = createShares();
    return {
      rootAt: (version) => Promise.resolve(sha256(utf8(`root at ${version}`))),
      transitionServiceToOpen: (tx, _previous, next) => {
        const info = getOne(tx, TABLES.serviceInfo);
        if (info === undefined || next !== info.cert)
          throw new Fault<OperationFault>({ code: "ServiceIdentityMismatch" }, "next_service_identity is another");
        shares.issue(tx, LEDGER_SECRET);
        setOne(tx, TABLES.serviceInfo, { ...info, status: "Open" });
      },
      endorseCertificate: (_tx, csr, validFrom, days) => {
        this.endorsed.push(`${csr} from ${validFrom} for ${days}`);
        return `endorsed ${csr}`;
      },
      refreshRecoveryShares: (tx) => shares.issue(tx, LEDGER_SECRET),
      latestLedgerSecretSeqno: () => 1,
    };
  }
}

export function addMember(tx: Tx, member: TestMember, status: MemberInfo["status"]): void {
  open(tx, TABLES.memberCerts).set(member.id, member.certificatePem);
  if (member.encryption !== undefined)
    open(tx, TABLES.memberEncryptionKeys).set(member.id, member.encryption.publicKeyPem);
  open(tx, TABLES.memberInfo).set(member.id, { status });
  open(tx, TABLES.memberAcks).set(member.id, { state_digest: "" });
}

export function addNode(tx: Tx, id: string, status: NodeInfo["status"]): void {
  const address = "127.0.0.1:8000";
  const quote = {
    measurement: "m",
    report_data: Buffer.alloc(32).toString("base64"),
    host_data: "00".repeat(32),
  };
  open(tx, TABLES.nodeInfo).set(id, {
    status,
    node_to_node_interface: { bind_address: address, published_address: address },
    rpc_interfaces: { primary_rpc_interface: { bind_address: address, published_address: address } },
    quote_info: {
      format: "Insecure_Virtual",
      quote: Buffer.from(JSON.stringify(quote)).toString("base64"),
      endorsements: "",
    },
    encryption_pub_key: "",
    certificate_signing_request: `csr of ${id.slice(0, 4)}`,
  });
}

/** The error of a refusal. */
export function errorOf({ body }: Answer): { code: string; message: string; details?: { message: string }[] } {
  return (body as { error: { code: string; message: string } }).error;
}

function answerOf({ status, body, headers = {} }: Reply): Answer {
  if (body instanceof Uint8Array) return { status, body, text: Buffer.from(body).toString("utf8"), headers };
  const text = body === undefined ? "" : JSON.stringify(body);
  return { status, body: text === "" ? undefined : (JSON.parse(text) as unknown), text, headers };
}
