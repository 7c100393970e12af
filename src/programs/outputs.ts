import { batchesByLength, type Packing, packTexts } from "../data/collate.js";
import type { Example, Outputs } from "../tasks/task.js";
import type { TaskHead } from "./adapted-model.js";
import type { Program, ProgramInputs } from "./program.js";

/** Padded tokens that one evaluation batch may hold: large enough to keep the cores busy, small enough for the caches. */
export const maxPlaces = 1024;
/** Numbers that a head may give for one batch where all of them are wanted, 17 MB: with a vocabulary of 49152 tokens 85 rows. */
export const maxOutputs = 2 ** 22;

/**
 * Runs the program of an `outputGraph` over examples, in batches of similar length; the outputs stand in the examples' order. `whole` says that
 * the program gives all outputs of the head, also where the task would keep less.
 */
export async function runExamples(
  program: Program,
  params: ProgramInputs["params"],
  examples: readonly Example[],
  { task, target }: TaskHead,
  packing: Packing,
  whole = false,
): Promise<Outputs> {
  const keep = whole ? undefined : task.keep;
  const width = keep?.width ?? task.outputs(target);
  const rowsOf = ({ reads }: Example): number => reads?.length ?? 1;
  const outputs: Float32Array[] = [];
  const batches = batchesByLength(
    examples.map(({ ids }) => ids.length + packing.virtualTokens),
    examples.map(rowsOf),
    { places: maxPlaces, reads: Math.floor(maxOutputs / width) },
  );
  for (const rows of batches) {
    const texts = rows.map((row) => examples[row]!);
    const packed = packTexts(texts, packing);
    const results = await program.run({ batch: { ...packed.feeds, ...task.feeds(packed, texts, target) }, params });
    const data = results[keep === undefined ? "logits" : "kept"]!.data as Float32Array;
    let at = 0;
    for (const row of rows) {
      const size = width * rowsOf(examples[row]!);
      outputs[row] = data.slice(at, at + size);
      at += size;
    }
  }
  return outputs;
}
