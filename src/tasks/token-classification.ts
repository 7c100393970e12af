import type { RowTable } from "../data/rows.js";
import { DataError, nearest } from "../errors.js";
import { crossEntropySum } from "../ops/loss.js";
import { entityCounts, entityF1, entityScores } from "./entities.js";
import { argmax, logSoftmax } from "./logits.js";
import { accuracy } from "./metrics.js";
import { readRowFeeds } from "./read-rows.js";
import type { Target, Task } from "./task.js";

/** Words to tags in BIO notation; each word is judged at its first piece. transformers' ForTokenClassification. */
export const tokenClassification = {
  name: "token-classification",
  headClass: "ForTokenClassification",
  peftTaskType: "TOKEN_CLS",
  onePerText: false,
  keepsHead: false,
  columns: { required: ["tokens", "tags"], optional: [], labels: ["tags"], lists: ["tokens", "tags"] },

  target(table) {
    const labels = new Set(table.rows.flatMap((_, i) => tagsOf(table, i) ?? fail(table, i, 'no column "tags"')));
    return { kind: "classes", labels: [...labels].sort() };
  },

  targetOf(config, outputs) {
    const { id2label } = config as { id2label?: Readonly<Record<string, string>> };
    return { kind: "classes", labels: Array.from({ length: outputs }, (_, i) => id2label?.[String(i)] ?? `LABEL_${i}`) };
  },

  encode(table, index, target, tokenizer, maxLength) {
    const words = wordsOf(table, index);
    const tags = tagsOf(table, index);
    if (tags !== undefined && tags.length !== words.length) fail(table, index, `${words.length} tokens but ${tags.length} tags`);
    const { ids, typeIds, wordStarts, wordPieces, truncated } = tokenizer.encodeWords(words, { maxLength });
    if (tags === undefined) return { ids, typeIds, truncated, reads: wordStarts, labels: undefined };
    const known = target.kind === "classes" ? target.labels : [];
    const seen = wordStarts.map((_, word) => word).filter((word) => wordPieces[word]! > 0); // as in Python, a word without pieces bears no label
    return {
      ids,
      typeIds,
      truncated,
      reads: seen.map((word) => wordStarts[word]!),
      labels: seen.map((word) => tagId(table, index, tags[word]!, known)),
    };
  },

  outputs: (target) => (target.kind === "classes" ? target.labels.length : 1),

  feeds: readRowFeeds,

  loss: (logits, batch) => crossEntropySum(logits, batch.classes),

  evaluate(outputs, examples, target) {
    const labels = target.kind === "classes" ? target.labels : [];
    const width = labels.length;
    const truth = examples.map((example) => example.labels ?? []);
    const rows = outputs.map((output) => rowsOf(output, width));
    const predicted = rows.map((each) => each.map(argmax));
    const words = truth.reduce((total, each) => total + each.length, 0);
    const loss =
      rows.reduce((total, each, i) => total - each.reduce((sum, row, j) => sum + logSoftmax(row)[truth[i]![j]!]!, 0), 0) /
      Math.max(1, words);
    const names = (ids: readonly number[]): string[] => tagsNamed(ids, target);
    const { precision, recall, f1 } = entityScores(truth.map(names), predicted.map(names));
    return { loss, metrics: { f1, precision, recall, accuracy: accuracy(truth.flat(), predicted.flat()) } };
  },

  headline: () => "f1",

  outcome(output, example, target) {
    const answers = rowsOf(output, target.kind === "classes" ? target.labels.length : 1).map(argmax);
    const [right, wanted, found] = entityCounts(tagsNamed(example.labels!, target), tagsNamed(answers, target));
    return right === wanted && right === found ? 1 : 0;
  },

  tested: () => "the F1 of the entities of all rows, whose answers are exchanged between two methods by chance",

  tally: (target) => ({
    of: (answers, truth) => answers.map((ids, row) => entityCounts(tagsNamed(truth[row]!, target), tagsNamed(ids, target))),
    score: ([right = 0, wanted = 0, found = 0]) => entityF1([right, wanted, found]),
  }),

  predict(outputs, table, target, logits = false) {
    const labels = target.kind === "classes" ? target.labels : [];
    return outputs.map((output, i) => {
      const tokens = wordsOf(table, i);
      const rows = rowsOf(output, labels.length);
      const tags = tokens.map((_, j) => (rows[j] === undefined ? "O" : labels[argmax(rows[j])]!));
      return { tokens, tags, ...(logits ? { logits: rows.map((row) => Array.from(row)) } : {}) };
    });
  },
} satisfies Task;

function tagsNamed(ids: readonly number[], target: Target): string[] {
  const labels = target.kind === "classes" ? target.labels : [];
  return ids.map((id) => labels[id]!);
}

function rowsOf(output: Float32Array, width: number): Float32Array[] {
  return Array.from({ length: output.length / width }, (_, i) => output.subarray(i * width, (i + 1) * width));
}

function wordsOf(table: RowTable, index: number): readonly string[] {
  const { tokens } = table.rows[index]!;
  if (!Array.isArray(tokens) || tokens.length === 0 || tokens.some((token) => typeof token !== "string")) {
    const there = Object.keys(table.rows[index]!);
    const guess =
      tokens === undefined ? (nearest("tokens", there) ?? there.find((each) => Array.isArray(table.rows[index]![each]))) : undefined;
    throw new DataError(`${table.where(index)}: "tokens" must be a list of words; there are: ${there.join(", ")}`, {
      hint: guess === undefined ? 'a row is {"tokens": [...], "tags": [...]}' : `if "${guess}" is meant: --map tokens=${guess}`,
    });
  }
  return tokens as string[];
}

function tagsOf(table: RowTable, index: number): readonly string[] | undefined {
  const { tags } = table.rows[index]!;
  if (tags === undefined || tags === null) return undefined;
  if (!Array.isArray(tags) || tags.some((tag) => typeof tag !== "string" && typeof tag !== "number"))
    return fail(table, index, '"tags" must be a list of tags');
  return tags.map(String);
}

function tagId(table: RowTable, index: number, tag: string, labels: readonly string[]): number {
  const id = labels.indexOf(tag);
  if (id >= 0) return id;
  const guess = nearest(tag, labels);
  throw new DataError(`${table.where(index)}: tag "${tag}" is not one the model knows: ${labels.join(", ")}`, {
    hint: guess === undefined ? undefined : `did you mean "${guess}"?`,
  });
}

function fail(table: RowTable, index: number, problem: string): never {
  throw new DataError(`${table.where(index)}: ${problem}`, {
    hint: 'a row is {"tokens": [...], "tags": [...]}; if the tags have another name: --map tags=ner_tags',
  });
}
