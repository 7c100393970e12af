import type { BatchInputs } from "../core/batch.js";
import type { Value } from "../core/graph.js";
import type { RandomKey } from "../core/random.js";
import type { Feeds } from "../core/tensor.js";
import type { EncodedText, PackedBatch } from "../data/collate.js";
import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { ConfigError } from "../errors.js";

/** What a model is to give: one of some classes, a number, or a token. */
export type Target =
  | { readonly kind: "classes"; readonly labels: readonly string[] }
  | { readonly kind: "number" }
  | { readonly kind: "tokens"; readonly vocabulary: Vocabulary };

/** A model's tokens. */
export interface Vocabulary {
  readonly tokenizer: Tokenizer;
  /** Rows of the model's word embeddings; there may be more than tokens. */
  readonly size: number;
}

/** A row as the task trains on it or predicts from it. */
export interface Example extends EncodedText {
  /** What each of the head's rows of this text is to give: class ids, or a number; undefined where the row has no labels. */
  readonly labels: readonly number[] | undefined;
  /** Tokens of the text that the head reads, from 0; undefined where it reads the first row of each text. */
  readonly reads?: readonly number[];
  /** Whether the text was cut to the longest length. */
  readonly truncated: boolean;
  /** The ids before any of them was covered up by chance, where the task does so. */
  readonly whole?: Int32Array;
}

/** Which tokens of a row are learned, where that is open: for tasks that foretell tokens. */
export interface LossScope {
  /** All of them, not only what the model is to say. */
  readonly train_on_prompt: boolean;
  /** Of a conversation only the assistant's last turn. */
  readonly last_turn_only: boolean;
}

/** How well predictions agree with the rows' labels; null where a metric is not defined. */
export type Metrics = Readonly<Record<string, number | null>>;

/** What comes out for one row. */
export type Prediction = Readonly<Record<string, unknown>>;

/** Outputs of the head, or what the task keeps of them, one array an example, row-major [rows read, outputs or kept]. */
export type Outputs = readonly Float32Array[];

/** A task: rows to examples, the loss, and what the outputs mean. */
export interface Task {
  /** The Hub's name of the task. */
  readonly name: string;
  /** The end of transformers' class names for it: "ForSequenceClassification". */
  readonly headClass: string;
  /** PEFT's `task_type`; null where it has none. */
  readonly peftTaskType: string | null;
  /** Columns that a training row must have, those it may have, and which of them are what is to be predicted. */
  readonly columns: {
    readonly required: readonly string[];
    readonly optional: readonly string[];
    readonly labels: readonly string[];
    /** Columns that hold lists. */
    readonly lists?: readonly string[];
    /** Other sets of columns that make a row instead of the required ones. */
    readonly alternatives?: readonly (readonly string[])[];
  };
  /** Whether the head reads one row of each text, its first token; then a model need not compute the others in its last layer. */
  readonly onePerText: boolean;
  /** The share of a text's tokens that bear loss in training, about; all of them by default. Only where the head reads more than one row of a text. */
  readonly lossShare?: number;
  /** Whether a head that the base model brings stays as it is, because it gives the same whatever the rows are. */
  readonly keepsHead: boolean;
  /** Whether predictions say how likely a row's own labels are, so that rows to predict keep them. */
  readonly judgesLabels?: true;
  /** Whether a row that the head reads is to give the text's next token; then a LossScope has a say in which are learned. */
  readonly foretells?: true;
  /** What training rows teach the model to give. Throws DataError with file and line. */
  target(rows: RowTable, vocabulary: Vocabulary): Target;
  /** The target that a model with this config.json and this number of outputs has. */
  targetOf(config: unknown, outputs: number, tokenizer: Tokenizer): Target;
  /** One row. Throws DataError with file and line for a missing or unfit column, or a label that the target does not know. */
  encode(rows: RowTable, index: number, target: Target, tokenizer: Tokenizer, maxLength: number, scope?: LossScope): Example;
  /** An example as one pass over the rows sees it, where chance has a part in that. */
  redraw?(example: Example, target: Target, key: RandomKey): Example;
  /** What is kept of the head's logits [L, outputs] where they are too wide to keep: [L, width], computed beside them. */
  readonly keep?: { readonly width: number; of(logits: Value, batch: BatchInputs): Value };
  /** Outputs of the head per loss row. */
  outputs(target: Target): number;
  /** The loss's own inputs for a packed batch. */
  feeds(batch: PackedBatch, examples: readonly Example[], target: Target): Feeds;
  /** The sum of the rows' losses, a scalar in nats (squared units for numbers). logits [L, outputs]. */
  loss(logits: Value, batch: BatchInputs, target: Target): Value;
  /** The mean loss of labelled examples and their metrics. */
  evaluate(outputs: Outputs, examples: readonly Example[], target: Target): { readonly loss: number; readonly metrics: Metrics };
  /** The metric by which runs are compared, higher is better; "loss" for the loss, lower is better. */
  headline(target: Target): string;
  /** How well one labelled row is predicted, for comparing models row by row: higher is better, 1 and 0 where a row is right or wrong. */
  outcome(output: Float32Array, example: Example, target: Target): number;
  /** What tests between models compare, in words: "row by row, rows right". */
  tested(target: Target): string;
  /**
   * Where the headline metric is no mean over rows: how to get it from what rows add to it. Models are then compared by the metric itself, with
   * rows' answers exchanged, and not by their outcomes.
   */
  tally?(target: Target): Tally | undefined;
  /** What the outputs say of each row; with `logits` they are whole and given too. */
  predict(outputs: Outputs, rows: RowTable, target: Target, logits?: boolean): readonly Prediction[];
}

/** A metric of sums over rows. */
export interface Tally {
  /** What each row adds [rows][counts], of the answers [rows] of one model and the truth: ids of classes, or a number. */
  of(answers: readonly (readonly number[])[], truth: readonly (readonly number[])[]): readonly (readonly number[])[];
  /** The metric of the sums [counts]. */
  score(sums: readonly number[]): number;
}

/** The tokens that a target gives. Throws TypeError for a target of another kind, which the task did not make. */
export function vocabularyOf(target: Target): Vocabulary {
  if (target.kind === "tokens") return target.vocabulary;
  throw new TypeError(`the task gives tokens, not ${target.kind}`);
}

/** Throws ConfigError for a choice of tokens where the task leaves none. */
export function checkScope({ name, foretells }: Task, { train_on_prompt, last_turn_only }: LossScope): void {
  if (foretells === true || !(train_on_prompt || last_turn_only)) return;
  const option = train_on_prompt ? "--train-on-prompt" : "--last-turn-only";
  throw new ConfigError(`${option} says which tokens of a text are learned; ${name} does not learn texts`, {
    hint: "it is for --task text-generation",
  });
}

/** The rows of outputs [rows, width]. */
export function slices(values: Float32Array, width: number): readonly Float32Array[] {
  return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
}
