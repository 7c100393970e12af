#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { PeftError, UsageError } from "../errors.js";
import { version } from "../version.js";
import { processOutput } from "./output.js";
import { verbs } from "./verbs.js";

/** Runs the command line. Returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted. */
export async function main(args: readonly string[]): Promise<number> {
  const abort = new AbortController();
  let code = 0;
  let output = processOutput(args.includes("--json"));
  const program = new Command("peft").description("Fine-tune Hugging Face models, parameter-efficiently, without Python.").version(version);
  program
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .showSuggestionAfterError();
  const debug = args.includes("--debug");
  const interrupt = (): void => {
    if (abort.signal.aborted) process.exit(130);
    abort.abort();
    output.note("finishing the step under way; Ctrl-C again to stop at once");
  };
  process.on("SIGINT", interrupt);
  for (const verb of verbs) {
    const command = verb.describe(program);
    command.option("--json", "standard output carries JSON only").option("--debug", "show where an error came from");
    command
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
      .showSuggestionAfterError();
    command.action(async (...params: unknown[]) => {
      const flags = command.opts() as Readonly<Record<string, unknown>>;
      output = processOutput(flags.json === true);
      code = await verb.run(output, flags, params.slice(0, command.registeredArguments.length), abort.signal);
    });
  }
  try {
    await program.parseAsync([...args], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const shown =
      error instanceof CommanderError
        ? new UsageError(error.message.replace(/^error: /, ""), { hint: "peft --help lists verbs, peft VERB --help its flags" })
        : error;
    output.note(describe(shown));
    if (debug) output.note(String(error instanceof Error ? error.stack : error));
    return shown instanceof UsageError ? 2 : 1;
  } finally {
    process.off("SIGINT", interrupt);
  }
}

function describe(error: unknown): string {
  if (error instanceof PeftError) return `error[${error.code}]: ${error.message}${error.hint === undefined ? "" : `\nhint: ${error.hint}`}`;
  return `error[E_INTERNAL]: ${error instanceof Error ? error.message : String(error)}\nhint: this is a fault of the program; run again with --debug and report what it shows`;
}

process.exitCode = await main(process.argv.slice(2));
