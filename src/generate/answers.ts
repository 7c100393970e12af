import type { RowTable } from "../data/rows.js";
import { DataError } from "../errors.js";
import type { Decoder } from "../programs/decode.js";
import { type BatchSurroundings, generateAll } from "./batches.js";
import { jsonScores } from "./json-scores.js";
import { promptRow } from "./prompts.js";

/**
 * Metrics, from 0 to 1, of the rows' greedy continuations of at most `maxNewTokens` tokens, compared with their completions (or the assistant's
 * last messages), white space around both left out: `exact_match`, the share that are equal; and where all completions are JSON objects,
 * `valid_json` and `field_f1`. Throws DataError with file and line for rows without a completion.
 */
export async function judgeAnswers(
  decoder: Decoder,
  rows: RowTable,
  maxNewTokens: number,
  around: BatchSurroundings,
): Promise<Readonly<Record<string, number>>> {
  const wanted = rows.rows.map((_, i) => {
    const { prompt, answer } = promptRow(rows, i, decoder.model.tokenizer, { chat: false });
    if (answer !== undefined) return { prompt, answer: answer.trim() };
    throw new DataError(`${rows.where(i)}: the row says no answer to compare a generated one with`, {
      hint: 'generated answers are judged on rows with "prompt" and "completion", or "messages" that end with the assistant',
    });
  });
  const generated = await generateAll(
    decoder,
    wanted.map(({ prompt }) => prompt),
    { max_new_tokens: maxNewTokens },
    around,
  );
  const texts = generated.map(({ text }) => text.trim());
  const answers = wanted.map(({ answer }) => answer);
  return { exact_match: texts.filter((text, i) => text === answers[i]).length / texts.length, ...jsonScores(texts, answers) };
}
