import { keyOf } from "../core/random.js";
import { type Feeds, f32 } from "../core/tensor.js";
import { type Packing, packTexts } from "../data/collate.js";
import type { RowTable } from "../data/rows.js";
import { epochBatches } from "../data/sampler.js";
import { holdOut } from "../data/split.js";
import { DataError } from "../errors.js";
import type { Attachment } from "../methods/method.js";
import type { TaskHead } from "../programs/adapted-model.js";
import type { BaseModel } from "../programs/base-model.js";
import { longestText } from "../programs/limits.js";
import { checkScope, type Example } from "../tasks/task.js";
import type { TrainingOptions } from "./options.js";

/** Share of the training rows held out where no evaluation rows are given. */
const heldOutShare = 0.1;
/** With fewer rows than this nothing is held out. */
const leastRowsToHoldOut = 20;

/** Rows made ready for training. */
export interface TrainingData {
  readonly examples: readonly Example[];
  readonly evalExamples: readonly Example[];
  readonly evalSource: "given" | "held-out" | "none";
  /** Training rows whose text was cut, those left out included. */
  readonly truncated: number;
  /** Training rows that are left out because nothing to learn was left of them. */
  readonly dropped: number;
  /** A hash of all tokens and labels, to tell whether a resumed run has the same rows. */
  readonly fingerprint: string;
}

/** A batch of an optimiser step. */
export interface MicroBatch {
  readonly feeds: Feeds;
  readonly texts: number;
  readonly tokens: number;
}

/** Which batches make up which optimiser step: a pure function of the data, the options and the seed. */
export interface StepPlan {
  /** Steps in the first epoch; with a budget of tokens other epochs may have a few more or less. */
  readonly perEpoch: number;
  readonly total: number;
  /** Epochs done after so many steps, a whole number exactly at the end of each. */
  epochAt(steps: number): number;
  /** The batches of a step (from 0), collated. Their loss scales add up to the mean over all of the step's rows. */
  prepare(step: number): readonly MicroBatch[];
}

/** Encodes all rows, and holds some out where there are none to evaluate on. Throws DataError with file and line. */
export function prepareData(
  model: BaseModel,
  { task, target }: TaskHead,
  attachments: readonly Attachment[],
  rows: RowTable,
  evalRows: RowTable | undefined,
  options: TrainingOptions,
): TrainingData {
  const longest = longestText(model, options.max_length, attachments);
  checkScope(task, options);
  const encode = (table: RowTable): Example[] =>
    table.rows.map((_, i) => {
      const example = task.encode(table, i, target, model.tokenizer, longest, options);
      if (!example.truncated || options.on_truncation === "cut") return example;
      throw new DataError(`${table.where(i)}: the text is longer than ${longest} tokens`, {
        hint: "raise --max-length, or let texts be cut: --on-truncation cut",
      });
    });
  // A row whose labels were all cut off teaches nothing, and there is nothing to judge in it.
  const taughtBy = (table: RowTable, examples: readonly Example[]): readonly Example[] => {
    const taught = examples.filter(({ labels }) => labels?.length !== 0);
    if (taught.length > 0) return taught;
    throw new DataError(`${table.origin}: after cutting texts at ${longest} tokens no row has anything left to learn`, {
      hint: "raise --max-length, or shorten what stands before the labels",
    });
  };
  const labelled = (table: RowTable): readonly Example[] => {
    const examples = encode(table);
    const bare = examples.findIndex(({ labels }) => labels === undefined);
    if (bare < 0) return taughtBy(table, examples);
    throw new DataError(`${table.where(bare)}: the row has no label`, { hint: "rows to evaluate on need labels as those to train on do" });
  };
  const all = encode(rows);
  const taught = taughtBy(rows, all);
  const parts =
    evalRows === undefined
      ? splitOff(taught, target.kind === "classes", options.seed)
      : { examples: taught, evalExamples: labelled(evalRows) };
  return {
    ...parts,
    evalSource: evalRows !== undefined ? "given" : parts.evalExamples.length > 0 ? "held-out" : "none",
    truncated: all.filter(({ truncated }) => truncated).length,
    dropped: all.length - taught.length,
    fingerprint: fingerprint([...parts.examples, ...parts.evalExamples]),
  };
}

