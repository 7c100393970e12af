import * as z from "zod";
import { parseOptions } from "../core/options.js";
import type { Output } from "./output.js";

/** Fields that flags are made from: one flag each. */
export type FlagShape = Readonly<Record<string, z.ZodType>>;

/**
 * How a verb meets the first Ctrl-C: "finish" ends the step under way and saves, "tidy" breaks off and clears up, "now" just ends, "own" leaves
 * each one to the verb.
 */
export type Interruption = "finish" | "tidy" | "now" | "own";

/** What a verb that talks with the user needs. */
export interface Dialogue {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  /** The terminal that a line is edited on; undefined where input and output are none. */
  readonly terminal: NodeJS.WritableStream | undefined;
  /** Calls the listener at each Ctrl-C, where the verb's interruption is "own". */
  onInterrupt(listener: () => void): void;
}

/** A verb of the command line: its flags, its help, and a call of the library. */
export interface Verb {
  /** One word or two: `train`, `data check`. */
  readonly name: string;
  readonly summary: string;
  /** Full command lines for the help. */
  readonly examples: readonly string[];
  /** Words after the verb in commander's spelling, such as `<model>` or `[text...]`, with their help. */
  readonly words: readonly (readonly [syntax: string, help: string])[];
  readonly flags: FlagShape;
  readonly interruption: Interruption;
  /** Runs it on what flags and config file say. Returns the exit code; errors are thrown. */
  run(
    output: Output,
    values: Readonly<Record<string, unknown>>,
    words: readonly string[],
    signal: AbortSignal,
    dialogue: Dialogue,
  ): Promise<number>;
}

/** What a verb's file states. */
export interface VerbDefinition<S extends FlagShape> {
  readonly name: string;
  readonly summary: string;
  readonly examples: readonly string[];
  readonly words?: Verb["words"];
  readonly flags: S;
  readonly interruption?: Interruption;
  run(
    output: Output,
    options: z.output<z.ZodObject<S>>,
    words: readonly string[],
    signal: AbortSignal,
    dialogue: Dialogue,
  ): Promise<number>;
}

/** A verb whose options are checked against its flags before it runs. */
export function verb<S extends FlagShape>(definition: VerbDefinition<S>): Verb {
  const schema = z.strictObject(definition.flags);
  return {
    words: [],
    interruption: "now",
    ...definition,
    run: (output, values, words, signal, dialogue) =>
      definition.run(output, parseOptions("option", schema, values) as z.output<z.ZodObject<S>>, words, signal, dialogue),
  };
}
