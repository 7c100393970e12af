import { GraphError } from "../errors.js";
import type { Dim } from "./dims.js";
import type { Initializer } from "./initializer.js";
import type { DType, Tensor } from "./tensor.js";
import type { Sized, Work } from "./work.js";

/** What is known of a value before anything runs. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** Where values come from that no op computes. */
export type Leaf =
  /** Fed each run from the batch: ids, index maps, labels. */
  | { readonly kind: "input"; readonly name: string }
  /** Fed each run with noise: 0, or 1/(1-rate) with probability 1-rate. Drawn by core/random.ts, keyed by seed, step and name. */
  | { readonly kind: "mask"; readonly name: string; readonly rate: number }
  | WeightLeaf
  /** A tensor that belongs to the adapter. Fed each run; a gradient comes out where `trained`. */
  | ParamLeaf
  | { readonly kind: "constant"; readonly value: Tensor };

/** A frozen weight of the base model, by its path in the model: the float32 tensor itself, or one of those in which a form stores it. */
export interface WeightLeaf {
  readonly kind: "weight";
  readonly path: string;
  readonly part?: StoredPart;
}

/** One of the tensors in which a form of storage holds a weight. */
export interface StoredPart {
  /** The form's name: q8. */
  readonly form: string;
  /** What the form calls this tensor. */
  readonly name: string;
  /** The shape of the whole weight in the checkpoint. */
  readonly shape: readonly number[];
}

/** A tensor that belongs to the adapter. */
export interface ParamLeaf {
  readonly kind: "param";
  readonly path: string;
  readonly init: Initializer;
  readonly trained: boolean;
  /** Multiplies the learning rate (LoRA+ trains B faster than A). */
  readonly lr_scale: number;
  /** Whether weight decay applies: not for biases and norms. */
  readonly decay: boolean;
  /** Whether it follows from the base model alone and never changes: files do not hold it. */
  readonly derived?: boolean;
}

/** An op applied to values. */
export interface Node {
  readonly kind: "op";
  readonly op: OpDef;
  readonly inputs: readonly Value[];
  readonly attrs: unknown;
  readonly outputs: readonly Value[];
}

/** One tensor in a graph, immutable. A graph is nothing but its named outputs; there is no graph object to change. */
export class Value {
  readonly source: Node | Leaf;
  /** Which of the node's outputs this is; 0 for a leaf. */
  readonly index: number;
  readonly type: TensorType;

  constructor(source: Node | Leaf, index: number, type: TensorType) {
    this.source = source;
    this.index = index;
    this.type = type;
  }

  get shape(): readonly Dim[] {
    return this.type.shape;
  }
}

/** What a backward rule sees. */
export interface VjpContext<A> {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attrs: A;
  /** The gradient of the loss by output 0. */
  readonly grad: Value;
}

/** All there is to know about an op, in one record. */
// biome-ignore lint/suspicious/noExplicitAny: a generic's bound; each op states its own attributes
export interface OpDef<A = any> {
  readonly name: string;
  /** For products with an attribute `alpha`, which multiplies all but an addend: the addend among the inputs, where there is one. */
  addend?<T>(inputs: readonly T[], attrs: A): T | undefined;
  /** Shape rule: the outputs' types. Throws ShapeError naming the op, the shapes it got and what it expected. */
  infer(inputs: readonly TensorType[], attrs: A): readonly TensorType[];
  /**
   * Backward rule: the gradient by each input, null for an input without one. Shapes may be those before broadcasting; `gradient` sums them
   * down. "stop": outputs do not depend smoothly on the inputs (shapes, positions). "unsupported": asking for a gradient is an error.
   */
  readonly vjp: ((context: VjpContext<A>) => readonly (Value | null)[]) | "stop" | "unsupported";
  /** What running it takes once the sizes are known, for estimates; by default one pass over inputs and outputs (core/work.ts). */
  work?(inputs: readonly Sized[], outputs: readonly Sized[], attrs: A): Work;
  /** Writes ONNX nodes; returns the names of the outputs. */
  emit(emitter: Emitter, inputs: readonly string[], attrs: A, types: readonly TensorType[]): readonly string[];
}

/** An ONNX attribute: a plain number is an int, `{float}` a float. */
export type Attribute = number | readonly number[] | string | { readonly float: number };

/** What an op's `emit` may ask for. Implemented by onnx/emit.ts. */
export interface Emitter {
  /** Adds a node and returns the names of its `outputs` (1 by default). An empty input name is an input left out. */
  node(
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, Attribute>>,
    options?: { readonly outputs?: number; readonly domain?: "com.microsoft" },
  ): readonly string[];
  constant(value: Tensor): string;
  /** The name of an int64 vector that holds the sizes at run time. */
  shape(dims: readonly Dim[]): string;
}

/** Applies an op: infers the outputs' types and returns one value per output. Throws ShapeError when the inputs do not fit. */
export function apply<A>(op: OpDef<A>, inputs: readonly Value[], attrs: A): readonly Value[] {
  const types = op.infer(
    inputs.map((input) => input.type),
    attrs,
  );
  const outputs: Value[] = [];
  const node: Node = { kind: "op", op, inputs, attrs, outputs };
  for (const [index, type] of types.entries()) outputs.push(new Value(node, index, type));
  return outputs;
}

/** Applies an op with one output. */
export function apply1<A>(op: OpDef<A>, inputs: readonly Value[], attrs: A): Value {
  return apply(op, inputs, attrs)[0]!;
}

/** A leaf as a value. */
export function leaf(source: Leaf, type: TensorType): Value {
  return new Value(source, 0, type);
}

/** A constant tensor as a value. */
export function constant(value: Tensor): Value {
  return leaf({ kind: "constant", value }, { dtype: value.dtype, shape: value.shape });
}

/** A batch input as a value; its symbolic sizes become known at run time from what is fed. */
export function input(name: string, dtype: DType, shape: readonly Dim[]): Value {
  return leaf({ kind: "input", name }, { dtype, shape });
}

/** All values that `outputs` depend on, themselves included, each after what it depends on. Iterative: deep models do not overflow the stack. */
export function topological(outputs: Iterable<Value>): readonly Value[] {
  const order: Value[] = [];
  const done = new Set<Value>();
  const entered = new Set<Value>();
  const stack = [...outputs].reverse();
  while (stack.length > 0) {
    const value = stack.at(-1)!;
    if (done.has(value)) {
      stack.pop();
      continue;
    }
    const inputs = value.source.kind === "op" ? value.source.inputs : [];
    const open = inputs.filter((each) => !done.has(each));
    if (open.length === 0) {
      done.add(value);
      order.push(value);
      stack.pop();
      continue;
    }
    if (entered.has(value)) throw new GraphError("the graph has a cycle; values must be made by apply()");
    entered.add(value);
    for (let i = open.length - 1; i >= 0; i--) stack.push(open[i]!);
  }
  return order;
}

/** The name under which a leaf is fed, unique within a graph; undefined for constants. */
export function feedName(source: Leaf): string | undefined {
  switch (source.kind) {
    case "input":
      return `batch:${source.name}`;
    case "mask":
      return `mask:${source.name}`;
    case "weight":
      return `weight:${source.path}${source.part === undefined ? "" : `#${source.part.form}.${source.part.name}`}`;
    case "param":
      return paramFeed(source.path);
    case "constant":
      return undefined;
  }
}

/** The name under which a parameter is fed. */
export function paramFeed(path: string): string {
  return `param:${path}`;
}
