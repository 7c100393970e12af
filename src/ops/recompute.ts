import { apply, type OpDef, topological, type Value } from "../core/graph.js";
import { noWork } from "../core/work.js";
import { sameShape, shapeError } from "./shapes.js";

/**
 * x, which cannot be had before `signal` is: inputs x and signal, of one shape. It is a reshape of x to the signal's sizes, which copies
 * nothing; an identity would be optimised away, and what follows be merged with what was computed before.
 */
export const afterOp: OpDef<null> = {
  name: "after",
  infer: (inputs) => {
    const [x, signal] = inputs;
    if (inputs.length !== 2 || !sameShape(x!.shape, signal!.shape)) throw shapeError("after", inputs, "two values of one shape");
    return [x!];
  },
  vjp: "unsupported",
  work: () => noWork,
  emit: (e, [x, signal]) => e.node("Reshape", [x!, e.node("Shape", [signal!])[0]!]),
};

/** What backward rules read instead of the forward pass's own values. */
export interface Reread {
  /** Told of each value's gradient, once it is complete and before the rules of what the value was made from are asked. */
  arrived(value: Value, grad: Value): void;
  /** The value to read. */
  of(value: Value): Value;
}

/** The forward pass's own values, which stay in memory until they are read. */
export const kept: Reread = { arrived: () => {}, of: (value) => value };

/**
 * Values of a layer computed a second time, from the layer's input, when the gradient by the layer's output is there (Chen et al. 2016,
 * arXiv:1604.06174): only the inputs of layers stay in memory. `inputs` are those of all layers, in order. The last layer is not
 * recomputed: its gradients come first. Gradients are the same, since dropout's noise is fed.
 */
export function recomputed(loss: Value, inputs: readonly Value[]): Reread {
  const layers = layersOf(loss, inputs);
  const twins = new Map<Value, Value>();
  let open = -1; // the layer whose values may be computed again: the gradient by its output is there
  const of = (value: Value): Value => {
    const known = twins.get(value);
    if (known !== undefined) return known;
    const { source } = value;
    if (source.kind !== "op" || layers.get(value) !== open) return value;
    for (const [i, twin] of apply(source.op, source.inputs.map(of), source.attrs).entries()) twins.set(source.outputs[i]!, twin);
    return twins.get(value)!;
  };
  return {
    arrived(value, grad) {
      const layer = inputs.indexOf(value) - 1;
      if (layer < 0) return;
      open = layer;
      twins.clear();
      twins.set(inputs[layer]!, apply(afterOp, [inputs[layer]!, grad], null)[0]!);
    },
    of,
  };
}

/** The layer to which each value belongs: the last one on whose input it depends; -1 for none. An input belongs to the layer before it. */
function layersOf(loss: Value, inputs: readonly Value[]): ReadonlyMap<Value, number> {
  const layers = new Map<Value, number>();
  const starts = new Map(inputs.map((value, i) => [value, i]));
  for (const value of topological([loss])) {
    const before = value.source.kind === "op" ? value.source.inputs : [];
    layers.set(value, Math.max(-1, ...before.map((each) => starts.get(each) ?? layers.get(each)!)));
  }
  return layers;
}
