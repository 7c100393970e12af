import type { ChatMessage } from "../data/chat.js";
import { chatMessages, encodeChat } from "../data/chat-turns.js";
import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { DataError, ModelError } from "../errors.js";
import { missingColumn, textColumn } from "./columns.js";
import { logSoftmax } from "./logits.js";
import { foretelling, foretoldWidth } from "./read-rows.js";
import { type Example, type LossScope, slices, type Task, vocabularyOf } from "./task.js";

/** Numbers kept of a token's logits. */
const keptWidth = foretoldWidth(1);

/**
 * Each token from those before it. The loss covers the completion and the end token, of a conversation the assistant's turns each with its
 * end token, or a whole text but for its first token.
 * transformers' ForCausalLM.
 */
export const textGeneration: Task = {
  name: "text-generation",
  headClass: "ForCausalLM",
  peftTaskType: "CAUSAL_LM",
  onePerText: false,
  keepsHead: true,
  judgesLabels: true,
  foretells: true,
  columns: {
    required: ["prompt", "completion"],
    alternatives: [["messages"], ["text"]],
    optional: [],
    labels: ["completion", "messages"],
  },

  target(_, vocabulary) {
    endToken(vocabulary.tokenizer);
    return { kind: "tokens", vocabulary };
  },

  targetOf: (_, size, tokenizer) => ({ kind: "tokens", vocabulary: { tokenizer, size } }),

  encode: (table, index, _, tokenizer, maxLength, scope) => encoded(table, index, tokenizer, maxLength, scope),

  outputs: (target) => vocabularyOf(target).size,

  ...foretelling(1),

  /**
   * How likely each row's completion is, in nats; the end token behind it does not count. Of a conversation, how likely the assistant's turns
   * are, each with its end token, as the loss has it. With `logits` those of the first token.
   */
  predict(outputs, table, target, logits = false) {
    const { tokenizer, size } = vocabularyOf(target);
    return outputs.map((output, i) => {
      const { labels: all = [] } = encoded(table, i, tokenizer, Number.POSITIVE_INFINITY);
      const labels = conversation(table, i) === undefined ? all.slice(0, -1) : all;
      const rows = slices(output, logits ? size : keptWidth).slice(0, labels.length);
      const logOf = (row: Float32Array, at: number): number => (logits ? logSoftmax(row)[labels[at]!]! : -row[0]!);
      const logprob = rows.reduce((total, row, at) => total + logOf(row, at), 0);
      return { logprob, tokens: rows.length, ...(logits ? { logits: Array.from(rows[0] ?? []) } : {}) };
    });
  },
};

/** Loss on what the model is to say. */
const narrow: LossScope = { train_on_prompt: false, last_turn_only: false };

/** A row's tokens and which of them are its labels; those behind the last of these are left out. */
function encoded(table: RowTable, index: number, tokenizer: Tokenizer, maxLength: number, scope: LossScope = narrow): Example {
  const { ids: all, learned } = chatTokens(table, index, tokenizer, scope) ?? plainTokens(table, index, tokenizer, scope);
  const whole = all.slice(0, learned.lastIndexOf(true) + 1);
  const length = Math.min(whole.length, maxLength + 1); // the last token is only foretold, not read
  const ids = Int32Array.from(whole.slice(0, length - 1));
  const labelled = Array.from({ length: length - 1 }, (_, i) => i + 1).filter((at) => learned[at]);
  return {
    ids,
    typeIds: new Int32Array(ids.length),
    truncated: length < whole.length,
    reads: labelled.map((at) => at - 1),
    labels: labelled.map((at) => whole[at]!),
  };
}

/** Tokens, and which of them are learned; never the first, which nothing foretells. */
interface RowTokens {
  readonly ids: readonly number[];
  readonly learned: readonly boolean[];
}

/** The tokens of a prompt with the special tokens before it, then a completion, or of a text, and the end token behind them. */
function plainTokens(table: RowTable, index: number, tokenizer: Tokenizer, scope: LossScope): RowTokens {
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
  const ids = [...head, ...tail, endToken(tokenizer)];
  if (ids.length === 1) throw new DataError(`${table.where(index)}: the text is empty`);
  const first = Math.max(1, completion === undefined || scope.train_on_prompt ? 1 : head.length);
  return { ids, learned: ids.map((_, at) => at >= first) };
}

/** The tokens of a row of messages; undefined for other rows. */
function chatTokens(table: RowTable, index: number, tokenizer: Tokenizer, scope: LossScope): RowTokens | undefined {
  try {
    const messages = conversation(table, index);
    if (messages === undefined) return undefined;
    const { said, from } = messages;
    const { ids, learned } = encodeChat(tokenizer, said, { all: scope.train_on_prompt, lastOnly: scope.last_turn_only, from });
    return { ids: [...ids], learned };
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${table.where(index)}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/**
 * A row's messages and the first of them, from 0, that may be learned: "messages", or a "prompt" and a "completion" that are lists of messages.
 * Undefined for other rows. Throws DataError without a place.
 */
function conversation({ rows }: RowTable, index: number): { readonly said: readonly ChatMessage[]; readonly from: number } | undefined {
  const { messages, prompt, completion, text } = rows[index]!;
  if (messages !== undefined && messages !== null) {
    const other = Object.entries({ completion, text }).find(([, value]) => value !== undefined && value !== null)?.[0];
    if (other !== undefined) throw new DataError(`the row has "messages" and "${other}"; it is one of them`);
    return { said: chatMessages(messages, "messages"), from: 0 };
  }
  if (!Array.isArray(prompt) && !Array.isArray(completion)) return undefined;
  const before = chatMessages(prompt, "prompt");
  return { said: [...before, ...chatMessages(completion, "completion")], from: before.length };
}

/** The token that ends a text. Throws ModelError for a tokenizer without one. */
function endToken(tokenizer: Tokenizer): number {
  if (tokenizer.eosId !== undefined) return tokenizer.eosId;
  throw new ModelError("the model's tokenizer has no end token", { hint: "tokenizer_config.json would name its eos_token" });
}
