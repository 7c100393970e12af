import * as z from "zod";

/** How the next token is chosen; transformers' names. */
export const samplingFields = {
  temperature: z.number().min(0).default(0).describe("divides the logits before a token is drawn; 0 takes the likeliest token each time"),
  top_k: z.number().int().min(0).default(0).describe("draw among the so many likeliest tokens only; 0 for all"),
  top_p: z.number().gt(0).max(1).default(1).describe("draw among the fewest tokens that hold this share of the probability"),
  min_p: z.number().min(0).max(1).default(0).describe("draw among tokens with at least this share of the likeliest one's probability"),
  repetition_penalty: z.number().positive().default(1).describe("above 1: tokens of the prompt and the text so far become less likely"),
  seed: z.number().int().default(0).describe("of what is drawn; the same seed gives the same text"),
};

/** All options of a generation, one schema for flags and library. */
export const generationFields = {
  max_new_tokens: z.number().int().positive().default(256).describe("tokens to generate at most"),
  ...samplingFields,
  stop: z
    .union([
      z
        .string()
        .min(1)
        .transform((text) => [text]),
      z.array(z.string().min(1)),
    ])
    .default([])
    .describe("text at which to stop, or a list of them; it is not part of the result"),
};

/** How the next token is chosen. */
export type SamplingOptions = z.output<z.ZodObject<typeof samplingFields>>;

/** The options as the library takes them: all may be left out. */
export type GenerationOptions = z.input<z.ZodObject<typeof generationFields>>;

/** The schema of the options. */
export const generationOptions = z.strictObject(generationFields);

/** The options of a generation among others. */
export function generationPart(options: Readonly<Record<string, unknown>>): GenerationOptions {
  return Object.fromEntries(Object.entries(options).filter(([key]) => key in generationFields));
}
