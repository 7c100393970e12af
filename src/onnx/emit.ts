import { type Dim, dimTerms } from "../core/dims.js";
import { type Emitter, feedName, type Leaf, topological, type Value, type WeightLeaf } from "../core/graph.js";
import { i64, type Tensor } from "../core/tensor.js";
import { GraphError } from "../errors.js";
import { encodeModel, type ModelProto, type NodeProto } from "./proto.js";

/** A graph as ONNX bytes, and the leaves that must be fed. */
export interface EmittedModel {
  readonly bytes: Uint8Array;
  /** The fed leaves by their names in the model. */
  readonly feeds: ReadonlyMap<string, Value>;
  /** Initialisers that the model names but does not hold: the session takes them from what its runtime keeps. */
  readonly external: readonly string[];
}

/** How a frozen weight gets into a model: with these bytes, as an initialiser whose bytes the runtime keeps, or (undefined) fed each run. */
export type WeightEntry = Tensor | "kept" | undefined;

/**
 * Writes a graph as an ONNX model whose outputs carry the given names. `entry` says how each frozen weight gets in; all are fed by default. Each node
 * is called `OUTPUT/NUMBER` after the first output that needs it: in a training program `loss/…` is the forward pass, all others the backward pass.
 */
export function emit(outputs: Readonly<Record<string, Value>>, entry: (leaf: WeightLeaf) => WeightEntry = () => undefined): EmittedModel {
  const order = topological(Object.values(outputs));
  const names = new Map<Value, string>();
  const writer = new GraphWriter(order);
  const feeds = new Map<string, Value>();
  const wanted = Object.entries(outputs);
  for (const value of order) {
    while (wanted.length > 1 && names.has(wanted[0]![1])) wanted.shift();
    writer.part = wanted[0]![0];
    const { source } = value;
    if (source.kind === "op") {
      if (names.has(value)) continue;
      const inputs = source.inputs.map((each) => names.get(each)!);
      const results = source.op.emit(
        writer,
        inputs,
        source.attrs,
        source.outputs.map((each) => each.type),
      );
      for (const [i, output] of source.outputs.entries()) {
        names.set(output, results[i]!);
        writer.state(results[i]!, output.type);
      }
    } else {
      names.set(value, writer.leaf(source, value, entry, feeds));
    }
  }
  for (const [name, value] of Object.entries(outputs)) writer.output(name, names.get(value)!, value);
  const model = writer.model();
  return { bytes: encodeModel(model), feeds, external: model.external.map(([name]) => name) };
}

class GraphWriter implements Emitter {
  /** The output for which nodes are written now. */
  part = "";
  readonly #nodes: NodeProto[] = [];
  readonly #initializers: [string, Tensor][] = [];
  readonly #external: [string, Value["type"]][] = [];
  readonly #inputs: [string, Value["type"]][] = [];
  readonly #outputs: { readonly name: string; readonly from: string; readonly type: Value["type"] }[] = [];
  readonly #between: [string, Value["type"]][] = [];
  readonly #constants = new Map<string | Tensor, string>();
  readonly #shapes = new Map<string, string>();
  /** Where each size symbol can be read: a fed tensor's name and axis. */
  readonly #sizes = new Map<string, readonly [name: string, axis: number]>();

