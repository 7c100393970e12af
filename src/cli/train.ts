import { methodChoice } from "../methods/index.js";
import { type TrainedAdapter, type TrainOptions, train } from "../node/train.js";
import { trainJobOptions } from "../node/train-options.js";
import type { TrainEvent } from "../train/events.js";
import { readSettings } from "./flags.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { trainReport } from "./train-report.js";
import { verb } from "./verb.js";

/** `peft train`: fine-tunes a base model and writes the adapter. */
export const trainVerb = verb({
  name: "train",
  summary: "fine-tune a model on your rows and write the adapter",
  examples: [
    "peft train --data rows.jsonl --out my-adapter",
    "peft train --data train.csv --eval test.csv --map text=utterance,label=intent --set r=16 --epochs 5 --out my-adapter",
    "peft train --config my-run.yaml --resume",
  ],
  flags: trainJobOptions.shape,
  interruption: "finish",
  async run(output, job, _, signal) {
    const set = readSettings(job.set, methodChoice(job.method).method.config.shape);
    const trained = await runTraining(output, { ...job, set, signal }, "to go on, add --resume to the same command");
    return trained.finished ? 0 : 130;
  },
});

/**
 * Trains and reports: events as JSON lines, or a live line and a table for people. `again` says how to go on after an interrupt; `onEvent`
 * sees each event first.
 */
export async function runTraining(
  output: Output,
  options: TrainOptions,
  again: string,
  onEvent?: (event: TrainEvent) => Promise<void>,
): Promise<TrainedAdapter> {
  const report = trainReport(output, options.out, again);
  const loop = train({ onProgress: printProgress(output), ...options });
  for (;;) {
    const { value, done } = await loop.next();
    if (done === true) return value;
    await onEvent?.(value);
    output.emit(value);
    report(value);
  }
}
