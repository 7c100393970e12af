import * as z from "zod";
import { feedName, type WeightLeaf } from "../core/graph.js";
import type { Feeds, Tensor } from "../core/tensor.js";
import type { Sites } from "../methods/method.js";
import { outputMatrix } from "../ops/output-matrix.js";
import { q4Blocks } from "../ops/q4-blocks.js";
import { q8Blocks } from "../ops/q8-blocks.js";
import type { WeightForm } from "../ops/weight-form.js";
import { weightForms } from "../ops/weight-forms.js";
import type { Runtime } from "../runtime/session.js";
import type { Task } from "../tasks/task.js";

/** How the frozen matrices of linear layers may be stored: the values of `--base-dtype` but for "auto". */
export const BASE_DTYPES = ["f32", "f16", "q8", "q4", "nf4"] as const;

/** How the frozen matrices of linear layers are stored. */
export type BaseDtype = (typeof BASE_DTYPES)[number];

/** A dtype, or `auto`: one that suits the model and the task. */
export const baseDtypeOption = z
  .enum([...BASE_DTYPES, "auto"])
  .default("f32")
  .describe("how frozen matrices are stored: f32 exact, q8 fast, f16, q4 and nf4 small, auto for what suits model and task");

/**
 * Numbers in a model's frozen matrices from which `auto` stores them as q8: below, there is no time to be gained. Of language models it takes
 * more, for their losses show the rounding: so many that float32 alone takes 1.2 GB.
 */
const worthwhile = { labels: 1e6, language: 300e6 };

/** The dtype that `auto` stands for, by the model's size and by whether the task keeps the model's own head over its vocabulary. */
export function pickBaseDtype(sites: Sites, { keepsHead }: Task): BaseDtype {
  const frozen = sites.linears.filter(({ role }) => role !== "head");
  const size = frozen.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0);
  return size < worthwhile[keepsHead ? "language" : "labels"] ? "f32" : "q8";
}

/** The form of a dtype; undefined for float32, which needs none. */
export function formOf(dtype: BaseDtype): WeightForm | undefined {
  return weightForms.find(({ name }) => name === dtype);
}

/** The forms by which programs continue texts token by token, a few rows a pass and forward only, where they are others than in training. */
const inDecoding: ReadonlyMap<BaseDtype, WeightForm> = new Map([
  ["q8", q8Blocks],
  ["q4", q4Blocks],
]);

/** How such programs store frozen matrices, and a frozen output layer. */
export function decodingForms(
  dtype: BaseDtype,
  { weights }: Pick<Runtime, "weights">,
): { readonly form: WeightForm | undefined; readonly headForm: WeightForm | undefined } {
  const form = inDecoding.get(dtype) ?? formOf(dtype);
  // a browser's program holds its weights itself: there, a table of embeddings must not be in it twice
  return { form, headForm: form?.head ?? (weights === "inputs" ? outputMatrix : undefined) };
}

/** Tensors of a weight as programs read it, by the names under which they are fed: itself, or parts of the forms that store it. */
export function storedTensors(weight: Tensor<"float32">, leaves: readonly WeightLeaf[]): Feeds {
  const whole = leaves.filter(({ part }) => part === undefined).map((leaf) => [feedName(leaf)!, weight] as const);
  const forms = [...weightForms, ...inDecoding.values(), outputMatrix];
  const parts = forms.flatMap(({ name, store }) => {
    const own = leaves.filter(({ part }) => part?.form === name);
    if (own.length === 0) return [];
    const tensors = store(
      weight,
      own.map(({ part }) => part!.name),
      own[0]!.path,
    );
    return own.map((leaf) => [feedName(leaf)!, tensors[leaf.part!.name]!] as const);
  });
  return Object.fromEntries([...whole, ...parts]);
}