  constructor(order: readonly Value[]) {
    for (const { source, shape } of order) {
      if (source.kind !== "input") continue;
      for (const [axis, size] of shape.entries())
        if (typeof size === "string" && !this.#sizes.has(size)) this.#sizes.set(size, [feedName(source)!, axis]);
    }
  }

  model(): ModelProto {
    return {
      ...this.#named(),
      initializers: this.#initializers,
      external: this.#external,
      inputs: this.#inputs,
      outputs: this.#outputs.map(({ name, type }) => [name, type] as const),
    };
  }

  /** The nodes, those results under the outputs' names that are outputs: an `Identity` copies, so it stands only where there is no other way. */
  #named(): Pick<ModelProto, "nodes" | "between"> {
    const made = new Set(this.#nodes.flatMap(({ outputs }) => outputs));
    const renamed = new Map<string, string>();
    const copies: NodeProto[] = [];
    for (const { name, from } of this.#outputs) {
      if (made.has(from) && !renamed.has(from)) renamed.set(from, name);
      else copies.push({ name, opType: "Identity", domain: "", inputs: [renamed.get(from) ?? from], outputs: [name], attributes: {} });
    }
    const nameOf = (name: string): string => renamed.get(name) ?? name;
    return {
      nodes: [...this.#nodes.map((node) => ({ ...node, inputs: node.inputs.map(nameOf), outputs: node.outputs.map(nameOf) })), ...copies],
      between: this.#between.filter(([name]) => !renamed.has(name)),
    };
  }

  leaf(source: Leaf, value: Value, entry: (leaf: WeightLeaf) => WeightEntry, feeds: Map<string, Value>): string {
    if (source.kind === "constant") return this.constant(source.value);
    const name = feedName(source)!;
    const how = source.kind === "weight" ? entry(source) : undefined;
    if (how !== undefined) {
      if (how === "kept") this.#external.push([name, value.type]);
      else this.#initializers.push([name, how]);
      return name;
    }
    this.#inputs.push([name, value.type]);
    feeds.set(name, value);
    return name;
  }

  output(name: string, from: string, { type }: Value): void {
    this.#outputs.push({ name, from, type });
  }

  /**
   * States what a node gives. ORT cannot tell the sizes of what a reshape to sizes known only at run time gives; stated, tensors that are as
   * large as one another take turns in one buffer, and planning those is quick: it tries each that is free.
   */
  state(name: string, type: Value["type"]): void {
    this.#between.push([name, type]);
  }

  node(...[opType, inputs, attributes = {}, options = {}]: Parameters<Emitter["node"]>): readonly string[] {
    const id = this.#nodes.length;
    const outputs = Array.from({ length: options.outputs ?? 1 }, (_, i) => `n${id}.${i}`);
    this.#nodes.push({ name: `${this.part}/${id}`, opType, domain: options.domain ?? "", inputs, outputs, attributes });
    return outputs;
  }

  constant(value: Tensor): string {
    // small ones are told by their numbers, others by being the same tensor
    const key =
      value.data.length <= 16
        ? `${value.dtype}[${value.shape}]${Array.from<number | bigint, string>(value.data, (each) => (Object.is(each, -0) ? "-0" : String(each))).join(",")}`
        : value;
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const name = `c${this.#initializers.length}`;
    this.#initializers.push([name, value]);
    this.#constants.set(key, name);
    return name;
  }

  shape(dims: readonly Dim[]): string {
    const key = dims.join(",");
    const known = this.#shapes.get(key);
    if (known !== undefined) return known;
    const parts = dims.map((dim) => (typeof dim === "number" ? this.constant(i64([dim])) : this.#size(dim)));
    const name = dims.every((dim) => typeof dim === "number")
      ? this.constant(i64(dims.map(Number)))
      : parts.length === 1
        ? parts[0]!
        : this.node("Concat", parts, { axis: 0 })[0]!;
    this.#shapes.set(key, name);
    return name;
  }

  /** The name of an int64 [1] that holds a symbolic size at run time. */
  #size(dim: string): string {
    const direct = this.#sizes.get(dim);
    if (direct !== undefined) {
      const [name, axis] = direct;
      return this.node("Shape", [name], { start: axis, end: axis + 1 })[0]!;
    }
    const terms = dimTerms(dim).map(([coefficient, symbols]) => {
      const factors = [
        ...(coefficient === 1 && symbols.length > 0 ? [] : [this.constant(i64([coefficient]))]),
        ...symbols.map((symbol) => this.#symbol(symbol)),
      ];
      return factors.reduce((left, right) => this.node("Mul", [left, right])[0]!);
    });
    return terms.reduce((left, right) => this.node("Add", [left, right])[0]!);
  }

  #symbol(symbol: string): string {
    if (!this.#sizes.has(symbol)) throw new GraphError(`the size "${symbol}" is not an axis of any fed tensor`);
    return this.shape([symbol]);
  }
}
