import type { BaseModel } from "./base-model.js";

/** The longest text that a model takes, in tokens, special ones included; `asked` may shorten it. */
export function longestText(model: BaseModel, asked: number | null): number {
  return Math.min(
    asked ?? Number.POSITIVE_INFINITY,
    model.family.limits(model.config).maxPositions,
    model.tokenizer.modelMaxLength ?? Number.POSITIVE_INFINITY,
  );
}
