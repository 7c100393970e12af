import { type Feeds, f32, i32 } from "../core/tensor.js";
import { DataError } from "../errors.js";

/** A text as the model takes it. */
export interface EncodedText {
  /** Token ids, special tokens included. */
  readonly ids: Int32Array;
  /** Segment of each token. */
  readonly typeIds: Int32Array;
  /** Rows of the text that earlier batches held, virtual ones included, where this one continues it; it may then be without tokens. */
  readonly before?: number;
}

/** A packed batch and its sizes. */
export interface PackedBatch {
  /** The batch's inputs by name, as core/batch.ts describes them, without those of the task. */
  readonly feeds: Feeds;
  /** Texts, B. */
  readonly texts: number;
  /** Real tokens, T. */
  readonly tokens: number;
  /** The packed row of each text that a head reads which reads one: its first, virtual tokens included, or its last, [B]. */
  readonly summaryRows: Int32Array;
  /** The packed row of each text's own first token, [B]. */
  readonly textStarts: Int32Array;
}

/** How texts stand in a batch. */
export interface Packing {
  /** Rows put in front of each text. */
  readonly virtualTokens: number;
  /** The position of each text's first row. */
  readonly firstPosition: number;
  /** Which row of a text stands for it. */
  readonly summary: "first" | "last";
}

const plainPacking: Packing = { virtualTokens: 0, firstPosition: 0, summary: "first" };

/** Puts all tokens of all texts in one row after another, with the index vectors that attention needs. Throws DataError for no texts or an empty one. */
export function packTexts(texts: readonly EncodedText[], { virtualTokens, firstPosition, summary }: Packing = plainPacking): PackedBatch {
  if (texts.length === 0 || texts.some(({ ids, before }) => ids.length === 0 && before === undefined))
    throw new DataError("a batch needs at least one text, and each text a token");
  const B = texts.length;
  const fronts = texts.map(({ before }) => (before === undefined ? virtualTokens : 0));
  const lengths = Int32Array.from(texts, ({ ids }, b) => fronts[b]! + ids.length);
  const tokens = texts.reduce((total, { ids }) => total + ids.length, 0);
  const T = lengths.reduce((total, length) => total + length, 0);
  const S = Math.max(...lengths);
  const ids = new Int32Array(tokens);
  const joinIndex = new Int32Array(T);
  const positions = new Int32Array(T);
  const typeIds = new Int32Array(T);
  const tokenIndex = new Int32Array(T);
  const padIndex = new Int32Array(B * S);
  const rowMask = new Float32Array(B * S);
  const starts = new Int32Array(B);
  let t = 0;
  let read = 0;
  for (const [b, text] of texts.entries()) {
    const N = fronts[b]!;
    starts[b] = t;
    padIndex.fill(Math.min(t, T - 1), b * S, (b + 1) * S); // a text without tokens may come last
    ids.set(text.ids, read);
    typeIds.set(text.typeIds, t + N);
    for (let s = 0; s < lengths[b]!; s++, t++) {
      joinIndex[t] = s < N ? tokens + s : read++;
      positions[t] = firstPosition + (text.before ?? 0) + s;
      tokenIndex[t] = b * S + s;
      padIndex[b * S + s] = t;
      rowMask[b * S + s] = 1;
    }
  }
  const feeds = {
    ids: i32(ids),
    joinIndex: i32(joinIndex),
    positions: i32(positions),
    typeIds: i32(typeIds),
    padIndex: i32(padIndex),
    tokenIndex: i32(tokenIndex),
    lengths: i32(lengths),
    slots: i32(Int32Array.from({ length: S }, (_, s) => s)),
    rowMask: f32(rowMask, [B * S, 1]),
  };
  return {
    feeds,
    texts: B,
    tokens,
    summaryRows: summary === "first" ? starts : starts.map((start, b) => start + lengths[b]! - 1),
    textStarts: starts.map((start, b) => start + fronts[b]!),
  };
}

/** What a batch for evaluation may hold. */
export interface BatchLimits {
  /** Padded places. */
  readonly places: number;
  /** Rows that a head reads. */
  readonly reads: number;
}

/**
 * Splits texts, taken longest first, into batches within the limits; one that goes beyond them stands alone. `reads` are the rows of each text
 * that a head reads. Each batch lists the texts' numbers.
 */
export function batchesByLength(lengths: readonly number[], reads: readonly number[], limits: BatchLimits): readonly (readonly number[])[] {
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  const batches: number[][] = [];
  let longest = 0;
  let read = 0;
  for (const row of order) {
    const batch = batches.at(-1);
    read += reads[row]!;
    if (batch === undefined || (batch.length + 1) * longest > limits.places || read > limits.reads) {
      batches.push([row]);
      longest = lengths[row]!;
      read = reads[row]!;
    } else {
      batch.push(row);
    }
  }
  return batches;
}
