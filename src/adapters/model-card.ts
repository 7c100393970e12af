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

# ${name} adapter for ${card.task}

An adapter for \`${card.base}\`, trained with Peft.js ${card.version}. It holds ${card.trainedParameters.toLocaleString("en")} trained numbers, ${share} % of the model's.

## Evaluation
${metrics.length === 0 ? "Not evaluated." : `On ${evaluated}:\n\n| metric | value |\n|---|---|\n${metrics.map(([name, value]) => `| ${name} | ${value!.toFixed(4)} |`).join("\n")}`}

## Training
${card.trainRows} rows of \`${card.data}\`, ${card.seconds.toFixed(0)} seconds.${card.labels === null ? "" : `\n\nLabels: ${card.labels.map((label) => `\`${label}\``).join(", ")}.`}

\`\`\`yaml
${stringify({ method: name, set: card.config, ...card.options }).trimEnd()}
\`\`\`

## Use
\`\`\`sh
npx -p peft.js peft predict --model ${card.base} --adapter . "a text"
\`\`\`

${python === undefined ? "Python's libraries do not read it; `peft merge` makes an ordinary checkpoint of it." : `In Python: \`${python}\`.`}

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

function isHubId(base: string): boolean {
  return /^[\w.-]+(\/[\w.-]+)?$/.test(base) && !base.startsWith(".");
}
