import type { CellResult } from "../compare/cell.js";
import type { CompareEvent } from "../compare/experiment.js";
import { methodTable } from "../compare/report.js";
import { energy, figure, size, time } from "../compare/words.js";
import { compare } from "../node/compare.js";
import { compareOptions } from "../node/compare-options.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";
import { bar, count, table } from "./words.js";

/** `peft compare`: which method is best for these rows, with uncertainty, cost and fairness. */
export const compareVerb = verb({
  name: "compare",
  summary: "compare fine-tuning methods on your rows and write a report",
  examples: [
    "peft compare --data train.jsonl --eval test.jsonl --methods lora,seq_bn,ia3 --budget 30m",
    "peft compare --data train.jsonl --eval test.jsonl --train-sizes 50,200,1000,all --seeds 3 --group dialect",
  ],
  flags: compareOptions.shape,
  interruption: "finish",
  async run(output, job, _, signal) {
    const loop = compare({ ...job, signal, onProgress: printProgress(output) });
    const report = compareProgress(output);
    for (;;) {
      const { value, done } = await loop.next();
      if (done !== true) {
        report(value);
        continue;
      }
      const { comparison, html, markdown, json, finished } = value;
      const { findings } = comparison;
      output.emit({ event: "end", finished, recommendation: findings.recommendation, sentences: findings.sentences, html, markdown, json });
      const { heads, rows } = methodTable(findings);
      const shown = [0, 1, 2, 4, 5, 6, 9];
      output.say("");
      for (const line of table([heads, ...rows].map((row) => shown.map((column) => row[column]!)))) output.say(line);
      output.say("");
      for (const sentence of [...findings.recommendation, ...findings.sentences]) output.say(sentence);
      output.say(`\nreport: ${html}, ${markdown}, ${json}`);
      if (!finished) output.note("interrupted; the same command again goes on with what is left");
      return finished ? 0 : 130;
    }
  },
});

/** Prints a comparison while it runs: a row for each finished cell, and a live line for the one under way. */
function compareProgress(output: Output): (event: CompareEvent) => void {
  const note = output.notePaint.yellow("note");
  let started = false;
  return (event) => {
    if (event.event === "step") {
      return output.progress(`${bar(event.step / Math.max(1, event.steps))}  ${event.what}  step ${event.step}/${event.steps}`);
    }
    output.emit(event.event === "cell" ? { ...event, result: briefly(event.result) } : event);
    switch (event.event) {
      case "search":
        if (event.reused) return;
        return output.say(`${event.result.method}: learning rate ${event.result.learning_rate}${triedText(event.result.tried)}`);
      case "cell": {
        if (!started) output.say(cellLine(["done", "method", "seed", "rows", "figure", "training", "trained", "files", "energy"]));
        started = true;
        const { method, seed, size: rows, metrics, train_seconds, trained_parameters, adapter_bytes } = event.result;
        const [name] = Object.keys(metrics);
        return output.say(
          cellLine([
            `${event.done}/${event.cells}`,
            method,
            `${seed}`,
            `${rows}`,
            `${name} ${figure(metrics[name!]!.value)}`,
            event.reused ? "done before" : time(train_seconds),
            count(trained_parameters),
            size(adapter_bytes),
            energy(event.result.energy.joules),
          ]),
        );
      }
      case "refused":
        return output.note(`${note}: ${event.method} takes no part: ${event.message}`);
      case "dropped":
        return output.note(
          `${note}: ${event.cells.length} cells dropped (${event.reason}): ${event.cells.map((cell) => `${cell.method} seed ${cell.seed} rows ${cell.size}`).join(", ")}; the same command again does them`,
        );
    }
  };
}

const columns = [8, 14, 5, 7, 18, 12, 12, 10, 8];

function cellLine(cells: readonly string[]): string {
  return cells
    .map((cell, i) => cell.padEnd(columns[i]!))
    .join(" ")
    .trimEnd();
}

function triedText(tried: readonly { readonly learning_rate: number; readonly loss: number | null }[]): string {
  if (tried.length === 0) return " (its default: too few rows to search)";
  return `, of ${tried.map(({ learning_rate, loss }) => `${learning_rate} (loss ${loss === null ? "not finite" : loss.toFixed(3)})`).join(", ")}`;
}

/** A cell without what is kept for each row. */
function briefly({ replicates: _, outcomes: __, answers: ___, truth: ____, ...rest }: CellResult): object {
  return rest;
}
