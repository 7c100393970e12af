import * as z from "zod";
import { readRows } from "../data/read-rows.js";
import { UsageError } from "../errors.js";
import { generateAll } from "../generate/batches.js";
import { type GeneratedText, generate } from "../generate/generate.js";
import { generationFields, generationPart } from "../generate/options.js";
import { promptRow, textPrompt } from "../generate/prompts.js";
import { checkFolderOf, writeWhole } from "../node/folder.js";
import { openBoard } from "../node/generate.js";
import { loadModel } from "../node/load-model.js";
import type { Decoder } from "../programs/decode.js";
import { languageModelFlags } from "./model-flags.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";

const flagShape = {
  ...languageModelFlags,
  adapter: z.string().nullable().default(null).describe("adapter: a folder or a hub id"),
  prompt: z.string().nullable().default(null).describe("text to continue"),
  chat: z.boolean().default(false).describe("take prompts as what a user says, in the model's chat template"),
  input: z.string().nullable().default(null).describe('rows with "prompt", "text" or "messages": a .jsonl, .csv or .parquet file'),
  output: z.string().nullable().default(null).describe("file to write, one JSON object a row; standard output by default"),
  map: z.record(z.string(), z.string()).default({}).describe("columns to rename: prompt=question"),
  batch_size: z.number().int().positive().default(8).describe("rows that are continued together"),
  ...generationFields,
};

type Flags = z.output<z.ZodObject<typeof flagShape>>;

/** `peft generate`: a text, streamed, or one JSON object a row. */
export const generateVerb = verb({
  name: "generate",
  summary: "continue a text, or many, with a language model",
  examples: [
    'peft generate --model smollm2-135m --prompt "Once upon a time" --max-new-tokens 100',
    'peft generate --model smollm2-135m --adapter my-adapter --chat --prompt "Why is the sky blue?" --temperature 0.7 --top-p 0.9',
    "peft generate --model smollm2-135m --adapter my-adapter --input rows.jsonl --output texts.jsonl",
  ],
  flags: flagShape,
  interruption: "tidy",
  async run(output, options, _, signal) {
    if ((options.input === null) === (options.prompt === null))
      throw new UsageError("give either --prompt TEXT or --input FILE", {
        hint: 'peft generate --model smollm2-135m --prompt "Once upon a time"',
      });
    if (options.output !== null && options.input === null)
      throw new UsageError("--output is for the rows of --input", { hint: "a single text comes on standard output: > FILE" });
    const rows = options.input === null ? undefined : await readRows(options.input, { map: options.map });
    if (options.output !== null) await checkFolderOf(options.output);
    const loading = { onProgress: printProgress(output), threads: options.threads ?? undefined, signal };
    const model = await loadModel(options.model, loading);
    try {
      const board = await openBoard(model, options.adapter === null ? [] : [["default", options.adapter]], loading, options.base_dtype);
      const decoder = board.decoder({ adapter: options.adapter === null ? null : "default" });
      if (rows === undefined) return await continueOne(output, decoder, options, signal);
      const prompts = rows.rows.map((_, i) => promptRow(rows, i, model.tokenizer, options).prompt);
      return await continueAll(output, decoder, prompts, options, signal);
    } finally {
      await model.close();
    }
  },
});

/** One text, as it comes. */
async function continueOne(output: Output, decoder: Decoder, options: Flags, signal: AbortSignal): Promise<number> {
  const prompt = textPrompt(decoder.model.tokenizer, options.prompt!, options);
  await decoder.load();
  const began = performance.now();
  const loop = generate(decoder, [prompt], generationPart(options), { signal });
  for (let step = await loop.next(); ; step = await loop.next()) {
    if (step.done !== true) {
      output.stream(step.value.piece);
      continue;
    }
    const [{ text, ids, finish_reason }] = step.value as [GeneratedText];
    const speed = (1000 * ids.length) / (performance.now() - began);
    output.say("");
    output.emit({ text, tokens: ids.length, tokens_per_second: speed, finish_reason });
    output.note(output.notePaint.dim(`${ids.length} tokens, ${speed.toFixed(1)} a second (${finish_reason})`));
    return finish_reason === "aborted" ? 130 : 0;
  }
}

/** One JSON object a row. */
async function continueAll(
  output: Output,
  decoder: Decoder,
  prompts: Parameters<typeof generateAll>[1],
  options: Flags,
  signal: AbortSignal,
): Promise<number> {
  await decoder.load();
  const began = performance.now();
  const onProgress = (done: number): void => output.progress(`${done} of ${prompts.length} rows`);
  const texts = await generateAll(decoder, prompts, generationPart(options), { batchSize: options.batch_size, signal, onProgress });
  const seconds = (performance.now() - began) / 1000;
  signal.throwIfAborted();
  const lines = texts.map(({ text, ids, finish_reason }) => ({ text, tokens: ids.length, finish_reason }));
  if (options.output === null) for (const line of lines) output.row(line);
  else await writeWhole(options.output, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const tokens = lines.reduce((sum, line) => sum + line.tokens, 0);
  const where = options.output === null ? "" : ` written to ${options.output}`;
  output.note(`${lines.length} rows${where}, ${tokens} tokens, ${(tokens / seconds).toFixed(1)} a second`);
  return 0;
}
