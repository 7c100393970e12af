import { parseOptions } from "../core/options.js";
import { keyOf, type RandomKey } from "../core/random.js";
import { ConfigError, DataError } from "../errors.js";
import type { Decoder } from "../programs/decode.js";
import { endTokens } from "./end-tokens.js";
import { type GenerationOptions, generationOptions } from "./options.js";
import { sample } from "./sampling.js";
import { type TextStream, textStream } from "./text-stream.js";

/** Why a text ended: an end token or a stop string, the limit of tokens, or the caller's signal. */
export type FinishReason = "stop" | "length" | "aborted";

/** A piece of a text, as it comes: whole characters. */
export interface TextPiece {
  /** Which of the prompts it continues, from 0. */
  readonly index: number;
  readonly piece: string;
}

/** A generated text. */
export interface GeneratedText {
  /** Without the prompt, special tokens and stop string. */
  readonly text: string;
  /** Ids of all tokens that were generated, an end token included. */
  readonly ids: readonly number[];
  readonly finish_reason: FinishReason;
}

/** A prompt: a text, encoded with the special tokens that the tokenizer puts before it, or the tokens themselves. */
export type Prompt = string | readonly number[];

/** What a generation is told beside its options. */
export interface GenerateSurroundings {
  /** Ends all texts where they are. */
  readonly signal?: AbortSignal | undefined;
  /** The numbers by which prompts draw, where they are a part of more; 0, 1, … by default. */
  readonly places?: readonly number[] | undefined;
}

/**
 * Continues prompts together, yields pieces of text as they come, and returns all texts in the prompts' order. What comes out for a prompt
 * does not depend on the others; what is drawn depends on the seed and the prompt's place. Throws ConfigError for options that do not fit,
 * DataError for an empty prompt or one that leaves no room for a new token.
 */
export async function* generate(
  decoder: Decoder,
  prompts: readonly Prompt[],
  given: GenerationOptions = {},
  { signal, places = prompts.map((_, i) => i) }: GenerateSurroundings = {},
): AsyncGenerator<TextPiece, readonly GeneratedText[]> {
  const options = parseOptions("generation option", generationOptions, given);
  const { tokenizer } = decoder.model;
  const ends = await endTokens(decoder.model);
  const texts = prompts.map((prompt, index): OpenText => {
    const seen = typeof prompt === "string" ? [...tokenizer.encode(prompt).ids] : [...prompt];
    checkPrompt(seen, index, prompts.length, decoder.longest);
    return {
      seen,
      own: [],
      stream: textStream(tokenizer, options.stop),
      key: keyOf(options.seed, "sample", places[index] ?? index),
      finish: undefined,
    };
  });
  if (texts.length === 0) return [];
  const decoding = await decoder.start(texts.length);
  try {
    let tokens: readonly (readonly number[])[] = texts.map(({ seen }) => seen.slice());
    while (texts.some(({ finish }) => finish === undefined)) {
      const logits = signal?.aborted === true ? [] : await decoding.next(tokens);
      const pieces: TextPiece[] = [];
      tokens = texts.map((text, index) => {
        if (text.finish !== undefined) return [];
        const row = logits[index];
        const aborted = row === undefined || signal?.aborted === true;
        if (!aborted) {
          const id = sample(row, text.seen, options, text.key, text.own.length);
          text.own.push(id);
          text.seen.push(id);
          const piece = text.stream.push(id);
          if (piece !== "") pieces.push({ index, piece });
          if (ends.has(id) || text.stream.stopped) text.finish = "stop";
          else if (text.own.length >= options.max_new_tokens || text.seen.length >= decoder.longest) text.finish = "length";
          if (text.finish === undefined) return [id];
        }
        text.finish ??= "aborted";
        const rest = text.stream.end();
        if (rest !== "") pieces.push({ index, piece: rest });
        return [];
      });
      yield* pieces;
    }
    return texts.map(({ stream, own, finish }) => ({ text: stream.text, ids: own, finish_reason: finish! }));
  } finally {
    await decoding.dispose();
  }
}

/** A text that is being continued. */
interface OpenText {
  /** The prompt's tokens and those generated so far. */
  readonly seen: number[];
  readonly own: number[];
  readonly stream: TextStream;
  readonly key: RandomKey;
  finish: FinishReason | undefined;
}

function checkPrompt(tokens: readonly number[], index: number, prompts: number, longest: number): void {
  const which = prompts === 1 ? "the prompt" : `prompt ${index + 1} of ${prompts}`;
  if (tokens.length === 0)
    throw new DataError(`${which} is empty, and the tokenizer puts nothing before it`, { hint: "give the text a beginning" });
  if (tokens.length < longest) return;
  throw new ConfigError(`${which} has ${tokens.length} tokens, and a text may have ${longest} in all`, {
    hint: "shorten it: what is generated needs room behind it",
  });
}
