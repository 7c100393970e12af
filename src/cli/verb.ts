import type { Command } from "commander";
import type { Output } from "./output.js";

/** A verb of the command line: its flags, and a call of the library. */
export interface Verb {
  /** Adds the verb with its flags and arguments to the program. */
  describe(program: Command): Command;
  /** Runs it. Returns the exit code; errors are thrown. */
  run(output: Output, flags: Readonly<Record<string, unknown>>, args: readonly unknown[], signal: AbortSignal): Promise<number>;
}
