import { named } from "../core/registry.js";
import { ModelError } from "../errors.js";
import { bert } from "./bert.js";
import { distilbert } from "./distilbert.js";
import type { ModelFamily } from "./family.js";
import { gpt2 } from "./gpt2.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { roberta } from "./roberta.js";

/** All model families. */
export const families: readonly ModelFamily[] = [bert, roberta, distilbert, gpt2, llama, mistral, qwen2, qwen3];

/** The family of a config.json, by its `model_type`. Throws ModelError or ConfigError that lists the types there are. */
export function familyOf(config: unknown): ModelFamily {
  const type = typeof config === "object" && config !== null && "model_type" in config ? config.model_type : undefined;
  if (typeof type !== "string") {
    throw new ModelError("config.json has no model_type", {
      hint: `supported: ${families.flatMap((family) => family.model_types).join(", ")}`,
    });
  }
  return named(families, "model_type", type, (family) => family.model_types);
}
