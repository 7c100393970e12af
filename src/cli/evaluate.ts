import * as z from "zod";
import { readRows } from "../data/read-rows.js";
import { DataError } from "../errors.js";
import { checkScope, type Task } from "../tasks/task.js";
import { trainingOptions } from "../train/options.js";
import { modelFlags } from "./model-flags.js";
import { openPredictor } from "./open-predictor.js";
import { verb } from "./verb.js";
import { metricsText } from "./words.js";

const flagShape = {
  ...modelFlags,
  data: z.string().describe("labelled rows: a .jsonl, .csv or .parquet file, or hf:dataset/id[:config][:split]"),
  train_on_prompt: trainingOptions.shape.train_on_prompt,
  last_turn_only: trainingOptions.shape.last_turn_only,
};

/** `peft evaluate`: metrics of the task on labelled rows. */
export const evaluateVerb = verb({
  name: "evaluate",
  summary: "measure a model or an adapter on labelled rows",
  examples: ["peft evaluate --adapter my-adapter --data test.jsonl"],
  flags: flagShape,
  async run(output, options) {
    const rows = await readRows(options.data, { map: options.map });
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
      const { loss, metrics } = task.evaluate(await ready.run(examples), examples, target);
      const seconds = (performance.now() - began) / 1000;
      output.emit({ task: task.name, rows: examples.length, loss, metrics, seconds });
      output.say(`${task.name} on ${examples.length} rows: ${metricsText(metrics)}, loss ${loss.toFixed(4)} (${seconds.toFixed(1)} s)`);
      return 0;
    } finally {
      await ready.close();
    }
  },
});

function unlabelledText({ columns: { labels } }: Task): string {
  return labels.length > 0 ? `no column "${labels[0]}"` : "the text has masks in it, and nothing says what stood there";
}
