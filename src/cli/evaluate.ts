import * as z from "zod";
import { type GroupReport, groupReport, groupsOf, leastGroupRows } from "../compare/fairness.js";
import { readRows } from "../data/read-rows.js";
import type { RowTable } from "../data/rows.js";
import { DataError } from "../errors.js";
import { judgeAnswers } from "../generate/answers.js";
import { generationFields } from "../generate/options.js";
import { checkScope, type Task } from "../tasks/task.js";
import { trainingOptions } from "../train/options.js";
import { modelFlags } from "./model-flags.js";
import { type OpenPredictor, openPredictor } from "./open-predictor.js";
import type { Output } from "./output.js";
import { verb } from "./verb.js";
import { metricsText, table } from "./words.js";

const flagShape = {
  ...modelFlags,
  data: z.string().describe("labelled rows: a .jsonl, .csv or .parquet file, or hf:dataset/id[:config][:split]"),
  group: z
    .string()
    .nullable()
    .default(null)
    .describe("column whose values part the rows into groups: metrics of each, and how far they differ"),
  train_on_prompt: trainingOptions.shape.train_on_prompt,
  last_turn_only: trainingOptions.shape.last_turn_only,
  generate: z
    .boolean()
    .default(false)
    .describe(
      "also generate each row's answer and compare it with the completion: exact_match, of JSON objects valid_json and field_f1 too",
    ),
  max_new_tokens: generationFields.max_new_tokens,
  batch_size: z.number().int().positive().default(8).describe("rows whose answers are generated together"),
};

/** `peft evaluate`: metrics of the task on labelled rows. */
export const evaluateVerb = verb({
  name: "evaluate",
  summary: "measure a model or an adapter on labelled rows",
  examples: [
    "peft evaluate --adapter my-adapter --data test.jsonl",
    "peft evaluate --model smollm2-135m --adapter my-adapter --data test.jsonl --generate --max-new-tokens 64",
    "peft evaluate --adapter my-adapter --data test.jsonl --group dialect",
  ],
  flags: flagShape,
  async run(output, options) {
    const rows = await readRows(options.data, { map: options.map });
    const groups = options.group === null ? undefined : groupsOf(rows, options.group);
    const ready = await openPredictor(output, options);
    try {
      const began = performance.now();
      const { task, target } = ready.head;
      checkScope(task, options);
      const examples = ready.encode(rows, options.max_length, options);
      const unlabelled = examples.findIndex(({ labels }) => labels === undefined);
      if (unlabelled >= 0)
        throw new DataError(`${rows.where(unlabelled)}: ${unlabelledText(task)}`, {
          hint: "evaluation needs labelled rows; peft predict does not",
        });
      const cutOff = examples.filter(({ labels }) => labels?.length === 0).length;
      if (cutOff === examples.length)
        throw new DataError(`${rows.origin}: all that was to be judged is cut off`, { hint: "raise --max-length" });
      if (cutOff > 0)
        output.note(`${output.notePaint.yellow("note")}: of ${cutOff} of ${examples.length} rows all that was to be judged is cut off`);
      const outputs = await ready.run(examples);
      const { loss, metrics: judged } = task.evaluate(outputs, examples, target);
      const metrics = options.generate ? { ...judged, ...(await judgedAnswers(output, ready, rows, options)) } : judged;
      const seconds = (performance.now() - began) / 1000;
      const report = groups === undefined ? undefined : groupReport({ task, target, examples, outputs }, options.group!, groups);
      output.emit({ task: task.name, rows: examples.length, loss, metrics, seconds, ...(report === undefined ? {} : { groups: report }) });
      output.say(`${task.name} on ${examples.length} rows: ${metricsText(metrics)}, loss ${loss.toFixed(4)} (${seconds.toFixed(1)} s)`);
      if (report !== undefined) for (const line of groupLines(report, task.headline(target))) output.say(line);
      return 0;
    } finally {
      await ready.close();
    }
  },
});

async function judgedAnswers(
  output: Output,
  ready: OpenPredictor,
  rows: RowTable,
  { max_new_tokens, batch_size: batchSize }: { readonly max_new_tokens: number; readonly batch_size: number },
): Promise<Readonly<Record<string, number>>> {
  const onProgress = (done: number): void => output.progress(`${done} of ${rows.rows.length} answers`);
  return judgeAnswers(await ready.decoder(), rows, max_new_tokens, { batchSize, onProgress });
}

/** The groups' headline metric with its intervals, and the gaps, as people read them. */
function groupLines({ column, groups, gaps, equalized_odds_difference: odds }: GroupReport, headline: string): readonly string[] {
  const number = (value: number | null): string => (value === null ? "undefined" : value.toFixed(4));
  const few = groups.some(({ counted }) => !counted);
  return [
    "",
    ...table([
      [column, "rows", headline, "95 % interval"],
      ...groups.map(({ group, rows, counted, metrics }) => {
        const { value, low, high } = metrics[headline]!;
        return [group, `${rows}`, number(value), `${number(low)} to ${number(high)}${counted ? "" : "  (too few rows to count)"}`];
      }),
    ]),
    "",
    `largest difference between groups${few ? ` of ${leastGroupRows} rows or more` : ""}: ${metricsText(gaps)}`,
    ...(odds === null ? [] : [`equalised-odds difference ${odds.toFixed(4)}`]),
  ];
}

function unlabelledText({ columns: { labels } }: Task): string {
  return labels.length > 0 ? `no column "${labels[0]}"` : "the text has masks in it, and nothing says what stood there";
}
