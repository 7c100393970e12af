import { Readable } from "node:stream";
import type { Stream } from "./output.js";
import { runPeft } from "./run.js";

/** What a run of the command line printed and returned. */
export interface PeftRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as JSON, a value a line. Throws when something else stands there. */
  json(): readonly Readonly<Record<string, unknown>>[];
}

/** What a run of the command line may be given. */
export interface PeftRunOptions {
  /** Both streams are terminals of 80 columns. */
  readonly terminal?: boolean;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What a pipe gives. */
  readonly stdin?: string;
  /** Called at each write to stdout, as `onNote` is for stderr. */
  readonly onText?: (text: string, interrupt: () => void) => void;
  /** Called at each write to stderr; its argument is what interrupts the run. */
  readonly onNote?: (text: string, interrupt: () => void) => void;
}

/** Runs the command line in this process. */
export async function peft(
  args: readonly string[],
  { terminal = false, env = {}, stdin, onText, onNote }: PeftRunOptions = {},
): Promise<PeftRun> {
  const texts = { stdout: "", stderr: "" };
  let interrupt = (): void => {};
  const stream = (name: "stdout" | "stderr"): Stream => ({
    write(text) {
      texts[name] += text;
      (name === "stderr" ? onNote : onText)?.(text, interrupt);
    },
    ...(terminal ? { isTTY: true, columns: 80 } : {}),
  });
  const code = await runPeft(args, {
    stdout: stream("stdout"),
    stderr: stream("stderr"),
    env,
    ...(stdin === undefined ? {} : { stdin: Readable.from([stdin]) }),
    onInterrupt(listener) {
      interrupt = listener;
      return () => {};
    },
  });
  const lines = texts.stdout.split("\n").filter((line) => line !== "");
  return { code, ...texts, json: () => lines.map((line) => JSON.parse(line)) };
}
