import { combine, combineOptions } from "../node/combine.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";

/** `peft combine`: one adapter made of several. */
export const combineVerb = verb({
  name: "combine",
  summary: "make one adapter of several: LoRA's matrices added or joined, adapter layers stacked, averaged or fused",
  examples: [
    "peft combine --type linear --adapter a=adapters/a --adapter b=adapters/b --weights 0.7,0.3 --out a-and-b",
    "peft combine --type stack --adapter en=adapters/en --adapter task=adapters/task --out my-stack",
  ],
  flags: combineOptions.shape,
  interruption: "tidy",
  async run(output, options, _, signal) {
    const combined = await combine({ ...options, onProgress: printProgress(output), signal });
    output.emit(combined);
    output.say(`${combined.out}: ${combined.type} of ${combined.adapters.join(", ")}, with the head of ${combined.head}`);
    if (combined.type === "fuse") output.say("the attention over the adapters is not trained yet: peft train --method fuse trains it");
    return 0;
  },
});
