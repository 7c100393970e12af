import { type Dim, dimValue } from "../core/dims.js";
import { type Node, topological, type Value } from "../core/graph.js";
import { sizeOf } from "../core/tensor.js";
import { bytesOf, onePass, type Sized, type Work } from "../core/work.js";

type Graph = Readonly<Record<string, Value>>;
/** Sizes of a batch by their symbols: T, B, S, L, R (core/batch.ts). */
export type Sizes = Readonly<Record<string, number>>;

/** What running a graph once takes. */
export interface GraphWork {
  /** Operations of matrix products by kind, two for each multiplication with an addition. */
  readonly operations: Readonly<Record<string, number>>;
  /** Bytes that everything else reads and writes. */
  readonly moved: number;
}

/** The ops of a graph, each after those whose outputs it reads. */
export function graphNodes(outputs: Graph): readonly Node[] {
  return [...new Set(topological(Object.values(outputs)).flatMap(({ source }) => (source.kind === "op" ? [source] : [])))];
}

/** Adds up the work of a graph's ops for a batch of these sizes. */
export function graphWork(outputs: Graph, sizes: Sizes): GraphWork {
  const sized = sizer(sizes);
  const operations: Record<string, number> = {};
  let moved = 0;
  for (const node of graphNodes(outputs)) {
    const work = workOf(node, sized);
    if (work.product !== undefined) operations[work.product.kind] = (operations[work.product.kind] ?? 0) + work.product.operations;
    moved += work.moved;
  }
  return { operations, moved };
}

/**
 * The most bytes that a graph's computed values hold at once, when they are computed in topological order and dropped after their last use; what
 * an op holds within itself counts while it runs.
 */
export function peakBytes(outputs: Graph, sizes: Sizes): number {
  const sized = sizer(sizes);
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
  const held = (value: Value): number => (value.source.kind === "op" && owner.get(value) === value ? bytesOf(sized(value)) : 0);
  let live = 0;
  let peak = 0;
  for (const [i, value] of order.entries()) {
    live += held(value);
    peak = Math.max(peak, live + (value.source.kind === "op" && value.index === 0 ? workOf(value.source, sized).scratch : 0));
    for (const dead of dying.get(i) ?? []) live -= held(dead);
  }
  return peak;
}

/** Bytes of what is fed to a graph besides weights and parameters. */
export function fedBytes(outputs: Graph, sizes: Sizes): number {
  const sized = sizer(sizes);
  const fed = topological(Object.values(outputs)).filter(({ source }) => source.kind === "input" || source.kind === "mask");
  return bytesOf(...fed.map(sized));
}

/** Numbers of noise that are drawn for a run. */
export function maskNumbers(outputs: Graph, sizes: Sizes): number {
  const sized = sizer(sizes);
  return topological(Object.values(outputs)).reduce(
    (total, value) => total + (value.source.kind === "mask" ? sizeOf(sized(value).shape) : 0),
    0,
  );
}

/** Ops whose output is their input seen in another shape: ONNX Runtime does not copy. */
const views = ["reshape", "after"];

/** The work of one op. */
export function workOf({ op, inputs, outputs, attrs }: Node, sized: (value: Value) => Sized): Work {
  return (op.work ?? onePass)(inputs.map(sized), outputs.map(sized), attrs);
}

/** Values with their sizes known; each symbolic size is worked out once. */
export function sizer(sizes: Sizes): (value: Value) => Sized {
  const known = new Map<Dim, number>();
  const size = (dim: Dim): number => {
    const found = known.get(dim) ?? dimValue(dim, sizes);
    known.set(dim, found);
    return found;
  };
  return ({ type }) => ({ dtype: type.dtype, shape: type.shape.map(size) });
}
