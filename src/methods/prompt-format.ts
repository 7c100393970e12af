import * as z from "zod";
import { ConfigError } from "../errors.js";
import type { AdapterFormat, ConfigOrigin, Sites } from "./method.js";
import { isSaved, targetFields } from "./targets.js";

/** `num_virtual_tokens`, without a default. */
export const virtualTokens = z.number().int().positive().describe("trained rows in front of each text");

const size = z.number().int().positive().nullable().default(null);

/** The fields that all prompt-learning methods share; null sizes are filled in from the model, and must agree with it where given. */
export const promptFields = {
  num_layers: size.describe("layers of the model; filled in"),
  num_attention_heads: size.describe("heads of the model, for prefix tuning those of keys and values; filled in"),
  token_dim: size.describe("width of a virtual token; filled in"),
  num_transformer_submodules: size.describe("stacks of the model; filled in"),
  modules_to_save: targetFields.modules_to_save,
};

/** The sizes that a published config states. */
export interface PromptPlan {
  readonly num_layers: number;
  readonly num_attention_heads: number;
  readonly token_dim: number;
  readonly num_transformer_submodules: number;
}

/** Sizes as a config has them; null ones are filled in. */
type PromptSizes = { readonly [K in keyof PromptPlan]: number | null };

/** The sizes of a prompt on a model. Throws ConfigError that lists the given ones which are not the model's. */
export function promptPlan(sites: Sites, given: PromptSizes, tokenDim: number, heads: number): PromptPlan {
  const plan = {
    num_layers: sites.attentions.length,
    num_attention_heads: heads,
    token_dim: tokenDim,
    num_transformer_submodules: 1,
  };
  const faults = Object.entries(plan).flatMap(([key, value]) => {
    const stated = given[key as keyof PromptPlan];
    return stated === null || stated === value ? [] : [`${key} is ${stated}, this model has ${value}`];
  });
  if (faults.length > 0) throw new ConfigError(faults.join("; "), { hint: "leave these fields out: they are filled in from the model" });
  return plan;
}

/**
 * The sizes of a prompt of virtual tokens. Throws ConfigError as `promptPlan` does, and where a user's `modules_to_save` names the word embeddings:
 * PEFT reads the base's all the same, so the trained ones would serve for nothing. Of a file only the name `word_embeddings` is refused: PeftModel has
 * a module of that name itself, which is then trained or not as it happens.
 */
export function virtualTokensPlan(
  sites: Sites,
  config: PromptSizes & { readonly modules_to_save: readonly string[] | null },
  origin: ConfigOrigin,
): PromptPlan {
  const { path, width } = sites.tokens[0]!;
  if (isSaved(origin === "user" ? path : "word_embeddings", config.modules_to_save ?? [])) {
    throw new ConfigError(`modules_to_save names ${path}, but methods with virtual tokens read the base model's word embeddings`, {
      hint: "leave it out; lora, ia3 and prefix-tuning go with trained word embeddings",
    });
  }
  return promptPlan(sites, config, width, sites.attentions[0]!.queryHeads);
}

/** PEFT's format of prompt learning: a bare `prompt_embeddings`, the head under `base_model.`. */
export function promptFormat(peft_type: string): Pick<AdapterFormat<object, unknown>, "peft_type" | "prefix" | "inert" | "key"> {
  return {
    peft_type,
    prefix: "base_model.",
    inert: [],
    key: (path) => (path === "prompt_embeddings" ? path : `base_model.${path}`),
  };
}
