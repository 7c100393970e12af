import * as z from "zod";
import { normal } from "../core/initializer.js";
import type { PeftMethod } from "./method.js";
import { type PromptPlan, promptFields, promptFormat, promptPlan, virtualTokens } from "./prompt-format.js";

const config = z.strictObject({
  num_virtual_tokens: virtualTokens.default(20),
  ...promptFields,
});

/** Prompt tuning's config: the fields of `adapter_config.json`. */
export type PromptTuningConfig = z.infer<typeof config>;

/** Prompt tuning: trained embeddings [N, D] in front of each text (Lester et al. 2021, arXiv:2104.08691, §2). */
export const promptTuning: PeftMethod<PromptTuningConfig, PromptPlan> = {
  name: "prompt-tuning",
  config,
  presets: { prompt: {} },
  learningRate: 3e-2,
  layout: (c) => ({ virtualTokens: c.num_virtual_tokens, positionOffset: 0 }),
  plan: (sites, c) => promptPlan(sites, c, sites.tokens[0]!.width),
  tokens: (site, p, _, c) => p.param("prompt_embeddings", [c.num_virtual_tokens, site.width], normal(1)),
  files: {
    ...promptFormat("PROMPT_TUNING"),
    publish: (c, plan) => ({ ...c, ...plan, prompt_tuning_init: "RANDOM" }),
    inert: ["prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"],
  },
};
