import { stringify } from "yaml";
import type { Method } from "../methods/method.js";
import type { Metrics } from "../tasks/task.js";

/** What a model card tells. */
export interface ModelCard {
  readonly base: string;
  readonly task: string;
  readonly method: Method;
  readonly config: object;
  readonly data: string;
  readonly trainRows: number;
  readonly evalRows: number;
  readonly evalSource: "given" | "held-out" | "none";
  readonly labels: readonly string[] | null;
  readonly metrics: Metrics;
  readonly trainedParameters: number;
  readonly totalParameters: number;
  readonly options: Readonly<Record<string, unknown>>;
  readonly seconds: number;
  readonly version: string;
  /** Rows that it was evaluated on, as they are called. */
  readonly evalData: string;
  /** 95 % intervals of the metrics. */
  readonly intervals: Readonly<Record<string, Bounds>>;
  /** How far the metrics differ among groups of the evaluation rows; null where nobody asked. */
  readonly groups: CardGroups | null;
  /** Of the training; null where it is not known. */
  readonly energy: { readonly joules: number; readonly measured: boolean; readonly how: string; readonly co2_grams: number } | null;
}

/** An interval; null where it is not defined. */
export interface Bounds {
  readonly low: number | null;
  readonly high: number | null;
}

/** Metrics of groups of rows, as a card tells them. */
export interface CardGroups {
  readonly column: string;
  readonly groups: readonly {
    readonly group: string;
    readonly rows: number;
    readonly metrics: Readonly<Record<string, Bounds & { readonly value: number | null }>>;
  }[];
  readonly gaps: Readonly<Record<string, number | null>>;
  readonly equalized_odds_difference: number | null;
}

/** A README.md that the Hub accepts: metadata in its YAML head, then what the adapter is and how it was made. */
export function modelCard(card: ModelCard): string {
  const { name } = card.method;
  const { library, python } = readersOf(card.method);
  const metrics = Object.entries(card.metrics).filter(([, value]) => value !== null);
  const hubData = card.data.startsWith("hf:") ? card.data.slice(3).split(":")[0]! : null;
  const head = stringify({
    ...(isHubId(card.base) ? { base_model: card.base } : {}),
    library_name: library,
    pipeline_tag: card.task,
    tags: ["peft.js", name],
    ...(hubData === null ? {} : { datasets: [hubData] }),
    ...(metrics.length === 0 ? {} : { metrics: metrics.map(([name]) => name), "model-index": [modelIndex(card, metrics)] }),
  });
  const evaluated = {
    given: `${card.evalRows} rows given for evaluation`,
    "held-out": `${card.evalRows} rows held out of the training data`,
    none: "no rows",
  }[card.evalSource];
  const share = ((100 * card.trainedParameters) / card.totalParameters).toFixed(2);
  return `---
${head}---

# ${name} adapter for ${card.task}

An adapter for \`${card.base}\`, trained with Peft.js ${card.version}. It holds ${card.trainedParameters.toLocaleString("en")} trained numbers, ${share} % of the model's.

## Evaluation
${metrics.length === 0 ? "Not evaluated." : `On ${evaluated}:\n\n| metric | value | 95 % interval |\n|---|---|---|\n${metrics.map(([name, value]) => `| ${name} | ${number(value)} | ${boundsText(card.intervals[name])} |`).join("\n")}\n\nIntervals: percentile bootstrap over the rows.`}
${card.groups === null ? "" : groupsText(card.groups)}
## Training
${card.trainRows} rows of \`${card.data}\`, ${card.seconds.toFixed(0)} seconds.${card.labels === null ? "" : `\n\nLabels: ${card.labels.map((label) => `\`${label}\``).join(", ")}.`}
${card.energy === null ? "" : `\nEnergy of the training: ${(card.energy.joules / 1000).toFixed(2)} kJ, ${card.energy.co2_grams.toFixed(2)} g of CO₂. ${card.energy.how}.\n`}
\`\`\`yaml
${stringify({ method: name, set: card.config, ...card.options }).trimEnd()}
\`\`\`

## Use
\`\`\`sh
npx -p peft.js peft predict --model ${card.base} --adapter . "a text"
\`\`\`

${python === undefined ? "Python's libraries do not read it; `peft merge` makes an ordinary checkpoint of it." : `In Python: \`${python}\`.`}

## Intended use
For ${card.task} on texts like those that it was trained on, as a help to people who can see and correct its mistakes. It was not tested for decisions about people, nor on other languages, domains or times than those of its rows.

## Limits
The adapter knows the labels and the kind of text it was trained on, and inherits the base model's biases. Evaluate it on rows of your own before relying on it.
`;
}

/** The library whose format the files have, and what reads them in Python; nothing there reads the format of methods that are no adapters. */
function readersOf({ files }: Method): { readonly library: string; readonly python?: string } {
  if ("setup" in files) return { library: "adapters", python: 'model.load_adapter_setup(".", set_active=True)' };
  if ("library" in files) return { library: files.library, python: 'model.load_adapter(".", set_active=True)' };
  return files.bare === true ? { library: "peft.js" } : { library: "peft", python: 'PeftModel.from_pretrained(model, ".")' };
}

/** Results in the Hub's metadata schema. */
function modelIndex(card: ModelCard, metrics: readonly (readonly [string, number | null])[]): object {
  const place = card.evalData.startsWith("hf:") ? card.evalData.slice(3).split(":")[0]! : undefined;
  const file = card.evalData.split(/[/\\]/).at(-1)!;
  const results = {
    task: { type: card.task },
    dataset: { name: place ?? file, type: place ?? file.replace(/\.\w+$/, "") },
    metrics: metrics.map(([name, value]) => ({ type: name, name, value })),
  };
  return { name: `${card.method.name} adapter for ${card.task}`, results: [results] };
}

function groupsText({ column, groups, gaps, equalized_odds_difference: odds }: CardGroups): string {
  const names = Object.entries(gaps).flatMap(([name, gap]) => (gap === null || name === "loss" ? [] : [name]));
  const rows = groups.map(
    ({ group, rows, metrics }) =>
      `| ${group} | ${rows} | ${names.map((name) => `${number(metrics[name]!.value)} (${boundsText(metrics[name])})`).join(" | ")} |`,
  );
  return `
### By ${column}
| ${column} | rows | ${names.join(" | ")} |
|---|---|${"---|".repeat(names.length)}
${rows.join("\n")}

Largest differences between groups: ${names.map((name) => `${name} ${number(gaps[name]!)}`).join(", ")}.${odds === null ? "" : ` Equalised-odds difference ${number(odds)}.`}
`;
}

function number(value: number | null): string {
  return value === null ? "undefined" : value.toFixed(4);
}

function boundsText(bounds: Bounds | undefined): string {
  return bounds === undefined ? "not known" : `${number(bounds.low)} to ${number(bounds.high)}`;
}

function isHubId(base: string): boolean {
  return /^[\w.-]+(\/[\w.-]+)?$/.test(base) && !base.startsWith(".");
}
