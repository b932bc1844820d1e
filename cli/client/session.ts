/**
 * What a command has while it runs: its output, the service it talks to, the identity it acts as.
 *
 * Nothing is looked up before a command asks for it: `camerata ledger verify` needs no service, and must not complain
 * that there is none.
 *
 * A member's machine.
 */
import { createPrivateKey } from "node:crypto";
import { connect } from "node:tls";
import {
  type Answer,
  type Call,
  type ClientFault,
  openClient,
  refusalIn,
  type ServiceClient,
} from "../../governance/member/client.ts";
import type { Signer } from "../../governance/member/request.ts";
import { Fault } from "../../protocol/check.ts";
import { CliError } from "../terminal/errors.ts";
import { EXIT } from "../terminal/exit-codes.ts";
import type { Output } from "../terminal/output.ts";
import {
  type Context,
  type ContextOptions,
  type Environment,
  findContext,
  type Identity,
  identityNamed,
} from "./context.ts";

export type SessionOptions = ContextOptions &
  Readonly<{
    /** Name of the identity to act as. */
    as?: string | undefined;
    /** Index of the node to talk to, or its address. */
    node?: string | undefined;
    timeoutMs: number;
  }>;

export type SessionParts = Readonly<{
  options: SessionOptions;
  output: Output;
  environment: Environment;
  workingDirectory: string;
}>;

const PROBE_MS = 2000;

export class Session {
  readonly output: Output;
  readonly timeoutMs: number;
  readonly #parts: SessionParts;
  #context: Context | undefined;
  readonly #clients: ServiceClient[] = [];

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.output = parts.output;
    this.timeoutMs = parts.options.timeoutMs;
  }

  get workingDirectory(): string {
    return this.#parts.workingDirectory;
  }

  context(): Context {
    const { options, environment, workingDirectory } = this.#parts;
    this.#context ??= findContext(options, environment, workingDirectory);
    return this.#context;
  }

  /** --cert and --key, else --as NAME, else the fallback. */
  identity(fallback: string): Identity {
    const context = this.context();
    return context.identity ?? identityNamed(context, this.#parts.options.as ?? fallback);
  }

  /** True if the command line says as whom to act. */
  get hasIdentity(): boolean {
    return this.#parts.options.as !== undefined || this.context().identity !== undefined;
  }

  /** A client of the service; `as` also identifies itself with a client certificate. */
  async client(as?: Identity): Promise<ServiceClient> {
    const client = clientOf(this.context(), await this.address(), this.timeoutMs, as);
    this.#clients.push(client);
    return client;
  }

  /** `host:port` of the node that --node means, else of the first that answers as a node of this service. */
  async address(): Promise<string> {
    const { addresses, serviceCertificatePem } = this.context();
    const node = this.#parts.options.node;
    if (node === undefined) {
      for (const address of addresses) if (await answers(address, serviceCertificatePem)) return address;
      return addresses[0]!;
    }
    const byIndex = /^\d+$/.test(node) ? addresses[Number(node)] : undefined;
    if (byIndex !== undefined) return byIndex;
    if (node.includes(":")) return node.replace(/^https:\/\//, "").replace(/\/$/, "");
    throw new CliError({
      id: "E-NO-NODE",
      exit: EXIT.notFound,
      headline: `there is no node ${node} in this context`,
      why: `it has ${addresses.map((address, index) => `${index} = ${address}`).join(", ")}`,
      fix: "name one of these, or HOST:PORT",
    });
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

/** True if a TLS handshake succeeds: a node that is down, or has not joined yet, does not get that far. */
function answers(address: string, serviceCertificatePem: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const { hostname, port } = new URL(`https://${address}`);
  const socket = connect({
    host: hostname.replace(/^\[|\]$/g, ""),
    port: Number(port || 443),
    ca: serviceCertificatePem,
    checkServerIdentity: () => undefined,
    timeout: PROBE_MS,
  });
  const end = (reached: boolean) => {
    socket.destroy();
    resolve(reached);
  };
  socket.once("secureConnect", () => end(true));
  socket.once("timeout", () => end(false));
  socket.once("error", () => end(false));
  return promise;
}

/** A client of one node. */
export function clientOf(context: Context, address: string, timeoutMs: number, as?: Identity): ServiceClient {
  return openClient({
    url: `https://${address}`,
    serviceCertificate: context.serviceCertificatePem,
    timeoutMs,
    ...(as !== undefined && { client: { certificate: as.certificatePem, key: as.privateKeyPem } }),
  });
}

export function signerOf(identity: Identity): Signer {
  return { certificatePem: identity.certificatePem, sign: createPrivateKey(identity.privateKeyPem) };
}

/** Sends a request; anything but a 2xx answer is thrown. @throws Fault<ClientFault> */
export async function sendAccepted(client: ServiceClient, call: Call): Promise<Answer> {
  const answer = await client.send(call);
  const refusal = refusalIn(answer);
  if (refusal !== undefined) throw refusal;
  return answer;
}

/** True for a refusal of the service with one of these codes of CCF. */
export function isRefusal(error: unknown, ...codes: string[]): boolean {
  if (!(error instanceof Fault)) return false;
  const detail = error.detail as ClientFault;
  return detail.code === "Refused" && (codes.length === 0 || codes.includes(detail.error));
}
