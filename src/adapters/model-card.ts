import { stringify } from "yaml";
import type { Metrics } from "../tasks/task.js";

/** What a model card tells. */
export interface ModelCard {
  readonly base: string;
  readonly task: string;
  readonly method: string;
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
}

/** A README.md that the Hub accepts: metadata in its YAML head, then what the adapter is and how it was made. */
export function modelCard(card: ModelCard): string {
  const metrics = Object.entries(card.metrics).filter(([, value]) => value !== null);
  const hubData = card.data.startsWith("hf:") ? card.data.slice(3).split(":")[0]! : null;
  const head = stringify({
    ...(isHubId(card.base) ? { base_model: card.base } : {}),
    library_name: "peft",
    pipeline_tag: card.task,
    tags: ["peft.js", card.method],
    ...(hubData === null ? {} : { datasets: [hubData] }),
    ...(metrics.length === 0 ? {} : { metrics: metrics.map(([name]) => name) }),
  });
  const evaluated = {
    given: `${card.evalRows} rows given for evaluation`,
    "held-out": `${card.evalRows} rows held out of the training data`,
    none: "no rows",
  }[card.evalSource];
  const share = ((100 * card.trainedParameters) / card.totalParameters).toFixed(2);
  return `---
${head}---

# ${card.method} adapter for ${card.task}

An adapter for \`${card.base}\`, trained with Peft.js ${card.version}. It holds ${card.trainedParameters.toLocaleString("en")} trained numbers, ${share} % of the model's.

## Evaluation
${metrics.length === 0 ? "Not evaluated." : `On ${evaluated}:\n\n| metric | value |\n|---|---|\n${metrics.map(([name, value]) => `| ${name} | ${value!.toFixed(4)} |`).join("\n")}`}

## Training
${card.trainRows} rows of \`${card.data}\`, ${card.seconds.toFixed(0)} seconds.${card.labels === null ? "" : `\n\nLabels: ${card.labels.map((label) => `\`${label}\``).join(", ")}.`}

\`\`\`yaml
${stringify({ method: card.method, set: card.config, ...card.options }).trimEnd()}
\`\`\`

## Use
\`\`\`sh
npx -p peft.js peft predict --model ${card.base} --adapter . "a text"
\`\`\`

In Python: \`PeftModel.from_pretrained(model, ".")\`.

## Limits
The adapter knows the labels and the kind of text it was trained on, and inherits the base model's biases. Evaluate it on rows of your own before relying on it.
`;
}

function isHubId(base: string): boolean {
  return /^[\w.-]+(\/[\w.-]+)?$/.test(base) && !base.startsWith(".");
}
