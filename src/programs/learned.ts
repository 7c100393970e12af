import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { DataError } from "../errors.js";
import type { LossScope, Task } from "../tasks/task.js";

/** How much of the texts that a language model is trained on is learned. */
export interface LearnedSummary {
  /** Tokens of all rows as they are fed, the last one of each included. */
  readonly tokens: number;
  /** Those of them that are learned. */
  readonly learned: number;
  /** The smallest and largest share of a row's tokens that is learned, from 0 to 1. */
  readonly least_share: number;
  readonly largest_share: number;
  /** Rows that lose tokens to the longest length. */
  readonly truncated_rows: number;
  /** Those of them that are left out of training, because nothing to learn is left. */
  readonly dropped_rows: number;
}

/** Encodes the rows of these numbers as training does. Gives the numbers of those that can be, and what was wrong with the others. */
export function learnedOf(
  table: RowTable,
  rows: readonly number[],
  task: Task,
  tokenizer: Tokenizer,
  maxLength: number,
  scope: LossScope,
): { readonly usable: readonly number[]; readonly summary: LearnedSummary | null; readonly errors: readonly DataError[] } {
  const errors: DataError[] = [];
  const usable: number[] = [];
  const sizes: { readonly tokens: number; readonly learned: number; readonly truncated: boolean }[] = [];
  for (const row of rows) {
    try {
      const {
        ids,
        labels = [],
        truncated,
      } = task.encode(table, row, { kind: "tokens", vocabulary: { tokenizer, size: tokenizer.vocabSize } }, tokenizer, maxLength, scope);
      sizes.push({ tokens: ids.length + 1, learned: labels.length, truncated });
      usable.push(row);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      errors.push(error);
    }
  }
  if (sizes.length === 0) return { usable, summary: null, errors };
  const sum = (of: (size: (typeof sizes)[number]) => number): number => sizes.reduce((total, size) => total + of(size), 0);
  const shares = sizes.map(({ tokens, learned }) => learned / tokens);
  const summary = {
    tokens: sum(({ tokens }) => tokens),
    learned: sum(({ learned }) => learned),
    least_share: Math.min(...shares),
    largest_share: Math.max(...shares),
    truncated_rows: sum(({ truncated }) => (truncated ? 1 : 0)),
    dropped_rows: sum(({ learned }) => (learned === 0 ? 1 : 0)),
  };
  return { usable, summary, errors };
}