function splitOff(
  all: readonly Example[],
  classes: boolean,
  seed: number,
): { readonly examples: readonly Example[]; readonly evalExamples: readonly Example[] } {
  if (all.length < leastRowsToHoldOut) return { examples: all, evalExamples: [] };
  const { train, held } = holdOut(
    all.length,
    heldOutShare,
    seed,
    classes ? all.map(({ labels }) => (labels?.length === 1 ? labels[0]! : 0)) : undefined,
  );
  return { examples: Array.from(train, (i) => all[i]!), evalExamples: Array.from(held, (i) => all[i]!) };
}

/** Lays out the optimiser steps of a training. Throws ConfigError where a row is longer than a batch may be. */
export function planSteps({ task, target }: TaskHead, packing: Packing, examples: readonly Example[], options: TrainingOptions): StepPlan {
  const { batch_size: batchSize, max_tokens_per_batch: maxTokens, gradient_accumulation_steps: accumulation } = options;
  const { seed, group_by_length: groupByLength } = options;
  const lengths = examples.map(({ ids }) => packing.virtualTokens + ids.length);
  let current: { readonly epoch: number; readonly batches: readonly Int32Array[] } | undefined;
  const batchesOf = (epoch: number): readonly Int32Array[] => {
    if (current?.epoch !== epoch) current = { epoch, batches: epochBatches({ lengths, batchSize, maxTokens, seed, epoch, groupByLength }) };
    return current.batches;
  };
  const counts: number[] = [];
  const stepsIn = (epoch: number): number => {
    counts[epoch] ??= Math.ceil(batchesOf(epoch).length / accumulation);
    return counts[epoch];
  };
  /** The epoch that comes after so many steps, and how many of them are its own. */
  const placeAfter = (steps: number): { readonly epoch: number; readonly within: number } => {
    let [epoch, within] = [0, steps];
    for (; within >= stepsIn(epoch); epoch++) within -= stepsIn(epoch);
    return { epoch, within };
  };
  const whole = Math.floor(options.epochs);
  const part = options.epochs - whole;
  const inEpochs = (): number =>
    Array.from({ length: whole }, (_, epoch) => stepsIn(epoch)).reduce((sum, steps) => sum + steps, 0) +
    (part === 0 ? 0 : Math.ceil(part * stepsIn(whole) - 1e-9)); // 2.1 - 2 is a little more than 0.1
  return {
    perEpoch: stepsIn(0),
    total: options.max_steps ?? Math.max(inEpochs(), options.min_steps ?? 0),
    epochAt(steps) {
      const { epoch, within } = placeAfter(steps);
      return epoch + within / stepsIn(epoch);
    },
    prepare(step) {
      const { epoch, within } = placeAfter(step);
      const first = within * accumulation;
      const seen = (row: number): Example => task.redraw?.(examples[row]!, target, keyOf(seed, "redraw", epoch, row)) ?? examples[row]!;
      const batches = batchesOf(epoch)
        .slice(first, first + accumulation)
        .map((rows) => Array.from(rows, seen));
      const rows = batches.flat().reduce((count, { labels }) => count + (labels?.length ?? 0), 0);
      return batches.map((batch) => {
        const packed = packTexts(batch, packing);
        const feeds = { ...packed.feeds, ...task.feeds(packed, batch, target), lossScale: f32([1 / rows], []) };
        return { feeds, texts: packed.texts, tokens: packed.tokens };
      });
    },
  };
}

/** FNV-1a over all tokens and labels, as 8 hex digits. */
function fingerprint(examples: readonly Example[]): string {
  let hash = 0x811c9dc5;
  const word = new Int32Array(2);
  const label = new Float64Array(word.buffer);
  const mix = (value: number): void => {
    hash = Math.imul(hash ^ value, 0x01000193);
  };
  for (const example of examples) {
    mix(example.ids.length);
    for (const id of example.ids) mix(id);
    for (const value of example.labels ?? []) {
      label[0] = value;
      mix(word[0]!);
      mix(word[1]!);
    }
  }
  return (hash >>> 0).toString(16).padStart(8, "0");
}
