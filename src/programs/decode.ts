import { emptySlot, presentName } from "../core/batch.js";
import { dimValue } from "../core/dims.js";
import { feedName, topological, type Value } from "../core/graph.js";
import { type Feeds, f32, i32 } from "../core/tensor.js";
import { type Packing, packTexts } from "../data/collate.js";
import { ConfigError, ModelError } from "../errors.js";
import { layoutOf, readsWholeTexts } from "../methods/layout.js";
import type { Attachment } from "../methods/method.js";
import type { CarriedTensors } from "../runtime/session.js";
import { textGeneration } from "../tasks/text-generation.js";
import { decodeGraph, forwardGraph, type TaskHead } from "./adapted-model.js";
import type { BaseModel } from "./base-model.js";
import { longestText, packingOf } from "./limits.js";
import type { Program, ProgramInputs } from "./program.js";

/** Texts that are continued together. */
export interface Decoding {
  /**
   * Gives texts further tokens: `tokens[b]` are text b's, none where it has ended; at first each text needs some. Returns the logits [V] after
   * the last token of each text that got any, by the text's place. What comes out for one text does not depend on the others.
   */
  next(tokens: readonly (readonly number[])[]): Promise<readonly (Float32Array | undefined)[]>;
  /** Frees what the runtime keeps of the texts. */
  dispose(): Promise<void>;
}

/** A model, with an adapter or without, ready to continue texts. */
export interface Decoder {
  readonly model: BaseModel;
  /** Tokens that a text may have at most, those that are generated included. */
  readonly longest: number;
  /** Loads what the first pass would load otherwise. */
  load(): Promise<void>;
  /** Begins with so many texts. */
  start(texts: number): Promise<Decoding>;
}

/** A program that may be loaded when it is needed. */
export interface DecoderProgram extends Pick<Program, "run"> {
  load(): Promise<void>;
}

/** Throws ModelError for a model whose tokens see those after them. */
export function checkWritesTexts({ family }: BaseModel): void {
  if (family.causal === true) return;
  throw new ModelError(`a ${family.model_types[0]} model writes no texts: its tokens see those after them`, {
    hint: "language models do, such as smollm2-135m",
  });
}

/**
 * The graph by which a model continues texts. Throws ModelError for a model whose tokens see those after them, ConfigError for an adapter of
 * another task.
 */
export function continuationGraph(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): Readonly<Record<string, Value>> {
  checkWritesTexts(model);
  if (head.task !== textGeneration) throw new ConfigError(`the adapter is for ${head.task.name}; it writes no texts`);
  return (readsWholeTexts(attachments) ? forwardGraph : decodeGraph)(model, head, attachments);
}

/** A decoder around the loaded program of `continuationGraph`. */
export function decoder(
  model: BaseModel,
  attachments: readonly Attachment[],
  graph: Readonly<Record<string, Value>>,
  program: DecoderProgram,
  params: ProgramInputs["params"],
): Decoder {
  const packing = packingOf(model, attachments);
  const { positionOffset } = layoutOf(attachments);
  return {
    model,
    longest: longestText(model, null, attachments),
    load: () => program.load(),
    start: async (texts) =>
      readsWholeTexts(attachments)
        ? recomputing(program, params, packing, texts)
        : cached(program, params, packing, positionOffset, texts, await emptyCache(model, graph, texts)),
  };
}

/** Each pass reads the new tokens, and the keys and values of those before them. */
function cached(
  program: Pick<Program, "run">,
  params: ProgramInputs["params"],
  packing: Packing,
  ahead: number,
  texts: number,
  carried: CarriedTensors,
): Decoding {
  const rows = new Int32Array(texts); // of each text, virtual ones included
  const slots = Array.from({ length: texts }, () => Array.from({ length: ahead }, (_, i) => i - ahead));
  let begun = false;
  return {
    async next(tokens) {
      const parts = tokens.map((ids, b) => ({
        ids: Int32Array.from(ids),
        typeIds: new Int32Array(ids.length),
        ...(begun ? { before: rows[b]! } : {}),
      }));
      const { feeds, summaryRows } = packTexts(parts, packing);
      begun = true;
      const lengths = feeds.lengths!.data as Int32Array;
      const width = feeds.slots!.shape[0]!;
      const queries = new Int32Array(texts * width);
      for (let b = 0; b < texts; b++) {
        for (let s = 0; s < width; s++) {
          const isReal = s < lengths[b]!;
          queries[b * width + s] = rows[b]! + s;
          slots[b]!.push(isReal ? rows[b]! + s : emptySlot);
        }
        rows[b]! += lengths[b]!;
      }
      const batch: Feeds = {
        ...feeds,
        querySlots: i32(queries, [texts, width]),
        keySlots: i32(slots.flat(), [texts, slots[0]!.length]),
      };
      return logitsOf(program, { batch, params, carried }, tokens, summaryRows);
    },
    dispose: () => carried.held.dispose(),
  };
}

/** Each pass reads the texts from their beginning: for methods that read a text as a whole. */
function recomputing(program: Pick<Program, "run">, params: ProgramInputs["params"], packing: Packing, texts: number): Decoding {
  const whole: number[][] = Array.from({ length: texts }, () => []);
  return {
    next(tokens) {
      const parts = tokens.flatMap((ids, b) => {
        whole[b]!.push(...ids);
        return ids.length === 0 ? [] : [{ ids: Int32Array.from(whole[b]!), typeIds: new Int32Array(whole[b]!.length) }];
      });
      const { feeds, summaryRows } = packTexts(parts, packing);
      let at = 0;
      const rows = tokens.map((ids) => (ids.length === 0 ? 0 : summaryRows[at++]!));
      return logitsOf(program, { batch: feeds, params }, tokens, rows);
    },
    dispose: async () => {},
  };
}

/** Runs a program that reads the last row of each text that got tokens. */
async function logitsOf(
  program: Pick<Program, "run">,
  inputs: ProgramInputs,
  tokens: readonly (readonly number[])[],
  lastRows: ArrayLike<number>,
): Promise<readonly (Float32Array | undefined)[]> {
  const lossRows = i32(tokens.flatMap((ids, b) => (ids.length === 0 ? [] : [lastRows[b]!])));
  const { logits } = await program.run({ ...inputs, batch: { ...inputs.batch, lossRows } });
  const width = logits!.shape[1]!;
  const data = logits!.data as Float32Array;
  let at = 0;
  return tokens.map((ids) => (ids.length === 0 ? undefined : data.subarray(at * width, ++at * width)));
}

/** A cache without keys and values, in the runtime, and where each run's go. */
async function emptyCache(model: BaseModel, graph: Readonly<Record<string, Value>>, texts: number): Promise<CarriedTensors> {
  const empty: Record<string, Feeds[string]> = {};
  const outputs: Record<string, string> = {};
  for (const { source, shape } of topological(Object.values(graph))) {
    if (source.kind !== "input") continue;
    const present = presentName(source.name);
    if (present === undefined) continue;
    const name = feedName(source)!;
    empty[name] = f32(
      new Float32Array(0),
      shape.map((size) => dimValue(size, { B: texts, P: 0 })),
    );
    outputs[present] = name;
  }
  return { held: await model.runtime.hold(empty), outputs };
}
