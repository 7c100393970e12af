import * as z from "zod";
import { ModelError } from "../errors.js";

const scaling = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().nullish(),
  partial_rotary_factor: z.number().nullish(),
  factor: z.number().nullish(),
  original_max_position_embeddings: z.number().nullish(),
  low_freq_factor: z.number().nullish(),
  high_freq_factor: z.number().nullish(),
  attention_factor: z.number().nullish(),
  beta_fast: z.number().nullish(),
  beta_slow: z.number().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
});

/** Rotary positions in a config.json: `rope_parameters` as transformers 5 writes it, `rope_theta` and `rope_scaling` as transformers 4 did. */
export const ropeFields = {
  rope_theta: z.number().nullish(),
  rope_scaling: scaling.nullish(),
  rope_parameters: scaling.nullish(),
  partial_rotary_factor: z.number().nullish(),
  original_max_position_embeddings: z.number().nullish(),
};

type Scaling = z.infer<typeof scaling>;

/** What rotary positions depend on. */
export interface RopeConfig extends z.infer<z.ZodObject<typeof ropeFields>> {
  readonly max_position_embeddings: number;
}

/** How fast each pair of a head's numbers turns, in radians a position, and the factor on cosines and sines. */
export interface Rope {
  /** headDim / 2 of them. */
  readonly frequencies: readonly number[];
  readonly scale: number;
}

/**
 * The rotary frequencies of a config, as transformers' modeling_rope_utils computes them: default, linear, dynamic (which differs from the
 * default only beyond the model's positions), llama3 and yarn. Throws ModelError for other types, and for fields that a type needs.
 */
export function rope(c: RopeConfig, headDim: number): Rope {
  const fields: Scaling = { ...(c.rope_scaling ?? {}), ...(c.rope_parameters ?? {}) };
  const type = fields.rope_type ?? fields.type ?? "default";
  const base = fields.rope_theta ?? c.rope_theta ?? 10_000;
  const partial = fields.partial_rotary_factor ?? c.partial_rotary_factor ?? 1;
  if (partial !== 1) throw new ModelError(`partial_rotary_factor ${partial} is not supported`, { hint: "only whole heads are rotated" });
  if (!Object.hasOwn(types, type)) {
    throw new ModelError(`rope_type "${type}" is not supported`, { hint: `supported: ${Object.keys(types).join(", ")}` });
  }
  const plain = Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  const original = c.original_max_position_embeddings ?? fields.original_max_position_embeddings ?? c.max_position_embeddings;
  return types[type as keyof typeof types](plain, { ...fields, type, base, headDim, original, longest: c.max_position_embeddings });
}

type Facts = Scaling & {
  readonly type: string;
  readonly base: number;
  readonly headDim: number;
  /** Positions that the model was first trained on. */
  readonly original: number;
  readonly longest: number;
};

const types = {
  default: (plain: readonly number[]): Rope => ({ frequencies: plain, scale: 1 }),
  dynamic: (plain: readonly number[]): Rope => ({ frequencies: plain, scale: 1 }),
  linear: (plain: readonly number[], facts: Facts): Rope => {
    const factor = needed(facts, "factor");
    return { frequencies: plain.map((frequency) => frequency / factor), scale: 1 };
  },
  llama3,
  yarn,
};

/** Long waves are stretched by the factor, short ones are not, and between them it goes over smoothly (Llama 3.1). */
function llama3(plain: readonly number[], facts: Facts): Rope {
  const [factor, low, high] = [needed(facts, "factor"), needed(facts, "low_freq_factor"), needed(facts, "high_freq_factor")];
  const frequencies = plain.map((frequency) => {
    const turns = (facts.original * frequency) / (2 * Math.PI);
    if (turns < low) return frequency / factor;
    if (turns > high) return frequency;
    const smooth = (turns - low) / (high - low);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
  return { frequencies, scale: 1 };
}

/** Pairs that turn often keep their frequency, those that turn seldom are stretched (Peng et al. 2023, arXiv:2309.00071, §3.2 and 3.4). */
function yarn(plain: readonly number[], facts: Facts): Rope {
  const factor = facts.factor ?? facts.longest / facts.original;
  const dimOf = (turns: number): number => (facts.headDim * Math.log(facts.original / (turns * 2 * Math.PI))) / (2 * Math.log(facts.base));
  const whole = facts.truncate ?? true;
  const [first, last] = [dimOf(facts.beta_fast || 32), dimOf(facts.beta_slow || 1)];
  const low = Math.max(whole ? Math.floor(first) : first, 0);
  const high = Math.min(whole ? Math.ceil(last) : last, facts.headDim - 1);
  const span = low === high ? 0.001 : high - low;
  const frequencies = plain.map((frequency, i) => {
    const stretched = Math.min(1, Math.max(0, (i - low) / span));
    return (frequency / factor) * stretched + frequency * (1 - stretched);
  });
  const magnitude = (scale: number): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const { mscale, mscale_all_dim: all } = facts;
  return { frequencies, scale: facts.attention_factor ?? (mscale && all ? magnitude(mscale) / magnitude(all) : magnitude(1)) };
}

function needed(facts: Facts, field: "factor" | "low_freq_factor" | "high_freq_factor"): number {
  const value = facts[field];
  if (typeof value === "number") return value;
  throw new ModelError(`rope_type "${facts.type}" needs "${field}"`, { hint: "is config.json complete?" });
}
