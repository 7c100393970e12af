/** Reports of `peft compare` on several data sets, as tables of methods × sets. */

/** @typedef {import("../src/compare/report.js").Comparison} Comparison */
/** @typedef {{ readonly name: string; readonly report: Comparison }} Report */

const level = 0.05;

/**
 * All reports as Markdown: scores at the largest and the smallest training size, what each method costs, and each report's recommendation.
 * @param {readonly Report[]} reports
 */
export function comparisonTables(reports) {
  const methodsOf = (/** @type {Report} */ { report }) =>
    report.findings.methods
      .map(({ method }) => method)
      .toSorted()
      .join();
  const groups = [...new Set(reports.map(methodsOf))].map((methods) => reports.filter((each) => methodsOf(each) === methods));
  return [
    ...groups.flatMap((group) => {
      const several = group.filter(({ report }) => new Set(report.findings.curves.map(({ size }) => size)).size > 1);
      return [
        `## Scores with ${sizes(group, (curve) => Math.max(...curve))} training rows\n\n${scores(group)}`,
        ...(several.length === 0
          ? []
          : [`## Scores with ${sizes(several, (curve) => Math.min(...curve))} training rows\n\n${fewRows(several)}`]),
      ];
    }),
    `## Costs\n\n${reports.map(costs).join("\n\n")}`,
    `## In words\n\n${reports.map(words).join("\n\n")}`,
  ]
    .join("\n\n")
    .concat("\n");
}

/**
 * Each set a column. Bold: the best and what the data can't tell from it.
 * @param {readonly Report[]} group
 */
function scores(group) {
  return methodsBySets(group, ({ report: { findings } }, method) => {
    const own = findings.methods.find((each) => each.method === method);
    if (own === undefined) return "–";
    const best = findings.methods[0]?.method;
    const apart = findings.tests.some(
      ({ first, second, adjusted }) => [first, second].includes(method) && [first, second].includes(String(best)) && adjusted < level,
    );
    const figure = `${digits(own.score.value)}${own.seed_deviation === null ? "" : ` ± ${own.seed_deviation.toFixed(3)}`}`;
    return method === best || (findings.tests.length > 0 && !apart) ? `**${figure}**` : figure;
  });
}

/** @param {readonly Report[]} group */
function fewRows(group) {
  return methodsBySets(group, ({ report: { findings } }, method) => {
    const own = findings.curves.filter((point) => point.method === method);
    const point = own.toSorted((a, b) => a.size - b.size)[0];
    return point === undefined ? "–" : digits(point.value);
  });
}

/**
 * @param {readonly Report[]} group
 * @param {(report: Report, method: string) => string} cell
 */
function methodsBySets(group, cell) {
  const methods = [...new Set(group.flatMap(({ report }) => report.findings.searches.map(({ method }) => method)))];
  const heads = ["method", ...group.map(({ name, report }) => `${name}: ${report.findings.headline}`)];
  return markdown(
    heads,
    methods.map((method) => [method, ...group.map((report) => cell(report, method))]),
  );
}

/** @param {Report} report */
function costs({ name, report: { findings, setup } }) {
  const heads = [
    "method",
    "trained numbers",
    "files, kB",
    "rows/s",
    "training, s",
    "peak memory, MB",
    "one row p50, ms",
    "load / switch, ms",
    "energy, J",
  ];
  const rows = findings.methods.map((each) => [
    each.method,
    each.trained_parameters.toLocaleString("en"),
    (each.adapter_bytes / 1e3).toFixed(0),
    each.examples_per_second.toFixed(0),
    each.train_seconds.toFixed(1),
    each.peak_memory_bytes === null ? "–" : (each.peak_memory_bytes / 1e6).toFixed(0),
    (1e3 * each.latency_p50_seconds).toFixed(1),
    `${(1e3 * each.load_seconds).toFixed(0)} / ${(Math.round(1e4 * each.switch_seconds) / 10 + 0).toFixed(1)}`,
    each.joules.toFixed(0),
  ]);
  return `### ${name}\n\n${findings.methods[0]?.size} training rows, ${setup.threads === 1 ? "one thread" : `${setup.threads ?? "all"} threads`}; energy ${findings.energy?.measured === true ? "measured" : "estimated"}.\n\n${markdown(heads, rows)}`;
}

/** @param {Report} report */
function words({ name, report: { findings, setup } }) {
  const dropped = findings.dropped.length === 0 ? "" : `\n- ${findings.dropped.length} cells had no room in the budget.`;
  const refused = findings.refused.map(({ method, message }) => `\n- ${method} took no part: ${message}`).join("");
  return `### ${name}\n\n${findings.recommendation.join(" ")}\n\n${findings.sentences.map((each) => `- ${each}`).join("\n")}${dropped}${refused}\n- Rows judged: ${setup.eval_rows}.`;
}

/**
 * @param {readonly Report[]} group
 * @param {(sizes: readonly number[]) => number} of
 */
function sizes(group, of) {
  return [...new Set(group.map(({ report }) => of(report.findings.curves.map(({ size }) => size))))].join(" or ");
}

/** @param {number | null} value */
function digits(value) {
  return value === null ? "–" : value.toFixed(3);
}

/**
 * @param {readonly string[]} heads
 * @param {readonly (readonly string[])[]} rows
 */
function markdown(heads, rows) {
  return [heads, heads.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
