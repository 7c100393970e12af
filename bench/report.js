/** Medians and spreads of rounds, and profiles, as tables. */

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
 * How many times the peer's rows a second this program did in each round that both ran.
 * @param {Result} result
 */
export function ratiosOf({ ours, peer }) {
  return ours.flatMap((each, i) => (peer[i] === undefined ? [] : [each.rows_per_second / peer[i].rows_per_second]));
}

/**
 * A Markdown table.
 * @param {readonly string[]} head
 * @param {readonly (readonly string[])[]} rows
 */
export function markdown(head, rows) {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/**
 * The median, with the lowest and the highest where there are several.
 * @param {readonly number[]} values at least one
 * @param {number} digits
 */
export function spread(values, digits) {
  const [middle, low, high] = [median(values), Math.min(...values), Math.max(...values)].map((each) => each.toFixed(digits));
  return values.length === 1 ? `${middle}` : `${middle} (${low}–${high})`;
}

/**
 * A Markdown table, a row a case: each figure's median, the ratio's median of the rounds with the lowest and the highest.
 * @param {readonly Result[]} results
 */
export function table(results) {
  const rows = results.map((result) => {
    const { name, ours, peer } = result;
    const ratios = ratiosOf(result);
    /** @type {(of: (m: Measured) => number, digits: number) => string} */
    const pair = (of, digits) => [ours, peer].map((side) => (side.length === 0 ? "–" : median(side.map(of)).toFixed(digits))).join(" / ");
    return [
      name,
      pair((m) => m.rows_per_second, 0),
      pair((m) => m.tokens_per_second, 0),
      ratios.length === 0 ? "–" : `${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)})`,
      pair((m) => m.first_step_seconds, 1),
      pair((m) => m.peak_rss_bytes / 2 ** 20, 0),
      pair((m) => (m.peak_rss_bytes - m.import_rss_bytes) / 2 ** 20, 0),
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
    "above import, MiB",
    "score, or loss of the last steps",
  ];
  return markdown(head, rows);
}

/** Ops and products that are named; the rest stands in one row. */
const named = 10;

/**
 * A step's profile as three tables: phases, ops and matrix products.
 * @param {import("./profile.js").Profile} profile
 */
export function profileTables({ name, rows, tokens, phases, step, ops, products, gigaflops, profiled }) {
  const ms = (/** @type {number} */ each) => each.toFixed(1);
  const share = (/** @type {number} */ part) => `${((100 * part) / profiled).toFixed(0)} %`;
  const sum = (/** @type {readonly number[]} */ all) => all.reduce((total, each) => total + each, 0);
  const byOp = [
    ...ops.slice(0, named),
    ...(ops.length <= named
      ? []
      : [
          {
            op: `${ops.length - named} others`,
            forward: sum(ops.slice(named).map((each) => each.forward)),
            backward: sum(ops.slice(named).map((each) => each.backward)),
            calls: sum(ops.slice(named).map((each) => each.calls)),
          },
        ]),
  ];
  const inProducts = sum(products.map((each) => each.milliseconds));
  const ideal = sum(products.map((each) => (each.gigaflops * each.calls * 1000) / each.alone));
  const size = (/** @type {import("./profile.js").ProductTime} */ { kind, batch, M, K, N }) =>
    `${kind}, ${batch === 1 ? "" : `${batch} × `}${M} × ${K} × ${N}`;
  return [
    `${name}: ${rows} rows, ${tokens} tokens, ${ms(step)} ms a step, ${ms(profiled)} ms with profiling`,
    markdown(
      ["phase", "ms", "of the step"],
      Object.entries(phases).map(([phase, took]) => [phase, ms(took), phase.startsWith("(") ? "" : share(took)]),
    ),
    markdown(
      ["op", "calls", "forward, ms", "backward, ms", "of the step"],
      byOp.map(({ op, forward, backward, calls }) => [op, `${calls}`, ms(forward), ms(backward), share(forward + backward)]),
    ),
    markdown(
      ["product, M × K × N", "calls", "ms", "GFLOP/s", "alone, GFLOP/s", "reached"],
      products
        .slice(0, named)
        .map((each) => [
          size(each),
          `${each.calls}`,
          ms(each.milliseconds),
          each.reached.toFixed(0),
          each.alone.toFixed(0),
          `${((100 * each.reached) / each.alone).toFixed(0)} %`,
        ]),
    ),
    `All products: ${gigaflops.toFixed(1)} GFLOP, ${ms(inProducts)} ms in the step, ${ms(ideal)} ms alone: the products reach ${((100 * ideal) / inProducts).toFixed(0)} % of this ` +
      `machine's speed at their sizes, the step as a whole ${((100 * ideal) / step).toFixed(0)} %.`,
  ].join("\n\n");
}
