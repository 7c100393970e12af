#!/usr/bin/env node
import { relative } from "node:path";
import { runPeft } from "./run.js";

// A reader that closes early (`peft train … | head`) is no fault: the work goes on, unseen.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}

process.exitCode = await runPeft(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  get stdin() {
    return process.stdin; // opened by the verb that reads it
  },
  env: process.env,
  command: calledAs(process.argv[1] ?? ""),
  onInterrupt(listener) {
    process.on("SIGINT", listener);
    return () => process.off("SIGINT", listener);
  },
  endAtOnce,
});

/** How to call this program again: `peft` where it is installed, else by its file. */
function calledAs(script: string): string {
  if (/[/\\]node_modules[/\\](\.bin|peft\.js)[/\\]/.test(script)) return "npx peft";
  if (!script.endsWith(".js")) return "peft";
  const short = relative(process.cwd(), script);
  return `node ${short.length < script.length ? short : script}`;
}

/**
 * Ends the process as an interrupt without a listener does: shells report 130. Not by process.exit(), which unloads ONNX Runtime while a run
 * is under way, and that aborts with a core dump.
 */
function endAtOnce(): void {
  if (process.platform === "win32") process.exit(130);
  process.removeAllListeners("SIGINT");
  process.kill(process.pid, "SIGINT");
}
