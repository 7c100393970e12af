/** Medians and spreads of rounds, as a table. */

/** @typedef {import("./programs.js").Measured} Measured */
/** @typedef {{ readonly name: string; readonly ours: readonly Measured[]; readonly peer: readonly Measured[] }} Result */

/**
 * The middle value, or the mean of the two in the middle.
 * @param {readonly number[]} values at least one
 */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? /** @type {number} */ (sorted[middle]) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/**
 * A Markdown table, a row a case: each figure's median, the ratio's median of the rounds with the lowest and the highest.
 * @param {readonly Result[]} results
 */
export function table(results) {
  const rows = results.map(({ name, ours, peer }) => {
    const ratios = ours.flatMap((each, i) => (peer[i] === undefined ? [] : [each.rows_per_second / peer[i].rows_per_second]));
    /** @type {(of: (m: Measured) => number, digits: number) => string} */
    const pair = (of, digits) => [ours, peer].map((side) => (side.length === 0 ? "–" : median(side.map(of)).toFixed(digits))).join(" / ");
    return [
      name,
      pair((m) => m.rows_per_second, 0),
      pair((m) => m.tokens_per_second, 0),
      ratios.length === 0 ? "–" : `${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)})`,
      pair((m) => m.first_step_seconds, 1),
      pair((m) => m.peak_rss_bytes / 2 ** 20, 0),
      ours.concat(peer).some(({ score }) => score !== null) ? pair((m) => m.score ?? Number.NaN, 4) : pair((m) => m.final_loss, 3),
    ];
  });
  const head = [
    "case",
    "rows/s",
    "tokens/s",
    "ratio of rows/s (lowest–highest)",
    "first step, s",
    "peak memory, MiB",
    "score, or loss of the last steps",
  ];
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
