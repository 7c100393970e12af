import type { Value } from "../core/graph.js";
import type { RowTable } from "../data/rows.js";
import type { Attachment } from "../methods/method.js";
import type { Example, LossScope, Outputs } from "../tasks/task.js";
import { forwardGraph, type TaskHead } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { continuationGraph, type Decoder, type DecoderProgram, decoder } from "./decode.js";
import { longestText, packingOf } from "./limits.js";
import { runExamples } from "./outputs.js";
import { loadProgram, type Program, type ProgramInputs } from "./program.js";

/** A model with an adapter, or with its own head, apart from its program and the adapter's tensors. */
export interface AdaptedModel {
  readonly head: TaskHead;
  readonly attachments: readonly Attachment[];
  /** Builds the forward pass. */
  graph(): { readonly logits: Value };
  /** Builds the pass that continues texts. Throws ModelError or ConfigError where the model writes none. */
  continuation(): Readonly<Record<string, Value>>;
  /** Continues texts by the program of `continuation()`, its graph. */
  decoder(graph: Readonly<Record<string, Value>>, program: DecoderProgram, params: ProgramInputs["params"]): Decoder;
  /** Rows to examples. Throws DataError with file and line. */
  encode(rows: RowTable, maxLength?: number | null, scope?: LossScope): readonly Example[];
  /** The head's outputs by the program of `graph()`, or what the task keeps of them unless they are wanted whole, in the examples' order. */
  run(program: Program, params: ProgramInputs["params"], examples: readonly Example[], whole?: boolean): Promise<Outputs>;
}

/** A model seen with an adapter, or as one that has a trained head itself. */
export function adapted(model: BaseModel, choice: Adapter | TaskHead): AdaptedModel {
  return "attachment" in choice ? withAttachments(model, choice.head, [choice.attachment]) : withAttachments(model, choice, []);
}

/** Not given the adapter as a whole, whose tensors would live on in what is returned. */
function withAttachments(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): AdaptedModel {
  return {
    head,
    attachments,
    graph: () => forwardGraph(model, head, attachments),
    continuation: () => continuationGraph(model, head, attachments),
    decoder: (graph, program, params) => decoder(model, attachments, graph, program, params),
    encode: (rows, maxLength = null, scope) =>
      rows.rows.map((_, i) => head.task.encode(rows, i, head.target, model.tokenizer, longestText(model, maxLength, attachments), scope)),
    run: (program, params, examples, whole) => runExamples(program, params, examples, head, packingOf(model, attachments), whole),
  };
}

/** A model ready to predict, with an adapter or as it is. */
export interface Predictor extends Pick<AdaptedModel, "head" | "encode"> {
  /** The head's outputs, or what the task keeps of them unless they are wanted whole, in the examples' order. */
  run(examples: readonly Example[], whole?: boolean): Promise<Outputs>;
  dispose(): Promise<void>;
}

/** Loads the forward program of a model with an adapter, or of one that has a trained head itself. */
export async function predictor(model: BaseModel, choice: Adapter | TaskHead): Promise<Predictor> {
  const { head, graph, encode, run } = adapted(model, choice);
  const params = "attachment" in choice ? choice.params : new Map();
  const program = await loadProgram(model, graph());
  return { head, encode, run: (examples, whole) => run(program, params, examples, whole), dispose: () => program.dispose() };
}
