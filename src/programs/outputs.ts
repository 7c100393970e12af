import { batchesByLength, packTexts } from "../data/collate.js";
import type { Example, Outputs } from "../tasks/task.js";
import type { TaskHead } from "./adapted-model.js";
import type { Params, Program } from "./program.js";

/** Padded tokens that one evaluation batch may hold: large enough to keep the cores busy, small enough for the caches. */
const maxTokens = 2048;

/** Runs a forward program over examples, in batches of similar length; the outputs stand in the examples' order. */
export async function runExamples(
  program: Program,
  params: Params,
  examples: readonly Example[],
  { task, target }: TaskHead,
): Promise<Outputs> {
  const width = task.outputs(target);
  const logits = new Float32Array(examples.length * width);
  const batches = batchesByLength(
    examples.map(({ ids }) => ids.length),
    maxTokens,
  );
  for (const rows of batches) {
    const texts = rows.map((row) => examples[row]!);
    const packed = packTexts(texts);
    const results = await program.run({ batch: { ...packed.feeds, ...task.feeds(packed, texts, target) }, params });
    const data = results.logits!.data as Float32Array;
    for (const [i, row] of rows.entries()) logits.set(data.subarray(i * width, (i + 1) * width), row * width);
  }
  return { logits, width };
}
