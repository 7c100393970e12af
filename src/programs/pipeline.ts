import type { Value } from "../core/graph.js";
import type { RowTable } from "../data/rows.js";
import type { Attachment } from "../methods/method.js";
import type { Example, LossScope, Outputs } from "../tasks/task.js";
import { outputGraph, type TaskHead } from "./adapted-model.js";
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
  /** Builds the forward pass: what the task keeps of the head's outputs, or all of them where they are wanted whole. */
  graph(whole?: boolean): Readonly<Record<string, Value>>;
  /** Builds the pass that continues texts. Throws ModelError or ConfigError where the model writes none. */
  continuation(): Readonly<Record<string, Value>>;
  /** Continues texts by the program of `continuation()`, its graph. */
  decoder(graph: Readonly<Record<string, Value>>, program: DecoderProgram, params: ProgramInputs["params"]): Decoder;
  /** Rows to examples. Throws DataError with file and line. */
  encode(rows: RowTable, maxLength?: number | null, scope?: LossScope): readonly Example[];
  /** What the program of `graph(whole)` gives, in the examples' order. */
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
    graph: (whole) => outputGraph(model, head, attachments, whole),
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

/** A model with an adapter, or one that has a trained head itself; its programs are loaded when rows are first run. */
export function predictor(model: BaseModel, choice: Adapter | TaskHead): Predictor {
  const { head, graph, encode, run } = adapted(model, choice);
  const params = "attachment" in choice ? choice.params : new Map();
  const programs = new Map<boolean, Promise<Program>>();
  const programOf = (whole: boolean): Promise<Program> => {
    const known = programs.get(whole);
    if (known !== undefined) return known;
    const loading = loadProgram(model, graph(whole));
    programs.set(whole, loading);
    return loading;
  };
  return {
    head,
    encode,
    run: async (examples, whole = false) => run(await programOf(whole || head.task.keep === undefined), params, examples, whole),
    dispose: async () => {
      await Promise.allSettled([...programs.values()].map(async (program) => (await program).dispose()));
    },
  };
}
