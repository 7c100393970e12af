import { keyOf, shuffled } from "../core/random.js";
import { ConfigError } from "../errors.js";

/** What decides an epoch's batches. */
export interface SamplerOptions {
  /** Length of each row, in tokens; its size is the number of rows. */
  readonly lengths: Int32Array | readonly number[];
  /** Rows in a batch, at most. */
  readonly batchSize: number;
  /** Tokens in a batch, at most, in place of `batchSize`; no row may be longer. */
  readonly maxTokens?: number | null;
  readonly seed: number;
  /** From 0; each has an order of its own. */
  readonly epoch: number;
  /** Draws rows of like length together, so that packed batches are even and padded attention small. */
  readonly groupByLength: boolean;
}

/** Batches whose rows are sorted together; enough to fill even batches, few enough that batches stay random. Hugging Face's LengthGroupedSampler has it too. */
const RUN = 50;

/**
 * The batches of one epoch as row indices: every row once, some batches smaller where the rows do not fill them. Grouped: shuffled, sorted
 * (longest first) within runs of 50 batches, the batches shuffled; else shuffled uniformly. A pure function, so a resumed run finds its place
 * again. Throws ConfigError unless `batchSize` is a whole number from 1, and where a row is longer than `maxTokens`.
 */
export function epochBatches({ lengths, batchSize, maxTokens = null, seed, epoch, groupByLength }: SamplerOptions): Int32Array[] {
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new ConfigError(`a batch needs at least one row, got a batch size of ${batchSize}`);
  if (maxTokens !== null) checkLongest(lengths, maxTokens);
  const order = shuffled(lengths.length, keyOf(seed, "rows", epoch));
  const cut = (rows: Int32Array): Int32Array[] => (maxTokens === null ? byRows(rows, batchSize) : byTokens(rows, lengths, maxTokens));
  if (!groupByLength) return cut(order);
  const run = RUN * (maxTokens === null ? batchSize : Math.max(1, Math.floor(maxTokens / meanOf(lengths))));
  const batches = byRows(order, run).flatMap((rows) => cut(rows.sort((a, b) => lengths[b]! - lengths[a]!))); // stable: rows of one length stay shuffled
  return Array.from(shuffled(batches.length, keyOf(seed, "batches", epoch)), (index) => batches[index]!);
}

/** Pieces of `size` rows, the last one smaller. */
function byRows(order: Int32Array, size: number): Int32Array[] {
  return Array.from({ length: Math.ceil(order.length / size) }, (_, i) => order.slice(i * size, (i + 1) * size));
}

/** Pieces of as many rows in a row as have no more than `maxTokens` tokens together. */
function byTokens(order: Int32Array, lengths: SamplerOptions["lengths"], maxTokens: number): Int32Array[] {
  const batches: Int32Array[] = [];
  let start = 0;
  let tokens = 0;
  for (const [i, row] of order.entries()) {
    if (tokens + lengths[row]! > maxTokens && i > start) {
      batches.push(order.slice(start, i));
      start = i;
      tokens = 0;
    }
    tokens += lengths[row]!;
  }
  return start < order.length ? [...batches, order.slice(start)] : batches;
}

function meanOf(lengths: SamplerOptions["lengths"]): number {
  let total = 0;
  for (const length of lengths) total += length;
  return total / Math.max(1, lengths.length);
}

function checkLongest(lengths: SamplerOptions["lengths"], maxTokens: number): void {
  let longest = 0;
  let over = 0;
  for (const length of lengths) {
    longest = Math.max(longest, length);
    if (length > maxTokens) over++;
  }
  if (over === 0) return;
  throw new ConfigError(
    `max_tokens_per_batch is ${maxTokens}, but ${over} row${over === 1 ? " is" : "s are"} longer, the longest of ${longest} tokens`,
    { hint: "raise it, or cut rows with a smaller max_length; virtual tokens count" },
  );
}
