import { Readable } from "node:stream";
import { Command, CommanderError } from "commander";
import { messageOf, nearest, PeftError, UsageError } from "../errors.js";
import { version } from "../version.js";
import { addFlags, readFlags } from "./flags.js";
import { isTerminal, type Output, type OutputSurroundings, streamOutput } from "./output.js";
import { paintFor } from "./paint.js";
import type { Dialogue, Verb } from "./verb.js";
import { verbs } from "./verbs.js";

/** What the command line needs of the process it runs in. */
export interface Surroundings extends OutputSurroundings {
  /** What the user types, or a pipe gives; nothing by default. */
  readonly stdin?: Dialogue["stdin"];
  /** Calls the listener at each Ctrl-C until the function it returns is called. */
  readonly onInterrupt?: (listener: () => void) => () => void;
  /** Ends the process at once, as one that was interrupted (130). */
  readonly endAtOnce?: () => void;
}

const description = "Fine-tune Hugging Face models, parameter-efficiently, without Python.";

/** Runs the command line. Returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted. */
export async function runPeft(args: readonly string[], around: Surroundings): Promise<number> {
  const output = streamOutput(args.includes("--json"), around);
  const abort = new AbortController();
  let running: Verb | undefined;
  let interrupted = (): void => around.endAtOnce?.();
  const dialogue: Dialogue = {
    get stdin() {
      return around.stdin ?? Readable.from([]);
    },
    get terminal() {
      return around.stdin?.isTTY === true && isTerminal(around.stdout) ? around.stdout : undefined;
    },
    onInterrupt(listener) {
      interrupted = listener;
    },
  };
  const stop = around.onInterrupt?.(() => {
    if (running?.interruption === "own") return interrupted();
    const again = abort.signal.aborted;
    if (!again) abort.abort();
    if (again || running?.interruption === "now") {
      output.clear();
      return around.endAtOnce?.();
    }
    const what = running?.interruption === "finish" ? "finishing the step under way, then saving" : "breaking off";
    output.note(`${what}; Ctrl-C again to stop at once`);
  });
  try {
    const words = wordsFor(args);
    if (words === undefined) {
      around.stdout.write(shortHelp(output));
      return 0;
    }
    let code = 0;
    const program = describeProgram(output, around, async (verb, run) => {
      running = verb;
      code = await run(abort.signal, dialogue);
    });
    await program.parseAsync([...words], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (abort.signal.aborted && error instanceof Error && error.name === "AbortError") {
      output.note("interrupted");
      return 130;
    }
    const shown = error instanceof CommanderError ? usageError(error) : error;
    output.note(describeError(shown, output));
    if (args.includes("--debug")) output.note(stackOf(error));
    return shown instanceof UsageError ? 2 : 1;
  } finally {
    output.clear();
    stop?.();
  }
}

/** The program with all verbs; `start` is called with the one that the arguments name. */
function describeProgram(
  output: Output,
  { stdout, env }: Surroundings,
  start: (verb: Verb, run: (signal: AbortSignal, dialogue: Dialogue) => Promise<number>) => Promise<void>,
): Command {
  const { bold, dim } = paintFor(stdout, env);
  const frame = (command: Command): Command =>
    command
      .exitOverride()
      .helpOption("-h, --help", "show this help")
      .helpCommand(false)
      .configureOutput({
        writeOut: (text) => stdout.write(text),
        writeErr: () => {},
        getOutHelpWidth: () => Math.min(stdout.columns ?? 100, 120),
        getOutHasColors: () => stdout.isTTY === true,
      })
      .configureHelp({ styleTitle: bold });
  const examples = (lines: readonly string[]): string => `\n${bold("Examples:")}\n${lines.map((line) => `  ${line}`).join("\n")}\n`;
  const program = frame(new Command("peft")).description(description).version(version, "-V, --version", "show the version");
  program.usage("VERB [flags]").addHelpText("after", examples(verbs.slice(0, 4).flatMap((verb) => verb.examples.slice(0, 1))));
  program.addHelpText(
    "after",
    `\n${dim("peft VERB --help lists a verb's flags. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.")}`,
  );
  for (const verb of verbs) {
    const names = verb.name.split(" ");
    const parent = names.length === 1 ? program : groupNamed(program, names[0]!, frame);
    const command = frame(parent.command(names.at(-1)!)).description(verb.summary);
    for (const [syntax, help] of verb.words) command.argument(syntax, help);
    addFlags(command, verb.flags);
    if (Object.keys(verb.flags).length > 0)
      command.option("--config <file>", "YAML file with the same keys as the flags; a flag wins over the file");
    command.option("--json", "standard output carries JSON only").option("--debug", "show where an error came from");
    command.addHelpText("after", examples(verb.examples));
    command.action(async () => {
      const given = command.opts() as Readonly<Record<string, unknown>>;
      await start(verb, async (signal, dialogue) => {
        const values = await readFlags(verb.flags, given, given.config as string | undefined);
        requireAll(verb, values);
        return verb.run(output, values, command.args, signal, dialogue);
      });
    });
  }
  return program;
}

function groupNamed(program: Command, name: string, frame: (command: Command) => Command): Command {
  const known = program.commands.find((each) => each.name() === name);
  if (known !== undefined) return known;
  const parts = verbs.filter((verb) => verb.name.startsWith(`${name} `)).map((verb) => `${verb.name.split(" ")[1]}: ${verb.summary}`);
  return frame(program.command(name)).description(parts.join("; ")).usage("VERB [flags]");
}

/** The arguments as commander takes them, `help VERB` turned into `VERB --help`; undefined when there is no verb. Throws UsageError for unknown verbs. */
function wordsFor(args: readonly string[]): readonly string[] | undefined {
  const asked = args[0] === "help";
  const words = asked ? args.slice(1) : args;
  const [first, second] = words;
  if (asked && first === undefined) return ["--help"];
  if (words.every((word) => word === "--json" || word === "--debug")) return undefined;
  if (first !== undefined && !first.startsWith("-")) checkVerb(first, second);
  return asked ? [...words, "--help"] : words;
}

function checkVerb(first: string, second: string | undefined): void {
  const names = verbs.map((verb) => verb.name);
  if (names.includes(first)) return;
  const parts = names.filter((name) => name.startsWith(`${first} `));
  if (parts.length === 0) throw unknownVerb(first, [...new Set(names.map((name) => name.split(" ")[0]!))], first);
  if (second === undefined)
    throw new UsageError(`peft ${first} does nothing by itself`, { hint: parts.map((name) => `peft ${name}`).join(", or ") });
  if (!second.startsWith("-") && !parts.includes(`${first} ${second}`))
    throw unknownVerb(`${first} ${second}`, parts, `${first} ${second}`);
}

function unknownVerb(shown: string, known: readonly string[], word: string): UsageError {
  const guess = nearest(word, known);
  return new UsageError(`there is no verb "${shown}"`, {
    hint: `${guess === undefined ? "" : `did you mean "${guess}"? `}verbs: ${known.join(", ")}`,
  });
}

/** Throws UsageError that names all flags which must be given and are not. */
function requireAll(verb: Verb, values: Readonly<Record<string, unknown>>): void {
  const missing = Object.entries(verb.flags).filter(([key, schema]) => values[key] === undefined && !schema.safeParse(undefined).success);
  if (missing.length === 0) return;
  const names = missing.map(([key]) => `--${key.replaceAll("_", "-")}`);
  throw new UsageError(`peft ${verb.name} needs ${names.join(" and ")}`, {
    hint: `${missing.map(([, schema], i) => `${names[i]}: ${schema.description}`).join("; ")}. For example: ${verb.examples[0]}`,
  });
}

function usageError({ message }: CommanderError): UsageError {
  const guess = /\(Did you mean (?:one of )?(.+?)\?\)/.exec(message)?.[1];
  return new UsageError(message.replace(/^error: /, "").replace(/\n\(Did you mean .*$/s, ""), {
    hint: guess === undefined ? "peft --help lists verbs, peft VERB --help its flags" : `did you mean ${guess}?`,
  });
}

function describeError(error: unknown, { notePaint: { red, bold, cyan } }: Output): string {
  const known = error instanceof PeftError;
  const message = messageOf(error);
  const hint = known ? error.hint : "this is a fault of the program; run again with --debug and report what it shows";
  return `${bold(red(`error[${known ? error.code : "E_INTERNAL"}]`))}: ${message}${hint === undefined ? "" : `\n${cyan("hint")}: ${hint}`}`;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? String(error.stack) : `${error.stack}\ncaused by: ${stackOf(error.cause)}`;
}

/** What `peft` says when it is given nothing to do. */
function shortHelp({ paint: { bold, cyan, dim } }: Output): string {
  const lines = verbs
    .filter(({ name }) => ["quickstart", "train", "evaluate", "predict"].includes(name))
    .map(({ examples, summary }) => `  ${cyan(examples[0]!)}\n      ${summary}`);
  return [
    `${bold(`Peft.js ${version}`)}  ${description}`,
    "",
    ...lines,
    "",
    `Verbs: ${verbs.map(({ name }) => name).join(", ")}`,
    dim("peft help VERB lists a verb's flags; peft doctor says whether all is well here."),
    "",
  ].join("\n");
}
