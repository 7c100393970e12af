import { keyOf, shuffled } from "../core/random.js";
import { ConfigError } from "../errors.js";

/** What decides an epoch's batches. */
export interface SamplerOptions {
  /** Length of each row, in tokens; its size is the number of rows. */
  readonly lengths: Int32Array | readonly number[];
  /** Rows in a batch, at most. */
  readonly batchSize: number;
  readonly seed: number;
  /** From 0; each has an order of its own. */
  readonly epoch: number;
  /** Draws rows of like length together, so that packed batches are even and padded attention small. */
  readonly groupByLength: boolean;
}

/** Batches whose rows are sorted together; enough to fill even batches, few enough that batches stay random. Hugging Face's LengthGroupedSampler has it too. */
const RUN = 50;

/**
 * The batches of one epoch as row indices: every row once, one batch smaller where the rows do not fill it. Grouped: shuffled, sorted (longest
 * first) within runs of 50 batches, the batches shuffled; else shuffled uniformly. A pure function, so a resumed run finds its place again.
 * Throws ConfigError unless `batchSize` is a whole number from 1.
 */
export function epochBatches({ lengths, batchSize, seed, epoch, groupByLength }: SamplerOptions): Int32Array[] {
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new ConfigError(`a batch needs at least one row, got a batch size of ${batchSize}`);
  const order = shuffled(lengths.length, keyOf(seed, "rows", epoch));
  if (groupByLength) {
    for (let start = 0; start < order.length; start += RUN * batchSize) {
      order.subarray(start, start + RUN * batchSize).sort((a, b) => lengths[b]! - lengths[a]!); // stable: rows of one length stay shuffled
    }
  }
  const batches: Int32Array[] = [];
  for (let start = 0; start < order.length; start += batchSize) batches.push(order.slice(start, start + batchSize));
  if (!groupByLength) return batches;
  return Array.from(shuffled(batches.length, keyOf(seed, "batches", epoch)), (index) => batches[index]!);
}
