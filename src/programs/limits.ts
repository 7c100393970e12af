import type { Packing } from "../data/collate.js";
import { layoutOf } from "../methods/layout.js";
import type { Attachment } from "../methods/method.js";
import type { BaseModel } from "./base-model.js";

/** How texts stand in a model's batches with these methods. */
export function packingOf(model: BaseModel, attachments: readonly Attachment[]): Packing {
  const { virtualTokens, positionOffset } = layoutOf(attachments);
  const { family, config } = model;
  return {
    virtualTokens,
    firstPosition: family.limits(config).firstPosition + positionOffset,
    summary: family.causal === true ? "last" : "first",
  };
}

/** The longest text that a model takes, in tokens, special ones included, less what the methods put in front; `asked` may shorten it. */
export function longestText(model: BaseModel, asked: number | null, attachments: readonly Attachment[]): number {
  const { virtualTokens, positionOffset } = layoutOf(attachments);
  const room = model.family.limits(model.config).maxPositions - virtualTokens - positionOffset;
  return Math.min(asked ?? Number.POSITIVE_INFINITY, room, model.tokenizer.modelMaxLength ?? Number.POSITIVE_INFINITY);
}
