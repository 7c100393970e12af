import { keyOf } from "../core/random.js";
import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { DataError, ModelError } from "../errors.js";
import { missingColumn, textColumn } from "./columns.js";
import { argmax, logSoftmax } from "./logits.js";
import { covered, maskablePlaces, maskText } from "./masking.js";
import { foretelling, foretoldWidth } from "./read-rows.js";
import { slices, type Task, vocabularyOf } from "./task.js";

/** Tokens that a prediction names for each mask. */
const shown = 5;
/** Numbers kept of a masked token's logits. */
const keptWidth = foretoldWidth(shown);
/** Where the noise of masks for evaluation comes from, whatever a run's seed is, so that runs compare. */
const evaluationSeed = 0;

/** Masked tokens to what stood there (Devlin et al. 2018, arXiv:1810.04805, §3.1). transformers' ForMaskedLM. */
export const fillMask: Task = {
  name: "fill-mask",
  headClass: "ForMaskedLM",
  peftTaskType: null,
  onePerText: false,
  lossShare: covered,
  keepsHead: true,
  columns: { required: ["text"], optional: [], labels: [] },

  target(table, vocabulary) {
    const mask = maskToken(vocabulary.tokenizer);
    const given = table.rows.findIndex((row) => typeof row.text === "string" && row.text.includes(mask));
    if (given < 0) return { kind: "tokens", vocabulary };
    throw new DataError(`${table.where(given)}: the text has ${mask} in it; masks for training are drawn anew in each epoch`, {
      hint: "train on whole texts",
    });
  },

  targetOf: (_, size, tokenizer) => ({ kind: "tokens", vocabulary: { tokenizer, size } }),

  /** A text with mask tokens is to be filled in; of any other, tokens are covered up that are then its labels. */
  encode(table, index, _, tokenizer, maxLength) {
    const mask = maskToken(tokenizer);
    const { ids, typeIds, truncated } = tokenizer.encode(textOf(table, index), { maxLength });
    const open = Array.from(ids.keys()).filter((place) => ids[place] === tokenizer.maskId);
    if (open.length > 0) return { ids, typeIds, truncated, reads: open, labels: undefined };
    if (maskablePlaces(ids, tokenizer).length === 0) {
      throw new DataError(`${table.where(index)}: nothing in the text can be masked`, {
        hint: `the tokenizer makes special tokens only of it; if a mask is meant, write ${mask} within the first ${maxLength} tokens`,
      });
    }
    const text = maskText(ids, tokenizer, keyOf(evaluationSeed, "mask", index));
    return { ids: text.ids, typeIds, truncated, reads: text.places, labels: text.tokens, whole: ids };
  },

  redraw(example, target, key) {
    if (example.whole === undefined) return example;
    const { ids, places, tokens } = maskText(example.whole, vocabularyOf(target).tokenizer, key);
    return { ...example, ids, reads: places, labels: tokens };
  },

  outputs: (target) => (target.kind === "tokens" ? target.vocabulary.size : 1),

  ...foretelling(shown),

  /** For each text its masks in order, for each mask the likeliest tokens. */
  predict(outputs, table, target, logits = false) {
    const { tokenizer, size } = vocabularyOf(target);
    return outputs.map((output, i) => {
      const whole = logits ? slices(output, size) : [];
      const rows = logits ? whole.map(likeliestOf) : slices(output, keptWidth).map((row) => row.subarray(1));
      const masks = rows.map((row) =>
        slices(row, 2).map(([id, log]) => ({ token: tokenizer.decode([id!]), id: id!, score: Math.exp(log!) })),
      );
      return { text: table.rows[i]!.text, masks, ...(logits ? { logits: whole.map((row) => Array.from(row)) } : {}) };
    });
  },
};

/** The likeliest tokens of a row of logits, each with the logarithm of its probability. */
function likeliestOf(row: Float32Array): Float32Array {
  const log = logSoftmax(row);
  return Float32Array.from(topOf(row).flatMap((id) => [id, log[id]!]));
}

/** The places of the largest numbers, the largest first. */
function topOf(row: Float32Array): readonly number[] {
  const rest = row.slice();
  return Array.from({ length: shown }, () => {
    const best = argmax(rest);
    rest[best] = Number.NEGATIVE_INFINITY;
    return best;
  });
}

/** The mask token as texts have it. Throws ModelError for a tokenizer without one. */
function maskToken(tokenizer: Tokenizer): string {
  if (tokenizer.maskId !== undefined) return tokenizer.decode([tokenizer.maskId]);
  throw new ModelError("the model's tokenizer has no mask token", {
    hint: "fill-mask needs a model such as BERT; tokenizer_config.json would name its mask_token",
  });
}

function textOf(table: RowTable, index: number): string {
  const text = textColumn(table, index, "text");
  if (text === undefined) throw missingColumn(table, index, "text");
  return text;
}
