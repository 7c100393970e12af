import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { DataError, ModelError } from "../errors.js";
import { crossEntropySum } from "../ops/loss.js";
import { missingColumn, textColumn } from "./columns.js";
import { argmax, logSoftmax } from "./logits.js";
import { readRowFeeds, tokenMetrics, tokenOutcome } from "./read-rows.js";
import { type Example, slices, type Task, vocabularyOf } from "./task.js";

/** Numbers kept of a token's logits: its loss, and the likeliest token. */
const keptWidth = 2;

/**
 * Each token from those before it. The loss covers the completion and the end token, or a whole text but for its first token.
 * transformers' ForCausalLM.
 */
export const textGeneration: Task = {
  name: "text-generation",
  headClass: "ForCausalLM",
  peftTaskType: "CAUSAL_LM",
  onePerText: false,
  keepsHead: true,
  judgesLabels: true,
  columns: { required: ["prompt", "completion"], optional: ["text"], labels: ["completion"] },

  target(_, vocabulary) {
    endToken(vocabulary.tokenizer);
    return { kind: "tokens", vocabulary };
  },

  targetOf: (_, size, tokenizer) => ({ kind: "tokens", vocabulary: { tokenizer, size } }),

  encode: (table, index, _, tokenizer, maxLength) => encoded(table, index, tokenizer, maxLength),

  outputs: (target) => vocabularyOf(target).size,

  feeds: readRowFeeds,

  loss: (logits, batch) => crossEntropySum(logits, batch.classes),

  keep: {
    width: keptWidth,
    of: (row, label) => Float32Array.of(label === undefined ? Number.NaN : -logSoftmax(row)[label]!, argmax(row)),
  },

  evaluate: (outputs, examples) => tokenMetrics(outputs, examples, keptWidth),

  headline: () => "loss",

  outcome: (output) => tokenOutcome(output, keptWidth),

  outcomeName: () => "log-likelihood of a row's token, in nats",

  /** How likely each row's completion is, in nats; the end token behind it does not count. With `logits` those of its first token. */
  predict(outputs, table, target, logits = false) {
    const { tokenizer, size } = vocabularyOf(target);
    return outputs.map((output, i) => {
      const labels = encoded(table, i, tokenizer, Number.POSITIVE_INFINITY).labels!.slice(0, -1);
      const rows = slices(output, logits ? size : keptWidth).slice(0, labels.length);
      const logOf = (row: Float32Array, at: number): number => (logits ? logSoftmax(row)[labels[at]!]! : -row[0]!);
      const logprob = rows.reduce((total, row, at) => total + logOf(row, at), 0);
      return { logprob, tokens: rows.length, ...(logits ? { logits: Array.from(rows[0] ?? []) } : {}) };
    });
  },
};

/** A row's tokens: the prompt with the special tokens before it, then the completion and the end token, which are its labels. */
function encoded(table: RowTable, index: number, tokenizer: Tokenizer, maxLength: number): Example {
  const text = textColumn(table, index, "text");
  const completion = textColumn(table, index, "completion");
  const prompt = textColumn(table, index, "prompt");
  if (text === undefined && completion === undefined) throw missingColumn(table, index, prompt === undefined ? "text" : "completion");
  if (text !== undefined && completion !== undefined)
    throw new DataError(
      `${table.where(index)}: the row has "text" and "completion"; it is either a whole text or a prompt with a completion`,
    );
  const head = tokenizer.encode(text ?? prompt ?? "").ids;
  const tail = completion === undefined ? [] : tokenizer.encode(completion, { addSpecialTokens: false }).ids;
  if (completion !== undefined && tail.length === 0) {
    throw new DataError(`${table.where(index)}: the completion is empty`, { hint: "a completion is what the model is to say" });
  }
  const whole = [...head, ...tail, endToken(tokenizer)];
  if (whole.length === 1) throw new DataError(`${table.where(index)}: the text is empty`);
  const first = Math.max(1, completion === undefined ? 1 : head.length);
  const length = Math.min(whole.length, maxLength + 1); // the last token is only foretold, not read
  const ids = Int32Array.from(whole.slice(0, length - 1));
  return {
    ids,
    typeIds: new Int32Array(ids.length),
    truncated: length < whole.length,
    reads: Array.from({ length: Math.max(0, length - first) }, (_, i) => first - 1 + i),
    labels: whole.slice(first, length),
  };
}

/** The token that ends a text. Throws ModelError for a tokenizer without one. */
function endToken(tokenizer: Tokenizer): number {
  if (tokenizer.eosId !== undefined) return tokenizer.eosId;
  throw new ModelError("the model's tokenizer has no end token", { hint: "tokenizer_config.json would name its eos_token" });
}
