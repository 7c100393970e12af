import { type RandomKey, randomInt, uniformAt } from "../core/random.js";
import type { Tokenizer } from "../data/tokenizer.js";

/** Shares of a text's tokens that are covered up, and of those that become the mask token or a random one; the rest stay as they are. */
export const covered = 0.15;
const masked = 0.8;
const random = 0.1;

/** A text with some tokens covered up. */
export interface MaskedText {
  readonly ids: Int32Array;
  /** Places that were chosen, in order, also those whose token stayed. */
  readonly places: readonly number[];
  /** The tokens that stood there. */
  readonly tokens: readonly number[];
}

/** Places of tokens that may be covered up: all but special ones, [UNK] among them. */
export function maskablePlaces(ids: Int32Array, { specialIds }: Pick<Tokenizer, "specialIds">): readonly number[] {
  return Array.from(ids.keys()).filter((place) => !specialIds.has(ids[place]!));
}

/**
 * Covers up tokens for masked language modelling, as transformers' DataCollatorForLanguageModeling: each token that is not special is chosen
 * with probability 0.15; of those chosen 80 % become the mask token, 10 % a random token of the whole vocabulary, 10 % stay. Unlike there, a
 * text of which chance picks nothing has one token chosen all the same, so that each text bears loss. `ids` must hold a maskable token.
 */
export function maskText(ids: Int32Array, tokenizer: Pick<Tokenizer, "maskId" | "specialIds" | "vocabSize">, key: RandomKey): MaskedText {
  const maskable = maskablePlaces(ids, tokenizer);
  const picked = maskable.filter((place) => uniformAt(key, 3 * place) < covered);
  const places = picked.length > 0 ? picked : [maskable[randomInt(maskable.length, key, 3 * ids.length)]!];
  const result = ids.slice();
  for (const place of places) {
    const fate = uniformAt(key, 3 * place + 1);
    if (fate < masked) result[place] = tokenizer.maskId!;
    else if (fate < masked + random) result[place] = randomInt(tokenizer.vocabSize, key, 3 * place + 2);
  }
  return { ids: result, places, tokens: places.map((place) => ids[place]!) };
}
