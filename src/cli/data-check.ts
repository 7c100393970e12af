import * as z from "zod";
import { readRows } from "../data/read-rows.js";
import { openModel } from "../node/open-model.js";
import { checkRows, type DataReport, likelyTask, type RowSummary } from "../programs/data-check.js";
import { longestText } from "../programs/limits.js";
import { taskNamed } from "../tasks/index.js";
import { trainingOptions } from "../train/options.js";
import { lengthLines } from "./lengths.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";
import { bar, count, table } from "./words.js";

/** `peft data check`: all that is wrong with rows, with file and line. Fails where something is. */
export const dataCheckVerb = verb({
  name: "data check",
  summary: "list what is wrong with rows, with file and line",
  examples: [
    "peft data check --data train.jsonl --eval test.jsonl",
    "peft data check --data train.csv --map text=utterance,label=intent --model minilm",
  ],
  flags: {
    data: z.string().describe("training rows: a .jsonl, .csv or .parquet file, or hf:dataset/id[:config][:split]"),
    eval: z.string().nullable().default(null).describe("rows to evaluate on, compared with the training rows"),
    model: z.string().nullable().default(null).describe("measure lengths with this model's tokenizer"),
    task: z.string().nullable().default(null).describe("the Hub's name of the task; null for what the data's columns say"),
    map: z.record(z.string(), z.string()).default({}).describe("columns to rename: text=utterance,label=intent"),
    max_length: z.number().int().positive().nullable().default(null).describe("longest text in tokens; the model's limit by default"),
    train_on_prompt: trainingOptions.shape.train_on_prompt,
    last_turn_only: trainingOptions.shape.last_turn_only,
    limit: z.number().int().positive().default(50).describe("faults to list at most"),
  },
  interruption: "tidy",
  async run(output, { data, eval: evalData, model: name, task: taskName, map, max_length, limit, ...scope }, _, signal) {
    const task = taskName === null ? undefined : taskNamed(taskName);
    const rows = await readRows(data, { map });
    const evalRows = evalData === null ? undefined : await readRows(evalData, { map });
    const model = name === null ? undefined : await openModel(name, { env: process.env, onProgress: printProgress(output), signal });
    const report = checkRows(rows, {
      task: task ?? likelyTask(rows),
      evalRows,
      limit,
      scope,
      ...(model === undefined ? {} : { tokenizer: model.tokenizer, maxLength: longestText(model, max_length, []) }),
    });
    output.emit(report);
    show(output, report);
    return report.fault_count === 0 ? 0 : 1;
  },
});

function show(output: Output, report: DataReport): void {
  const { say, paint } = output;
  for (const summary of [report.train, report.eval]) if (summary !== null) showRows(output, summary);
  for (const note of report.notes) say(`${paint.yellow("note")}: ${note}`);
  const long = report.faults.find(({ message }) => message.includes("\n")); // with a rendered text behind it: one is enough to see
  for (const fault of report.faults) {
    const message = fault === long ? fault.message : fault.message.split("\n", 1)[0];
    say(`${paint.bold(fault.where)}: ${message}${fault.hint === null ? "" : paint.dim(` (${fault.hint})`)}`);
  }
  const more = report.fault_count - report.faults.length;
  if (more > 0) say(`… and ${count(more)} more (--limit shows them)`);
  say(
    report.fault_count === 0
      ? paint.green("no faults found")
      : paint.red(`${count(report.fault_count)} fault${report.fault_count === 1 ? "" : "s"}`),
  );
}

/** Labels that are shown; the others are counted. */
const shownLabels = 20;

function showRows({ say, paint }: Output, { origin, rows, labels, lengths, learned }: RowSummary): void {
  const counts = Object.entries(labels ?? {});
  say(`${paint.bold(origin)}: ${count(rows)} rows${labels === null ? "" : `, ${counts.length} labels`}`);
  const most = counts[0]?.[1] ?? 1;
  for (const line of table(counts.slice(0, shownLabels).map(([label, n]) => [`  ${label}`, String(n), bar(n / most).replaceAll("░", "")])))
    say(line);
  if (counts.length > shownLabels) say(`  … and ${counts.length - shownLabels} more labels`);
  if (learned !== null) {
    const { tokens, least_share: least, largest_share: largest } = learned;
    const whole = (share: number): string => `${Math.round(100 * share)} %`;
    say(
      `  learned: ${count(learned.learned)} of ${count(tokens)} tokens (${whole(learned.learned / tokens)}; of a row ${whole(least)} to ${whole(largest)})`,
    );
    if (learned.dropped_rows > 0)
      say(
        `  ${paint.yellow(`left out: ${count(learned.dropped_rows)} row${learned.dropped_rows === 1 ? "" : "s"}`)}: all that was to be learned of them is cut off`,
      );
  }
  if (lengths !== null) for (const line of lengthLines(lengths)) say(`  ${line}`);
}
