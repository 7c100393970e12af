import type { Command } from "commander";
import { parseOptions } from "../core/options.js";
import { methodNamed } from "../methods/index.js";
import { train } from "../node/train.js";
import { type TrainJobOptions, trainJobOptions } from "../node/train-options.js";
import type { TrainEvent } from "../train/events.js";
import { addFlags, readFlags, readSettings } from "./flags.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import type { Verb } from "./verb.js";

/** `peft train`: fine-tunes a base model and writes the adapter. */
export const trainVerb: Verb = {
  describe(program: Command): Command {
    const command = program.command("train").description("fine-tune a model on your rows and write the adapter");
    command.option("--config <file>", "YAML file with the same keys as the flags; a flag wins over the file");
    return addFlags(command, trainJobOptions.shape);
  },
  async run(output, flags, _, signal) {
    const values = await readFlags(trainJobOptions.shape, flags, flags.config as string | undefined);
    const { set = {}, method = trainJobOptions.shape.method.parse(undefined) } = values;
    const job = parseOptions("option", trainJobOptions, {
      ...values,
      set: readSettings(set as Readonly<Record<string, unknown>>, methodNamed(String(method)).config.shape),
    });
    return runTraining(output, job, signal);
  },
};

/** Trains and reports: events as JSON lines, or a live line and a table for people. Returns the exit code: 130 after an interrupt. */
export async function runTraining(output: Output, job: TrainJobOptions, signal: AbortSignal): Promise<number> {
  const report = trainReport(output, job.out);
  const loop = train({ ...job, signal, onProgress: printProgress(output) });
  for (;;) {
    const { value, done } = await loop.next();
    if (done === true) return value.finished ? 0 : 130;
    output.emit(value);
    report(value);
  }
}

/** What people see of a training. */
function trainReport(output: Output, out: string): (event: TrainEvent) => void {
  let total = 0;
  let first = 0;
  let lastLine = 0;
  let losses: number[] = [];
  return (event) => {
    switch (event.event) {
      case "start": {
        total = event.steps;
        first = event.resumed_from ?? 0;
        const share = ((100 * event.trained_parameters) / event.total_parameters).toFixed(2);
        const kind = event.labels === null ? "numbers" : `${event.labels.length} labels`;
        output.say(
          `${event.method} on ${event.model}: ${event.trained_parameters.toLocaleString("en")} of ${event.total_parameters.toLocaleString("en")} parameters trained (${share} %)`,
        );
        output.say(`${event.train_rows} rows, ${kind}; ${evalText(event)}; ${event.steps} steps, learning rate ${event.learning_rate}`);
        if (event.truncated_rows > 0) output.note(`note: ${event.truncated_rows} texts are longer than the limit and were cut`);
        if (event.new_modules.length > 0)
          output.note(`note: the base model lacks ${event.new_modules.join(", ")}: trained from scratch and saved with the adapter`);
        if (event.resumed_from !== null) output.say(`resumed after step ${event.resumed_from}`);
        return;
      }
      case "step": {
        losses = [...losses.slice(-19), event.loss];
        const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
        const perStep = event.seconds / Math.max(1, event.step);
        const left = duration((total - event.step) * perStep);
        const line = `step ${event.step}/${total}  loss ${mean.toFixed(4)}  ${event.examples_per_second.toFixed(0)} rows/s  ${left} left`;
        output.progress(`${bar(event.step / total)} ${line}`);
        if (!output.live && !output.json && (event.step === total || event.step === first + 1 || event.seconds - lastLine >= 10)) {
          lastLine = event.seconds;
          output.note(line);
        }
        return;
      }
      case "eval":
        output.say(
          `${event.step === 0 ? "before training" : `after step ${event.step}`}: ${metricsText(event.metrics)}, loss ${event.loss.toFixed(4)}`,
        );
        return;
      case "interrupted":
        output.note(
          event.checkpoint === null
            ? `stopped after step ${event.step}`
            : `stopped after step ${event.step}; everything is saved. To go on: the same command with --resume`,
        );
        return;
      case "end":
        if (event.stopped_early) output.say(`stopped early; the adapter is that of step ${event.restored_step}`);
        output.say(`done in ${duration(event.seconds)}; adapter in ${out}`);
    }
  };
}

function evalText(event: TrainEvent & { event: "start" }): string {
  if (event.eval_source === "none") return "too few rows to hold some out for evaluation";
  return `evaluated on ${event.eval_rows} ${event.eval_source === "given" ? "rows" : "rows held out"}`;
}

/** Metrics in words: `accuracy 0.913, macro_f1 0.907`. */
export function metricsText(metrics: Readonly<Record<string, number | null>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${value === null ? "undefined" : value.toFixed(4)}`)
    .join(", ");
}

/** Seconds in words: `41 s`, `3 min 20 s`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function bar(share: number): string {
  const filled = Math.round(Math.min(1, share) * 20);
  return `[${"█".repeat(filled)}${"░".repeat(20 - filled)}]`;
}
