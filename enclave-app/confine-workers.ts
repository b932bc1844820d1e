/**
 * No thread of the enclave gets more rights than the enclave has.
 *
 * Node's permission model covers a worker thread only as long as the worker takes over its parent's options: started
 * with `execArgv` of its own, even an empty one, it runs without any restriction (tried on Node 26.10: files, network,
 * children). Nothing of ours does that and guests never see this API, so this is a second lock: before any other
 * module runs, `Worker` is replaced by one that refuses every option but the harmless ones. The build puts this first
 * into the program and into the text of the guest worker.
 *
 * Trusted.
 */
import { syncBuiltinESMExports } from "node:module";
import workerThreads from "node:worker_threads";
import { Broken } from "../protocol/check.ts";

const HARMLESS = new Set(["eval", "workerData", "transferList", "resourceLimits", "name", "stdin", "stdout", "stderr"]);

const { Worker } = workerThreads;
const Confined = new Proxy(Worker, {
  construct(target, [program, options = {}, ...rest]: unknown[], newTarget) {
    const given = { ...(options as object) };
    for (const [name, value] of Object.entries(given))
      if (!HARMLESS.has(name) && !isEmptyEnvironment(name, value))
        throw new Broken(`a worker of the enclave is started without the option ${name}`);
    if (rest.length > 0) throw new Broken("a worker is started with a program and options only");
    return Reflect.construct(target, [program, given], newTarget) as object;
  },
});
// The class is reachable from every instance too.
Object.defineProperty(Worker.prototype, "constructor", { value: Confined });
(workerThreads as { Worker: typeof Worker }).Worker = Confined;
syncBuiltinESMExports();

/** Node reads options from the environment too; none at all is harmless. */
function isEmptyEnvironment(name: string, value: unknown): boolean {
  return name === "env" && typeof value === "object" && value !== null && Object.keys(value).length === 0;
}
