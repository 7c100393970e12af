import type { TrainEvent } from "../train/events.js";
import type { Output } from "./output.js";
import { bar, count, duration, metricsText, percent } from "./words.js";

/** What people see of a training, an event at a time. `again` says how to go on after an interrupt. */
export function trainReport(output: Output, out: string, again: string): (event: TrainEvent) => void {
  const note = output.notePaint.yellow("note");
  let total = 0;
  let first = 0;
  let lastLine = 0;
  let begun: { readonly step: number; readonly seconds: number } | undefined;
  let losses: number[] = [];
  return (event) => {
    switch (event.event) {
      case "start": {
        total = event.steps;
        first = event.resumed_from ?? 0;
        const kind = event.labels === null ? "" : `, ${event.labels.length} labels`;
        output.say(
          `${event.method} on ${event.model}: ${count(event.trained_parameters)} of ${count(event.total_parameters)} parameters trained (${percent(event.trained_parameters / event.total_parameters)})`,
        );
        output.say(`${event.train_rows} rows${kind}; ${evalText(event)}; ${event.steps} steps, learning rate ${event.learning_rate}`);
        if (event.base_dtype !== "f32") output.say(`frozen matrices stored as ${event.base_dtype}`);
        if (event.truncated_rows > 0) output.note(`${note}: ${event.truncated_rows} texts are longer than the limit and were cut`);
        if (event.dropped_rows > 0)
          output.note(
            `${note}: ${event.dropped_rows} of them are left out: what was to be learned is cut off wholly (--max-length, --on-truncation error)`,
          );
        if (event.new_modules.length > 0)
          output.note(`${note}: the base model lacks ${event.new_modules.join(", ")}: trained from scratch and saved with the adapter`);
        if (event.resumed_from !== null) output.say(`resumed after step ${event.resumed_from}`);
        return;
      }
      case "step": {
        losses = [...losses.slice(-19), event.loss];
        const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
        // From the end of the first step on: before it stands the loading.
        begun ??= event;
        const perStep = (event.seconds - begun.seconds) / (event.step - begun.step);
        const left = Number.isFinite(perStep) ? `  ${duration((total - event.step) * perStep)} left` : "";
        const line = `step ${event.step}/${total}  loss ${mean.toFixed(4)}  ${event.examples_per_second.toFixed(0)} rows/s${left}`;
        output.progress(`${bar(event.step / total)}  ${line}`);
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
          event.checkpoint === null ? `stopped after step ${event.step}` : `stopped after step ${event.step}, all saved; ${again}`,
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
