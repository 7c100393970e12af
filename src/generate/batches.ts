import type { Decoder } from "../programs/decode.js";
import { type GeneratedText, generate, type Prompt } from "./generate.js";
import type { GenerationOptions } from "./options.js";

/** What many generations are told beside their options. */
export interface BatchSurroundings {
  /** Prompts that are continued together. */
  readonly batchSize: number;
  readonly signal?: AbortSignal | undefined;
  /** Called after each batch with how many prompts are done. */
  readonly onProgress?: ((done: number) => void) | undefined;
}

/**
 * Continues any number of prompts, some together, those of similar length with each other; all texts in the prompts' order. How many go
 * together changes nothing in what comes out. Throws as `generate` does.
 */
export async function generateAll(
  decoder: Decoder,
  prompts: readonly Prompt[],
  options: GenerationOptions,
  { batchSize, signal, onProgress }: BatchSurroundings,
): Promise<readonly GeneratedText[]> {
  const order = prompts.map((_, i) => i).sort((a, b) => prompts[a]!.length - prompts[b]!.length || a - b);
  const results: GeneratedText[] = [];
  for (let at = 0; at < order.length; at += batchSize) {
    const places = order.slice(at, at + batchSize);
    const loop = generate(
      decoder,
      places.map((place) => prompts[place]!),
      options,
      { signal, places },
    );
    for (let step = await loop.next(); ; step = await loop.next()) {
      if (step.done !== true) continue;
      for (const [i, place] of places.entries()) results[place] = step.value[i]!;
      break;
    }
    onProgress?.(Math.min(order.length, at + batchSize));
  }
  return results;
}
