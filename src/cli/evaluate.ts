import { z } from "zod";
import { readRows } from "../data/read-rows.js";
import { DataError } from "../errors.js";
import { addFlags, readFlags } from "./flags.js";
import { modelFlags } from "./model-flags.js";
import { openPredictor } from "./open-predictor.js";
import { metricsText } from "./train.js";
import type { Verb } from "./verb.js";

const flagShape = {
  ...modelFlags,
  data: z.string().describe("labelled rows: a .jsonl, .csv or .parquet file, or hf:dataset/id[:config][:split]"),
};

/** `peft evaluate`: metrics of the task on labelled rows. */
export const evaluateVerb: Verb = {
  describe(program) {
    return addFlags(program.command("evaluate").description("measure a model or an adapter on labelled rows"), flagShape);
  },
  async run(output, flags) {
    const options = z.strictObject(flagShape).parse(await readFlags(flagShape, flags));
    const rows = await readRows(options.data, { map: options.map });
    const ready = await openPredictor(output, options);
    try {
      const began = performance.now();
      const { task, target } = ready.head;
      const examples = ready.encode(rows, options.max_length);
      const unlabelled = examples.findIndex(({ label }) => label === undefined);
      if (unlabelled >= 0)
        throw new DataError(`${rows.where(unlabelled)}: no column "label"`, {
          hint: "evaluation needs labelled rows; peft predict does not",
        });
      const { loss, metrics } = task.evaluate(await ready.run(examples), examples, target);
      const seconds = (performance.now() - began) / 1000;
      output.emit({ task: task.name, rows: examples.length, loss, metrics, seconds });
      output.say(`${task.name} on ${examples.length} rows: ${metricsText(metrics)}, loss ${loss.toFixed(4)} (${seconds.toFixed(1)} s)`);
      return 0;
    } finally {
      await ready.close();
    }
  },
};
