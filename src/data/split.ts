import { keyOf, shuffled } from "../core/random.js";
import { ConfigError } from "../errors.js";

/** Row indices of the two parts, each in ascending order. */
export interface Split {
  readonly train: Int32Array;
  readonly held: Int32Array;
}

/**
 * Holds back `fraction` of `n` rows, drawn at random by `seed`. With `strata [n]` (such as labels) each stratum gives its share, rounded so that
 * the whole is right (largest remainders first), and every stratum keeps at least one row in `train`: one of a single row gives none.
 * Throws ConfigError unless `0 < fraction < 1`, or when `strata` has another length.
 */
export function holdOut(n: number, fraction: number, seed: number, strata?: readonly (string | number)[]): Split {
  if (!(fraction > 0 && fraction < 1)) throw new ConfigError(`the fraction of rows to hold back must lie between 0 and 1, got ${fraction}`);
  if (strata !== undefined && strata.length !== n)
    throw new ConfigError(`there are ${n} rows, but ${strata.length} labels to split them by`);
  const members = new Map<string | number, number[]>();
  for (const row of shuffled(n, keyOf(seed, "hold out"))) {
    const stratum = strata?.[row] ?? "";
    const rows = members.get(stratum);
    if (rows === undefined) members.set(stratum, [row]);
    else rows.push(row);
  }
  // In the order of the shuffled rows, so that equal remainders are settled at random.
  const shares = [...members.values()].map((rows) => ({ rows, held: Math.min(Math.floor(rows.length * fraction), rows.length - 1) }));
  let missing = Math.round(n * fraction) - shares.reduce((sum, share) => sum + share.held, 0);
  const remainder = (share: { rows: readonly number[] }): number => (share.rows.length * fraction) % 1;
  for (const share of shares.toSorted((a, b) => remainder(b) - remainder(a))) {
    if (missing > 0 && share.held < share.rows.length - 1) {
      share.held++;
      missing--;
    }
  }
  const held = new Set(shares.flatMap((share) => share.rows.slice(0, share.held)));
  const rows = Array.from({ length: n }, (_, row) => row);
  return { train: Int32Array.from(rows.filter((row) => !held.has(row))), held: Int32Array.from(rows.filter((row) => held.has(row))) };
}
