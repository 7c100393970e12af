import type { RowTable } from "../data/rows.js";
import { DataError } from "../errors.js";
import type { Decoder } from "../programs/decode.js";
import { type BatchSurroundings, generateAll } from "./batches.js";
import { promptRow } from "./prompts.js";

/**
 * The share of rows, from 0 to 1, whose greedy continuation of at most `maxNewTokens` tokens is their completion (or the assistant's last message),
 * white space around both left out. Throws DataError with file and line for rows without one.
 */
export async function exactMatch(decoder: Decoder, rows: RowTable, maxNewTokens: number, around: BatchSurroundings): Promise<number> {
  const wanted = rows.rows.map((_, i) => {
    const { prompt, answer } = promptRow(rows, i, decoder.model.tokenizer, { chat: false });
    if (answer !== undefined) return { prompt, answer };
    throw new DataError(`${rows.where(i)}: the row says no answer to compare a generated one with`, {
      hint: 'exact match needs rows with "prompt" and "completion", or "messages" that end with the assistant',
    });
  });
  const texts = await generateAll(
    decoder,
    wanted.map(({ prompt }) => prompt),
    { max_new_tokens: maxNewTokens },
    around,
  );
  return texts.filter(({ text }, i) => text.trim() === wanted[i]!.answer.trim()).length / wanted.length;
}
