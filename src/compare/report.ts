import type { CellResult } from "./cell.js";
import type { Findings, MethodSummary } from "./summary.js";
import { energy, figure, pValue, size, time, whole } from "./words.js";

/** A whole comparison, as report.json has it: what was found, each cell's figures, and all that is needed to repeat it. */
export interface Comparison {
  readonly findings: Findings;
  readonly cells: readonly Omit<CellResult, "replicates" | "outcomes" | "answers" | "truth">[];
  readonly setup: Setup;
}

/** How a comparison was set up; what is named here is shown, all of it stands in the report. */
export interface Setup extends Readonly<Record<string, unknown>> {
  readonly model: string;
  readonly task: string;
  readonly data: string;
  readonly eval: string | null;
  readonly eval_source: string;
  readonly train_rows: number;
  readonly eval_rows: number;
  readonly seeds: number;
  readonly versions: Readonly<Record<string, string>>;
  readonly machine: { readonly processor: string; readonly cores: number; readonly memory_bytes: number };
  readonly made: string;
}

/** The table of methods: its heads, and a row for each method. */
export function methodTable({ methods, headline, energy: counted }: Findings): {
  readonly heads: readonly string[];
  readonly rows: readonly (readonly string[])[];
} {
  const mark = counted?.measured === false ? ", estimated" : "";
  return {
    heads: [
      "method",
      headline,
      "95 % interval",
      "± seeds",
      "trained numbers",
      "files",
      "training",
      "rows/s",
      "peak memory",
      "one row p50 / p95",
      "load / switch",
      `energy${mark}`,
      `CO₂${mark}`,
    ],
    rows: methods.map((each: MethodSummary) => [
      each.method,
      figure(each.score.value),
      `${figure(each.score.low)} to ${figure(each.score.high)}`,
      each.seed_deviation === null ? "one seed" : each.seed_deviation.toFixed(3),
      whole(each.trained_parameters),
      size(each.adapter_bytes),
      time(each.train_seconds),
      each.examples_per_second.toFixed(0),
      each.peak_memory_bytes === null ? "not known" : size(each.peak_memory_bytes),
      `${time(each.latency_p50_seconds)} / ${time(each.latency_p95_seconds)}`,
      `${time(each.load_seconds)} / ${time(each.switch_seconds)}`,
      energy(each.joules),
      `${each.co2_grams.toFixed(3)} g`,
    ]),
  };
}

/** The table of paired tests. */
export function testTable({ tests }: Findings): { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] } {
  return {
    heads: ["pair", "difference", "p", "p after Holm", "test"],
    rows: tests.map((each) => [
      `${each.first} − ${each.second}`,
      figure(each.difference),
      pValue(each.p),
      pValue(each.adjusted),
      each.test,
    ]),
  };
}

/** A sentence on the methods for which no higher learning rate was tried than the one that was taken. */
function highest(searches: Findings["searches"]): readonly string[] {
  const names = searches.flatMap(({ method, learning_rate, tried }) =>
    tried.length > 0 && tried.every((each) => each.learning_rate <= learning_rate) ? [method] : [],
  );
  return names.length === 0 ? [] : [`${names.join(", ")}: the highest learning rate tried was the best, a higher one may be better still.`];
}

/** What the figures do and do not show, a sentence each. */
export function cautions({ findings, setup }: Comparison): readonly string[] {
  const { energy: counted, searches, dropped, refused, outcome } = findings;
  return [
    `Intervals are percentile bootstraps over the ${setup.eval_rows} evaluation rows, at the largest training size, of the mean over seeds; they do not hold the chance of another training set.`,
    `Tests compare ${outcome}, averaged over the seeds that both methods have, and speak of these trained adapters on further rows of the same kind.`,
    searches.some(({ tried }) => tried.length > 0)
      ? "Each method's learning rate is the best of three tried on held-out training rows in a short training; longer ones may want lower rates."
      : "No learning rate was searched for: each method has its default.",
    ...highest(searches),
    "Methods run with their default settings; other ranks, sizes or targets may change the order.",
    "Times hold for this machine and what else ran on it. Peak memory is the whole process's, base model included, and may hold what earlier cells left.",
    ...(counted === null ? [] : [`Energy of training: ${counted.how}; CO₂ at ${setup.grid_factor} g a kilowatt-hour.`]),
    ...(dropped.length === 0
      ? []
      : [
          `The budget had no room for ${dropped.length} cell${dropped.length === 1 ? "" : "s"}: ${[...new Set(dropped.map((cell) => `${cell.size} rows with seed ${cell.seed}`))].join(", ")}. The order in which it drops: ${setup.drop_order}.`,
        ]),
    ...refused.map(({ method, message }) => `${method} took no part: ${message}`),
  ];
}

/** The report as Markdown. */
export function markdownReport(comparison: Comparison): string {
  const { findings, setup } = comparison;
  const { mistakes, curves, methods } = findings;
  const groups = groupRows(comparison);
  const section = (title: string, text: string): string => (text === "" ? "" : `## ${title}\n${text}\n\n`);
  return `# Which method for ${code(setup.data)}

${findings.recommendation.join(" ")}

${findings.sentences.map((sentence) => `- ${sentence}`).join("\n")}

${section(`Methods after ${methods[0]?.size ?? 0} training rows`, markdownTable(methodTable(findings)))}${section("Tests of pairs", markdownTable(testTable(findings)))}${section(
  "Learning curves",
  markdownTable({
    heads: ["method", "training rows", findings.headline, "95 % interval", "seeds"],
    rows: curves.map((point) => [
      point.method,
      whole(point.size),
      figure(point.value),
      `${figure(point.low)} to ${figure(point.high)}`,
      `${point.seeds}`,
    ]),
  }),
)}${section("Groups", groups === null ? "" : markdownTable(groups))}${section(
  "Worst mistakes",
  markdownTable({
    heads: ["row", "text", "truth", ...methods.map(({ method }) => method)],
    rows: mistakes.map(({ where, text, truth, answers }) => [where, text, truth, ...answers.map(({ answer }) => answer)]),
  }),
)}## What the figures do and do not show
${cautions(comparison)
  .map((each) => `- ${each}`)
  .join("\n")}

## To repeat it
\`\`\`json
${JSON.stringify(setup, null, 2)}
\`\`\`
`;
}

/** The table of groups for the first seed at the largest size: each method's figure in each group, and the gaps. Null without groups. */
export function groupRows({
  findings,
  cells,
}: Comparison): { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] } | null {
  const chosen = findings.methods.flatMap(
    ({ method, size: rows }) => cells.find((cell) => cell.method === method && cell.size === rows) ?? [],
  );
  const [first] = chosen;
  if (first?.groups == null) return null;
  const { headline } = findings;
  return {
    heads: [
      `method (seed ${first.seed})`,
      ...first.groups.groups.map(({ group, rows }) => `${group} (${rows} rows)`),
      "gap",
      "equalised odds",
    ],
    rows: chosen.map(({ method, groups }) => [
      method,
      ...groups!.groups.map(({ metrics }) => {
        const { value, low, high } = metrics[headline]!;
        return `${figure(value)} (${figure(low)} to ${figure(high)})`;
      }),
      figure(groups!.gaps[headline] ?? null),
      figure(groups!.equalized_odds_difference),
    ]),
  };
}

function markdownTable({ heads, rows }: { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] }): string {
  if (rows.length === 0) return "";
  const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll(/\s+/g, " ");
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(" | ")} |`;
  return [line(heads), `|${"---|".repeat(heads.length)}`, ...rows.map(line)].join("\n");
}

function code(text: string): string {
  return `\`${text}\``;
}
