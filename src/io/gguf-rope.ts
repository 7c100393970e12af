import { ModelError } from "../errors.js";
import type { GgufMetadata } from "./gguf-metadata.js";

type Json = Readonly<Record<string, unknown>>;

/**
 * `rope_parameters` of config.json. llama.cpp's file states linear and yarn scaling by fields; Llama 3's by the tensor `rope_freqs.weight`, by
 * which each frequency is divided, and whose making is known: it must be what `low_freq_factor` 1, `high_freq_factor` 4 and 8192 original
 * positions give. Throws ModelError for other scalings.
 */
export function ggufRope(
  metadata: GgufMetadata,
  architecture: string,
  headDim: number,
  divisors: Float32Array | undefined,
  where: string,
): Json {
  const field = (name: string): number | undefined => metadata.number(`${architecture}.rope.${name}`);
  const rope_theta = field("freq_base") ?? 10_000;
  const type = metadata.text(`${architecture}.rope.scaling.type`) ?? "none";
  const factor = field("scaling.factor") ?? field("scale_linear");
  if (divisors !== undefined) return { rope_theta, ...llama3(divisors, rope_theta, headDim, where) };
  if (type === "none" || (type === "linear" && (factor ?? 1) === 1)) return { rope_type: "default", rope_theta };
  if ((type !== "linear" && type !== "yarn") || factor === undefined) {
    throw new ModelError(`${where}: rotary positions scaled by "${type}"${factor === undefined ? " without a factor" : ""} are not read`, {
      hint: "expected none, linear, yarn, or Llama 3's rope_freqs.weight",
    });
  }
  const original = field("scaling.original_context_length");
  return { rope_type: type, rope_theta, factor, ...(original === undefined ? {} : { original_max_position_embeddings: original }) };
}

/** The parameters that give these divisors: 1 for short waves, `factor` for those longer than the original context, between them in between. */
function llama3(divisors: Float32Array, base: number, headDim: number, where: string): Json {
  const [low, high, original, factor] = [1, 4, 8192, Math.max(...divisors)];
  const expected = Array.from({ length: headDim / 2 }, (_, i) => {
    const turns = original / (2 * Math.PI * base ** ((2 * i) / headDim)); // within the original context
    if (turns > high) return 1;
    if (turns < low) return factor;
    const smooth = (turns - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
  if (divisors.length !== expected.length || expected.some((value, i) => Math.abs(value / divisors[i]! - 1) > 1e-4)) {
    throw new ModelError(`${where}: rope_freqs.weight is not of Llama 3's making, and no other is read`);
  }
  return { rope_type: "llama3", factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original };
}
