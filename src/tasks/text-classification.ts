import { f32, i32 } from "../core/tensor.js";
import type { RowTable } from "../data/rows.js";
import { DataError, nearest } from "../errors.js";
import { crossEntropySum, squaredErrorSum } from "../ops/loss.js";
import { missingColumn, textColumn } from "./columns.js";
import { argmax, logSoftmax } from "./logits.js";
import { accuracy, correlationTally, macroF1, matthews, mse, pearson, spearman } from "./metrics.js";
import type { Target, Task } from "./task.js";

/** Texts, or pairs of texts, to one of some labels; with float labels, to a number. transformers' ForSequenceClassification. */
export const textClassification = {
  name: "text-classification",
  headClass: "ForSequenceClassification",
  peftTaskType: "SEQ_CLS",
  onePerText: true,
  keepsHead: false,
  columns: { required: ["text", "label"], optional: ["text_pair"], labels: ["label"] },

  target(table) {
    const values = table.rows.map((_, i) => rawLabel(table, i));
    const numbers = values.filter((value) => typeof value === "number");
    if (numbers.length > 0 && numbers.length < values.length) {
      const odd = values.findIndex((value) => (typeof value === "number") !== (typeof values[0] === "number"));
      throw new DataError(
        `${table.where(odd)}: label ${JSON.stringify(values[odd])} is a ${typeof values[odd]}, the rows before have a ${typeof values[0]}`,
        {
          hint: "use strings or whole numbers for classes, or only numbers for a regression",
        },
      );
    }
    if (numbers.some((value) => !Number.isInteger(value))) return { kind: "number" };
    const labels = numbers.length > 0 ? [...new Set(numbers)].sort((a, b) => a - b).map(String) : [...new Set(values.map(String))].sort();
    if (labels.length < 2) {
      throw new DataError(`${table.origin}: all rows have the label ${JSON.stringify(labels[0])}`, {
        hint: "classification needs at least two labels",
      });
    }
    return { kind: "classes", labels };
  },

  targetOf(config, outputs) {
    const { id2label, problem_type: problem } = config as { id2label?: Readonly<Record<string, string>>; problem_type?: string };
    if (outputs === 1 || problem === "regression") return { kind: "number" };
    const names = Array.from({ length: outputs }, (_, i) => id2label?.[String(i)]);
    const complete = id2label !== undefined && Object.keys(id2label).length === outputs && names.every((name) => name !== undefined);
    return { kind: "classes", labels: complete ? (names as string[]) : names.map((_, i) => `LABEL_${i}`) };
  },

  encode(table, index, target, tokenizer, maxLength) {
    const text = textColumn(table, index, "text");
    if (text === undefined) throw missingColumn(table, index, "text");
    const pair = textColumn(table, index, "text_pair");
    const { ids, typeIds, truncated } = tokenizer.encode(text, { maxLength, ...(pair === undefined ? {} : { pair }) });
    const { label } = table.rows[index]!;
    return { ids, typeIds, truncated, labels: label === undefined || label === null ? undefined : [labelId(table, index, target)] };
  },

  outputs: (target) => (target.kind === "classes" ? target.labels.length : 1),

  feeds(batch, examples, target) {
    const labels = examples.map((example) => example.labels?.[0] ?? 0);
    return { lossRows: i32(batch.summaryRows), ...(target.kind === "classes" ? { classes: i32(labels) } : { targets: f32(labels) }) };
  },

  loss: (logits, batch, target) =>
    target.kind === "classes" ? crossEntropySum(logits, batch.classes) : squaredErrorSum(logits, batch.targets),

  evaluate(outputs, examples, target) {
    const truth = examples.map(({ labels }) => labels![0]!);
    if (target.kind === "number") {
      const predicted = outputs.map((row) => row[0]!);
      const loss = mse(truth, predicted);
      return { loss, metrics: { pearson: pearson(truth, predicted), spearman: spearman(truth, predicted), mse: loss } };
    }
    const predicted = outputs.map(argmax);
    const loss = outputs.reduce((total, row, i) => total - logSoftmax(row)[truth[i]!]!, 0) / outputs.length;
    return {
      loss,
      metrics: { accuracy: accuracy(truth, predicted), macro_f1: macroF1(truth, predicted), matthews: matthews(truth, predicted) },
    };
  },

  headline: (target) => (target.kind === "classes" ? "accuracy" : "pearson"),

  outcome(output, { labels }, target) {
    if (target.kind === "classes") return argmax(output) === labels![0] ? 1 : 0;
    return -((output[0]! - labels![0]!) ** 2);
  },

  tested: (target) =>
    target.kind === "classes"
      ? "row by row, rows right"
      : "Pearson's correlation over all rows, whose standardised answers are exchanged between two methods by chance",

  tally: (target) => (target.kind === "classes" ? undefined : correlationTally),

  predict(outputs, _, target, logits = false) {
    return outputs.map((row) => {
      const best = argmax(row);
      const prediction =
        target.kind !== "classes"
          ? { label: row[0]!, score: row[0]! }
          : { label: target.labels[best]!, score: Math.exp(logSoftmax(row)[best]!) };
      return logits ? { ...prediction, logits: Array.from(row) } : prediction;
    });
  },
} satisfies Task;

function rawLabel(table: RowTable, index: number): string | number {
  const { label } = table.rows[index]!;
  if (label === undefined || label === null) throw missingColumn(table, index, "label");
  if (typeof label === "boolean") return String(label);
  if (typeof label === "string" || (typeof label === "number" && Number.isFinite(label))) return label;
  throw new DataError(`${table.where(index)}: label ${JSON.stringify(label)} is neither a text nor a number`);
}

function labelId(table: RowTable, index: number, target: Target): number {
  const label = rawLabel(table, index);
  if (target.kind !== "classes") {
    const value = typeof label === "number" ? label : Number.NaN;
    if (Number.isFinite(value)) return value;
    throw new DataError(`${table.where(index)}: label ${JSON.stringify(label)} is not a number, but the model was trained on numbers`);
  }
  const id = target.labels.indexOf(String(label));
  if (id >= 0) return id;
  const guess = nearest(String(label), target.labels);
  const known =
    target.labels.length > 12 ? `${target.labels.slice(0, 12).join(", ")}, … (${target.labels.length})` : target.labels.join(", ");
  throw new DataError(`${table.where(index)}: label ${JSON.stringify(label)} is not one the model knows: ${known}`, {
    hint: guess === undefined ? "every label must occur in the training rows" : `did you mean "${guess}"?`,
  });
}
