import * as z from "zod";
import { type InitialComputation, type Initializer, normal } from "../core/initializer.js";
import { keyOf, randomInt } from "../core/random.js";
import { ConfigError } from "../errors.js";
import type { PeftMethod, TokenSite } from "./method.js";
import { type PromptPlan, promptFields, promptFormat, virtualTokens, virtualTokensPlan } from "./prompt-format.js";

const config = z
  .strictObject({
    num_virtual_tokens: virtualTokens.default(20),
    prompt_tuning_init: z
      .enum(["RANDOM", "SAMPLE_VOCAB", "TEXT"])
      .default("RANDOM")
      .describe("how the virtual tokens start: as noise, as random words of the vocabulary, or as the words of a text"),
    prompt_tuning_init_text: z.string().nullable().default(null).describe("that text; it is repeated or cut to fit"),
    tokenizer_name_or_path: z
      .string()
      .nullable()
      .default(null)
      .describe("whose tokenizer reads the text; only the base model's own, filled in"),
    ...promptFields,
  })
  .refine(
    (c) => (c.prompt_tuning_init === "TEXT") === (c.prompt_tuning_init_text !== null),
    "prompt_tuning_init=TEXT and prompt_tuning_init_text need each other",
  );

/** Prompt tuning's config: the fields of `adapter_config.json`. */
export type PromptTuningConfig = z.infer<typeof config>;

/** Prompt tuning: trained embeddings [N, D] in front of each text (Lester et al. 2021, arXiv:2104.08691, §2). */
export const promptTuning: PeftMethod<PromptTuningConfig, PromptPlan> = {
  name: "prompt-tuning",
  config,
  presets: { prompt: {} },
  learningRate: 3e-2,
  layout: (c) => ({ virtualTokens: c.num_virtual_tokens, positionOffset: 0 }),
  plan: virtualTokensPlan,
  tokens: (site, p, _, c) => p.param("prompt_embeddings", [c.num_virtual_tokens, site.width], start(site, c)),
  files: {
    ...promptFormat("PROMPT_TUNING"),
    read: ({ prompt_tuning_init: init, prompt_tuning_init_text: text, ...rest }) => ({
      ...rest,
      prompt_tuning_init: init ?? "RANDOM",
      ...(init === "TEXT" ? { prompt_tuning_init_text: text } : {}), // PEFT takes no notice of it otherwise
    }),
    publish: (c, plan, base) => ({
      ...c,
      ...plan,
      tokenizer_name_or_path: c.prompt_tuning_init === "TEXT" ? (c.tokenizer_name_or_path ?? base) : null,
    }),
    inert: ["tokenizer_kwargs"],
  },
};

/** How the virtual tokens start: peft.tuners.prompt_tuning.PromptEmbedding. A text's special tokens count, and it is repeated or cut to N tokens. */
function start(site: TokenSite, c: PromptTuningConfig): Initializer {
  if (c.prompt_tuning_init === "RANDOM") return normal(1);
  const N = c.num_virtual_tokens;
  const idsOf: (base: Parameters<InitialComputation>[0]) => ArrayLike<number> = ({ seed, id, tokenIds }) => {
    if (c.prompt_tuning_init_text === null) {
      const key = keyOf(seed, "init", "prompt_embeddings");
      return Array.from({ length: N }, (_, i) => randomInt(site.rows, key, i));
    }
    if (c.tokenizer_name_or_path !== null && c.tokenizer_name_or_path !== id) {
      throw new ConfigError(`tokenizer_name_or_path is ${c.tokenizer_name_or_path}, the base model is ${id}`, {
        hint: "leave it out: the text is read by the base model's tokenizer",
      });
    }
    return tokenIds(c.prompt_tuning_init_text);
  };
  const compute: InitialComputation = async (base) => {
    const ids = idsOf(base);
    if (ids.length === 0) throw new ConfigError("prompt_tuning_init_text has no tokens");
    const { data } = await base.weight(`${site.path}.weight`);
    const rows = new Float32Array(N * site.width);
    for (let i = 0; i < N; i++) {
      const id = ids[i % ids.length]!;
      rows.set(data.subarray(id * site.width, (id + 1) * site.width), i * site.width);
    }
    return [rows];
  };
  return { kind: "computed", compute, part: 0 };
}
