import { unmerge, unmergeOptions } from "../node/merge.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";

/** `peft unmerge`: the base model back from a merged checkpoint. */
export const unmergeVerb = verb({
  name: "unmerge",
  summary: "take an adapter out of a checkpoint again into which it was merged",
  examples: [
    "peft unmerge --model my-model --adapter my-adapter --out base",
    "peft unmerge --model my-model --adapter my-adapter --base minilm --out base",
  ],
  flags: unmergeOptions.shape,
  interruption: "tidy",
  async run(output, options, _, signal) {
    const unmerged = await unmerge({ ...options, onProgress: printProgress(output), signal });
    const { out, layers, from_base: taken, dropped, max_abs_difference: difference } = unmerged;
    output.emit(unmerged);
    output.say(`${out}: ${layers} linear layers computed back`);
    if (taken > 0) output.say(`${taken} weights that the adapter had replaced, taken from ${options.base}`);
    if (dropped.length > 0) output.say(`left out, since the adapter brought them: ${dropped.join(", ")}`);
    if (difference !== null) output.say(`largest difference from a weight of ${options.base}: ${difference.toExponential(1)}`);
    return 0;
  },
});
