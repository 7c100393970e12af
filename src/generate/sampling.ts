import { type RandomKey, uniformAt } from "../core/random.js";
import { argmax } from "../tasks/logits.js";
import type { SamplingOptions } from "./options.js";

/**
 * Divides the logits of tokens that have been seen by the penalty where they are above 0, multiplies them with it where below; in place.
 * transformers' RepetitionPenaltyLogitsProcessor (Keskar et al. 2019, arXiv:1909.05858, §4.1).
 */
export function penalizeRepetition(logits: Float32Array, seen: Iterable<number>, penalty: number): void {
  for (const id of new Set(seen)) logits[id] = logits[id]! < 0 ? logits[id]! * penalty : logits[id]! / penalty;
}

/** Tokens that may come next, by id ascending, and their probabilities, which add up to 1. */
export interface Candidates {
  readonly ids: Uint32Array;
  readonly probabilities: Float64Array;
}

/**
 * Which tokens may come next: temperature, then the `top_k` largest logits (and those equal to the last of them), then the fewest tokens that
 * hold `top_p` of the probability (and those equal to the last), then those with at least `min_p` of the likeliest one's. transformers'
 * TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper and MinPLogitsWarper, in this order.
 */
export function candidates(
  logits: Float32Array,
  { temperature, top_k, top_p, min_p }: Pick<SamplingOptions, "temperature" | "top_k" | "top_p" | "min_p">,
): Candidates {
  const scores = logits.map((value) => value / temperature);
  const highest = scores.reduce((most, score) => Math.max(most, score), Number.NEGATIVE_INFINITY);
  const weightOf = (score: number): number => Math.exp(score - highest);
  const lowest = lowestOf(scores, top_k, top_p, weightOf);
  const ids = Uint32Array.from(scores.keys()).filter((id) => scores[id]! >= lowest && weightOf(scores[id]!) >= min_p);
  const weights = Float64Array.from(ids, (id) => weightOf(scores[id]!));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return { ids, probabilities: weights.map((weight) => weight / total) };
}

/** The lowest score that `top_k` and then `top_p` leave. */
function lowestOf(scores: Float32Array, top_k: number, top_p: number, weightOf: (score: number) => number): number {
  const limited = top_k > 0 && top_k < scores.length;
  if (!limited && top_p === 1) return Number.NEGATIVE_INFINITY;
  const ascending = scores.slice().sort();
  const kept = limited ? ascending.subarray(ascending.indexOf(ascending.at(-top_k)!)) : ascending;
  const room = (1 - top_p) * kept.reduce((sum, score) => sum + weightOf(score), 0);
  // what goes is the tail that holds no more than 1 - top_p, added up from the least likely token
  let first = 0;
  for (let tail = 0; top_p < 1 && first < kept.length - 1; first++) {
    tail += weightOf(kept[first]!);
    if (tail > room) break;
  }
  return kept[first]!;
}

/** The next token: the likeliest one at temperature 0, else one drawn by `counter`'s number in the key's stream. Changes the logits. */
export function sample(logits: Float32Array, seen: Iterable<number>, options: SamplingOptions, key: RandomKey, counter: number): number {
  if (options.repetition_penalty !== 1) penalizeRepetition(logits, seen, options.repetition_penalty);
  if (options.temperature === 0) return argmax(logits);
  const { ids, probabilities } = candidates(logits, options);
  let rest = uniformAt(key, counter);
  const drawn = probabilities.findIndex((probability) => {
    rest -= probability;
    return rest < 0;
  });
  return ids.at(drawn)!; // -1, the last one, where rounding leaves a rest
}
