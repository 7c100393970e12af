import type { ChatMessage } from "../data/chat.js";
import { UsageError } from "../errors.js";
import { type GeneratedText, generate as generateTexts } from "../generate/generate.js";
import type { GenerationOptions } from "../generate/options.js";
import { chatPrompt } from "../generate/prompts.js";
import { withBaseDtype } from "../programs/adapted-model.js";
import { withoutAdapter } from "../programs/adapter.js";
import type { BaseDtype } from "../programs/base-dtype.js";
import { checkWritesTexts } from "../programs/decode.js";
import { Switchboard } from "../programs/switchboard.js";
import { textGeneration } from "../tasks/text-generation.js";
import { type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";

/** What is to be continued, by what and how. */
export interface GenerateInput extends GenerationOptions {
  /** A language model by name, or one that is loaded already, and stays open. */
  readonly model: string | LoadedModel;
  /** A folder or hub id. */
  readonly adapter?: string | undefined;
  /** A text to continue as it is, … */
  readonly prompt?: string | undefined;
  /** … or a conversation that the assistant is to answer, by the model's chat template. */
  readonly messages?: readonly ChatMessage[] | undefined;
  /** How the model's frozen matrices are stored; f32 by default. */
  readonly base_dtype?: BaseDtype | "auto" | undefined;
}

/**
 * Continues a text: `for await (const piece of generate({ model: "smollm2-135m", prompt: "Once upon a time", max_new_tokens: 50 }))
 * process.stdout.write(piece)`. Returns the whole text when it ends. The signal ends it with what there is. Throws UsageError unless there is
 * either a prompt or messages, and as `loadModel`, `loadAdapter` and the loop do.
 */
export async function* generate(input: GenerateInput, loading: LoadOptions = {}): AsyncGenerator<string, GeneratedText> {
  const { model: given, adapter, prompt, messages, base_dtype, ...options } = input;
  if ((prompt === undefined) === (messages === undefined)) throw new UsageError("give either a prompt or messages to generate");
  const model = typeof given === "string" ? await loadModel(given, loading) : given;
  try {
    const board = await openBoard(model, adapter === undefined ? [] : [["default", adapter]], loading, base_dtype);
    try {
      const decoder = board.decoder({ adapter: adapter === undefined ? null : "default" });
      const tokens = messages === undefined ? prompt! : chatPrompt(model.tokenizer, messages);
      const loop = generateTexts(decoder, [tokens], options, { signal: loading.signal });
      for (let step = await loop.next(); ; step = await loop.next()) {
        if (step.done === true) return step.value[0]!;
        yield step.value.piece;
      }
    } finally {
      await board.dispose();
    }
  } finally {
    if (typeof given === "string") await model.close();
  }
}

/** A language model with adapters by name, folders or hub ids, none of them in use. Throws as `loadAdapter` and `withoutAdapter` do. */
export async function openBoard(
  model: LoadedModel,
  adapters: readonly (readonly [name: string, place: string])[],
  loading: LoadOptions,
  baseDtype: BaseDtype | "auto" = "f32",
): Promise<Switchboard> {
  checkWritesTexts(model);
  const board = new Switchboard(withBaseDtype(model, withoutAdapter(model, textGeneration), baseDtype), { task: textGeneration.name });
  try {
    for (const [name, place] of adapters)
      await board.load(name, await loadAdapter(model, place, { ...loading, task: textGeneration.name }));
    return board;
  } catch (error) {
    await board.dispose();
    throw error;
  }
}
