import type { RowTable } from "../data/rows.js";
import { rowTable } from "../data/rows.js";
import type { Example, Outputs, Prediction } from "../tasks/task.js";
import { forwardGraph, type TaskHead } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { longestText, packingOf } from "./limits.js";
import { runExamples } from "./outputs.js";
import { loadProgram, type Params, type Program } from "./program.js";

/** A model ready to predict, with an adapter or as it is. */
export interface Predictor {
  readonly head: TaskHead;
  /** Rows to examples. Throws DataError with file and line. */
  encode(rows: RowTable, maxLength?: number | null): readonly Example[];
  /** The head's outputs, or what the task keeps of them unless they are wanted whole, in the examples' order. */
  run(examples: readonly Example[], whole?: boolean): Promise<Outputs>;
  dispose(): Promise<void>;
}

/** Loads the forward program of a model with an adapter, or of one that has a trained head itself. */
export async function predictor(model: BaseModel, adapted: Adapter | TaskHead): Promise<Predictor> {
  const { head, attachments, params } =
    "attachment" in adapted
      ? { head: adapted.head, attachments: [adapted.attachment], params: adapted.params }
      : { head: adapted, attachments: [], params: new Map() as Params };
  const program: Program = await loadProgram(model, forwardGraph(model, head, attachments));
  return {
    head,
    encode: (rows, maxLength = null) =>
      rows.rows.map((_, i) => head.task.encode(rows, i, head.target, model.tokenizer, longestText(model, maxLength, attachments))),
    run: (examples, whole) => runExamples(program, params, examples, head, packingOf(model, attachments), whole),
    dispose: () => program.dispose(),
  };
}

/** A text, or a pair of texts. */
export type ClassifierInput = string | { readonly text: string; readonly text_pair: string };

/** Classifies texts: one prediction for one text, a list for a list, like transformers.js' pipeline. */
export interface Classifier {
  (input: ClassifierInput): Promise<Prediction>;
  (inputs: readonly ClassifierInput[]): Promise<readonly Prediction[]>;
  dispose(): Promise<void>;
}

/** A callable classifier around a predictor. */
export function classifier({ head, encode, run, dispose }: Predictor): Classifier {
  async function classify(input: ClassifierInput): Promise<Prediction>;
  async function classify(inputs: readonly ClassifierInput[]): Promise<readonly Prediction[]>;
  async function classify(input: ClassifierInput | readonly ClassifierInput[]): Promise<Prediction | readonly Prediction[]> {
    const inputs = typeof input === "string" || "text" in input ? [input] : input;
    const rows = inputs.map((each) => (typeof each === "string" ? { text: each } : each));
    const table = rowTable(rows, "input");
    const predictions = head.task.predict(await run(encode(table)), table, head.target);
    return inputs === input ? predictions : predictions[0]!;
  }
  return Object.assign(classify, { dispose });
}
