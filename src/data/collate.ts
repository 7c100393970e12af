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
  const ids = new Int32Array(tokens);
  const joinIndex = new Int32Array(T);
  const positions = new Int32Array(T);
  const typeIds = new Int32Array(T);
  const starts = new Int32Array(B);
  let t = 0;
  let read = 0;
  for (const [b, text] of texts.entries()) {
    const N = fronts[b]!;
    starts[b] = t;
    ids.set(text.ids, read);
    typeIds.set(text.typeIds, t + N);
    for (let s = 0; s < lengths[b]!; s++, t++) {
      joinIndex[t] = s < N ? tokens + s : read++;
      positions[t] = firstPosition + (text.before ?? 0) + s;
    }
  }
  const feeds = {
    ids: i32(ids),
    joinIndex: i32(joinIndex),
    positions: i32(positions),
    typeIds: i32(typeIds),
    ...places(
      "",
      Array.from(lengths, (_, b) => [b]),
      starts,
      lengths,
    ),
    ...places("strips:", strips(lengths), starts, lengths),
  };
  return {
    feeds,
    texts: B,
    tokens,
    summaryRows: summary === "first" ? starts : starts.map((start, b) => start + lengths[b]! - 1),
    textStarts: starts.map((start, b) => start + fronts[b]!),
  };
}

/** Where the texts' packed rows stand when each padded row holds those texts that `rows` names, one behind the other: see core/batch.ts. */
function places(prefix: string, rows: readonly (readonly number[])[], starts: Int32Array, lengths: Int32Array): Feeds {
  const filled = Int32Array.from(rows, (row) => row.reduce((total, b) => total + lengths[b]!, 0));
  const width = Math.max(...filled);
  const size = rows.length * width;
  const T = lengths.reduce((total, length) => total + length, 0);
  const tokenIndex = new Int32Array(T);
  const padIndex = new Int32Array(size);
  const rowMask = new Float32Array(size);
  const texts = new Int32Array(size).fill(-1);
  const positions = new Int32Array(size);
  for (const [r, row] of rows.entries()) {
    let place = r * width;
    padIndex.fill(Math.min(starts[row[0]!]!, T - 1), place, place + width); // a text without tokens may come last
    for (const b of row)
      for (let s = 0; s < lengths[b]!; s++, place++) {
        const t = starts[b]! + s;
        tokenIndex[t] = place;
        padIndex[place] = t;
        rowMask[place] = 1;
        texts[place] = b;
        positions[place] = s;
      }
  }
  return {
    [`${prefix}padIndex`]: i32(padIndex),
    [`${prefix}tokenIndex`]: i32(tokenIndex),
    [`${prefix}lengths`]: i32(filled),
    [`${prefix}slots`]: i32(Int32Array.from({ length: width }, (_, s) => s)),
    [`${prefix}rowMask`]: f32(rowMask, [size, 1]),
    ...(prefix === ""
      ? {}
      : { [`${prefix}texts`]: i32(texts, [rows.length, width]), [`${prefix}positions`]: i32(positions, [rows.length, width]) }),
  };
}

/** Texts put behind one another in rows as wide as the longest: each, longest first, into the first row with room. */
function strips(lengths: Int32Array): readonly (readonly number[])[] {
  const width = Math.max(...lengths);
  const order = Array.from(lengths, (_, b) => b).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  const rows: { readonly texts: number[]; room: number }[] = [];
  for (const b of order) {
    const row = rows.find(({ room }) => room >= lengths[b]!);
    if (row === undefined) {
      rows.push({ texts: [b], room: width - lengths[b]! });
    } else {
      row.texts.push(b);
      row.room -= lengths[b]!;
    }
  }
  return rows.map(({ texts }) => texts);
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
