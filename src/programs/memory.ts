import { dimValue } from "../core/dims.js";
import { topological, type Value } from "../core/graph.js";
import { bytesPer, sizeOf } from "../core/tensor.js";
import type { Attachment } from "../methods/method.js";
import { type ModelDropout, type TaskHead, trainGraph } from "./adapted-model.js";
import type { BaseModel } from "./base-model.js";
import { countParameters } from "./program.js";

/** What training needs in memory, estimated; all in bytes. */
export interface MemoryEstimate {
  /** Rows in a batch, and tokens in each text: all texts are taken to be this long, which is the worst case. */
  readonly batch_size: number;
  readonly max_length: number;
  /** Node with ONNX Runtime loaded, before any model. */
  readonly process_bytes: number;
  /** Frozen weights, as float32. */
  readonly weights_bytes: number;
  /** Trained parameters with their gradients, AdamW's two moments, and the best copy that early stopping keeps. */
  readonly trained_bytes: number;
  /** The most that a training step's values take at once. */
  readonly activations_bytes: number;
  readonly total_bytes: number;
}

/** Resident size of `node` with ONNX Runtime loaded and a tokenizer read, in bytes; measured on Linux x64. */
const processBytes = 170e6;
/** Copies of each trained parameter: itself, gradient, two moments, best. */
const trainedCopies = 5;

/** Ops whose output is their input seen in another shape: ONNX Runtime does not copy. */
const views = ["reshape"];

/**
 * Estimates the memory of a training step: process + 4·(frozen parameters) + 5·4·(trained parameters) + the peak of the training graph's live
 * values, found by walking the graph in the order of its nodes and dropping each value after its last use. ONNX Runtime may order and
 * fuse nodes in another way, and its allocator keeps some slack: take it as a guide, not as a bound.
 */
export function estimateMemory(
  model: BaseModel,
  head: TaskHead,
  attachments: readonly Attachment[],
  {
    batch_size: B,
    max_length: S,
    dropout = "off",
  }: { readonly batch_size: number; readonly max_length: number; readonly dropout?: ModelDropout },
): MemoryEstimate {
  const { task } = head;
  const graph = trainGraph(model, head, attachments, dropout);
  const { trained_parameters: trained, total_parameters: total } = countParameters(graph);
  const parts = {
    process_bytes: processBytes,
    weights_bytes: 4 * (total - trained),
    trained_bytes: trainedCopies * 4 * trained,
    activations_bytes: peakBytes(graph, { B, S, T: B * S, L: task.onePerText ? B : Math.ceil((task.lossShare ?? 1) * B * S) }),
  };
  return { batch_size: B, max_length: S, ...parts, total_bytes: Object.values(parts).reduce((sum, part) => sum + part, 0) };
}

/** The most bytes that a graph's computed values hold at once, when they are computed in topological order and dropped after their last use. */
export function peakBytes(outputs: Readonly<Record<string, Value>>, sizes: Readonly<Record<string, number>>): number {
  const order = topological(Object.values(outputs));
  const owner = new Map<Value, Value>();
  const lastUse = new Map<Value, number>();
  for (const [i, value] of order.entries()) {
    const inputs = value.source.kind === "op" ? value.source.inputs : [];
    const isView = value.source.kind === "op" && views.includes(value.source.op.name);
    owner.set(value, isView ? owner.get(inputs[0]!)! : value);
    for (const used of [value, ...inputs]) lastUse.set(owner.get(used)!, i);
  }
  for (const value of Object.values(outputs)) lastUse.set(owner.get(value)!, order.length);
  const dying = new Map<number, Value[]>();
  for (const [value, i] of lastUse) dying.set(i, [...(dying.get(i) ?? []), value]);
  const bytesOf = (value: Value): number =>
    value.source.kind === "op" ? bytesPer[value.type.dtype] * sizeOf(value.shape.map((dim) => dimValue(dim, sizes))) : 0;
  let live = 0;
  let peak = 0;
  for (const [i, value] of order.entries()) {
    if (owner.get(value) === value) live += bytesOf(value);
    peak = Math.max(peak, live);
    for (const dead of dying.get(i) ?? []) live -= bytesOf(dead);
  }
  return peak;
}
