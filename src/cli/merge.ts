import { merge, mergeOptions } from "../node/merge.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";

/** `peft merge`: the base model and an adapter as one ordinary checkpoint. */
export const mergeVerb = verb({
  name: "merge",
  summary: "write base model and adapter as one ordinary checkpoint, its outputs compared with theirs",
  examples: [
    "peft merge --adapter my-adapter --out my-model",
    "peft merge --model org/name --adapter my-adapter --out my-model --dtype f32",
  ],
  flags: mergeOptions.shape,
  interruption: "tidy",
  async run(output, options, _, signal) {
    const merged = await merge({ ...options, onProgress: printProgress(output), signal });
    const { out, max_abs_difference: difference, before_rounding: exact, rows, layers, dtypes } = merged;
    output.emit(merged);
    output.say(`${out}: ${layers} linear layers changed, weights in ${dtypes.join(" and ")}`);
    output.say(`largest difference of outputs on ${rows} rows: ${(exact ?? difference).toExponential(1)}`);
    if (exact !== null)
      output.say(`with weights rounded to ${dtypes.join(" and ")}: ${difference.toExponential(1)}; --dtype f32 avoids that`);
    return 0;
  },
});
