import type { Value } from "../core/graph.js";
import { layoutOf } from "../methods/layout.js";
import type { Attachment } from "../methods/method.js";
import { type ModelDropout, outputGraph, type TaskHead, trainGraph, withBaseDtype } from "./adapted-model.js";
import type { BaseDtype } from "./base-dtype.js";
import type { BaseModel } from "./base-model.js";
import { longestText } from "./limits.js";
import { maxOutputs, maxPlaces } from "./outputs.js";
import { type ProgramUse, storesMatrices, trainingUse } from "./program.js";
import type { Sizes } from "./work.js";

/** The training options that decide what a step takes, in their names there. */
export interface BatchOptions {
  readonly batch_size: number;
  readonly max_length: number | null;
  readonly max_tokens_per_batch: number | null;
  readonly dropout: ModelDropout;
  readonly recompute: boolean;
  readonly base_dtype: BaseDtype | "auto";
}

/** A training as far as estimates need it: its graphs, and the sizes of a full batch. */
export interface TrainingPlan {
  readonly head: TaskHead;
  readonly graph: Readonly<Record<string, Value>>;
  /** The graph that evaluates, and the sizes of its batches. */
  readonly evaluation: Readonly<Record<string, Value>>;
  readonly evaluationSizes: Sizes;
  readonly use: ProgramUse;
  readonly sizes: Sizes;
  readonly base_dtype: BaseDtype;
  readonly batch_size: number;
  readonly max_length: number;
}

/** What training would run, and the sizes of its batches if all texts were as long as they may be. */
export function trainingPlan(model: BaseModel, head: TaskHead, attachments: readonly Attachment[], options: BatchOptions): TrainingPlan {
  const { max_tokens_per_batch: budget, dropout, recompute } = options;
  const stored = withBaseDtype(model, head, options.base_dtype);
  const graph = trainGraph(stored, head, attachments, dropout, recompute);
  const { virtualTokens } = layoutOf(attachments);
  const longest = longestText(model, options.max_length, attachments);
  const text = budget === null ? longest : Math.max(1, Math.min(longest, budget - virtualTokens));
  const rows = budget === null ? options.batch_size : Math.max(1, Math.floor(budget / (text + virtualTokens)));
  const { onePerText, lossShare = 1, keep } = head.task;
  /** Texts of this length, of which the head reads all, the share that bears loss, or as many as may be read. */
  const sizesOf = (texts: number, mostRead: number): Sizes => {
    const S = text + virtualTokens;
    const L = onePerText ? texts : Math.min(mostRead, Math.ceil(lossShare * texts * text));
    return { B: texts, S, A: texts, W: S, T: texts * S, R: texts * text, L }; // texts of one length share no rows in attention
  };
  const evaluated = Math.max(1, Math.floor(maxPlaces / (text + virtualTokens)));
  return {
    head,
    graph,
    evaluation: outputGraph(stored, head, attachments),
    evaluationSizes: sizesOf(evaluated, Math.floor(maxOutputs / (keep?.width ?? head.task.outputs(head.target)))),
    use: trainingUse(recompute),
    sizes: sizesOf(rows, Number.POSITIVE_INFINITY),
    base_dtype: storesMatrices(graph) ? stored.baseDtype : "f32",
    batch_size: rows,
    max_length: text,
  };
}
