import type { BatchInputs } from "../core/batch.js";
import type { Initializer } from "../core/initializer.js";
import type { Attachment } from "../methods/method.js";
import type { WeightForm } from "../ops/weight-form.js";

/** What a builder is given. */
export interface BuilderOptions {
  readonly batch: BatchInputs;
  /** Whether the checkpoint has a weight, by its path in the model. */
  has(path: string): boolean;
  /** Modules of the task, trained with every adapter (`classifier`). */
  readonly headModules: readonly string[];
  /** Weights that the adapter's files hold in place of the base's, beside what its config names; none by default. */
  readonly brought?: readonly string[] | undefined;
  /** Methods to apply, in order. None for a survey. */
  readonly attachments: readonly Attachment[];
  /** Dropout in the model while training, from the rate that the model's config states; undefined when not training. */
  readonly dropout?: ((configured: number) => number) | undefined;
  /** How frozen matrices of linear layers are stored; float32 by default. */
  readonly form?: WeightForm | undefined;
  /** The same of a frozen output layer over the vocabulary. */
  readonly headForm?: WeightForm | undefined;
}

/** What a linear layer may say beyond its sizes. */
export interface LinearOptions {
  readonly bias?: boolean;
  /** How the weight starts where the checkpoint lacks it; without it a missing weight is an error. */
  readonly init?: Initializer;
  /** Whether the checkpoint holds the weight as [in, out], as transformers' Conv1D does. */
  readonly transposed?: boolean;
  /** Path of the weight that serves as this layer's too, unless the layer is trained in full (`modules_to_save`). */
  readonly tied?: string | undefined;
  /** As in LinearSite. */
  readonly rescaled?: boolean | undefined;
}

/** What attention must know beyond queries, keys and values. */
export interface AttentionOptions {
  /** Heads of the queries. */
  readonly heads: number;
  /** Heads of keys and values, each of which serves heads / kvHeads of the queries' heads; as many by default. */
  readonly kvHeads?: number;
  /** The configured rate of dropout on the probabilities. */
  readonly dropout: number;
  /** Whether a token sees only itself and those before it. */
  readonly causal?: boolean;
  /** Whether it sees only the last so many of them; null for all. */
  readonly window?: number | null;
}
