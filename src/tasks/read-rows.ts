import { type Feeds, i32 } from "../core/tensor.js";
import type { PackedBatch } from "../data/collate.js";
import { foretells } from "../ops/foretold.js";
import { crossEntropySum } from "../ops/loss.js";
import { type Example, type Metrics, type Outputs, slices, type Task } from "./task.js";

/** The inputs of tasks whose head reads some rows of each text: those rows [L], and the class that each is to give, -1 for one that is not known. */
export function readRowFeeds(batch: PackedBatch, examples: readonly Example[]): Feeds {
  const rows = examples.flatMap(({ reads }, b) => (reads ?? []).map((read) => batch.textStarts[b]! + read));
  return { lossRows: i32(rows), classes: i32(examples.flatMap(({ labels, reads }) => labels ?? (reads ?? []).map(() => -1))) };
}

/** The mean loss of a token in nats, its perplexity and how often the likeliest token is right, from kept rows [loss, likeliest token, …] of `width` numbers. */
function tokenMetrics(outputs: Outputs, examples: readonly Example[], width: number): { readonly loss: number; readonly metrics: Metrics } {
  const kept = outputs.flatMap((output) => slices(output, width));
  const truth = examples.flatMap(({ labels }) => labels ?? []);
  const loss = kept.reduce((total, row) => total + row[0]!, 0) / kept.length;
  const right = kept.filter((row, i) => row[1] === truth[i]).length;
  return { loss, metrics: { perplexity: Math.exp(loss), accuracy: right / kept.length } };
}

/** The mean log-likelihood of one row's tokens in nats, from its kept rows [loss, …] of `width` numbers; 0 for a row of which none is foretold. */
function tokenOutcome(output: Float32Array, width: number): number {
  const rows = slices(output, width);
  return rows.length === 0 ? 0 : -rows.reduce((total, row) => total + row[0]!, 0) / rows.length;
}

/** Numbers kept of a row's logits where the `shown` likeliest tokens are: its loss, and each token with the logarithm of its probability. */
export const foretoldWidth = (shown: number): number => 1 + 2 * shown;

/** What tasks that foretell tokens share: loss, evaluation, and what is kept of the logits, the `shown` likeliest tokens of each row. */
export function foretelling(shown: number): Pick<Task, "feeds" | "loss" | "keep" | "evaluate" | "headline" | "outcome" | "tested"> {
  const width = foretoldWidth(shown);
  return {
    feeds: readRowFeeds,
    loss: (logits, batch) => crossEntropySum(logits, batch.classes),
    keep: { width, of: (logits, batch) => foretells(logits, batch.classes, shown) },
    evaluate: (outputs, examples) => tokenMetrics(outputs, examples, width),
    headline: () => "loss",
    outcome: (output) => tokenOutcome(output, width),
    tested: () => "row by row, log-likelihood of a row's token, in nats",
  };
}
