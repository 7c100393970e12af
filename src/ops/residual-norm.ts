import { apply, type OpDef, topological, type Value } from "../core/graph.js";
import { addOp } from "./elementwise.js";
import { layerNormOp, rmsNormOp } from "./norm.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";

/** Which norm follows the sum, and what it adds to the variance. */
interface ResidualNormAttrs {
  readonly op: typeof layerNormOp | typeof rmsNormOp;
  readonly eps: number;
}

/** a + b and its norm, as one node: a, b [T, D], then what the norm reads beside them, each [D] → the norm of the sum, and the sum, [T, D]. */
export const residualNormOp: OpDef<ResidualNormAttrs> = {
  name: "residual_norm",
  infer: (inputs, { op }) => {
    expectInputs("residual_norm", inputs, op === layerNormOp ? 4 : 3);
    const [a, b, ...parts] = inputs;
    if (a!.shape.length !== 2 || !sameShape(a!.shape, b!.shape) || parts.some(({ shape }) => !sameShape(shape, [a!.shape[1]!])))
      throw shapeError("residual_norm", inputs, "two matrices [T, D] and the norm's vectors [D]");
    return [a!, a!];
  },
  vjp: "unsupported",
  emit: (e, inputs, { op, eps }) => {
    const opType = op === layerNormOp ? "SkipLayerNormalization" : "SkipSimplifiedLayerNormalization";
    const [y, , , sum] = e.node(opType, inputs, { epsilon: { float: eps } }, { domain: "com.microsoft", outputs: 4 });
    return [y!, sum!];
  },
};

/** The same graph with each sum of two matrices that a norm follows, and the norm, as one node; not for graphs that need gradients. */
export function withResidualNorms(outputs: Readonly<Record<string, Value>>): Readonly<Record<string, Value>> {
  const order = topological(Object.values(outputs));
  const used = new Set(order);
  const norms = new Map<Value, Value>();
  for (const value of order) {
    const { source } = value;
    if (source.kind !== "op" || (source.op !== layerNormOp && source.op !== rmsNormOp)) continue;
    const [x, ...parts] = source.inputs;
    // the fused node has none of the results that the backward pass reads, and stands where the sum stood
    const plain = source.outputs[0] === value && source.outputs.slice(1).every((each) => !used.has(each));
    if (plain && x!.source.kind === "op" && x!.source.op === addOp && parts.every((part) => part.source.kind !== "op"))
      norms.set(x!, value);
  }
  const replaced = new Map<Value, Value>();
  const now = (value: Value): Value => replaced.get(value) ?? value;
  for (const value of order) {
    const { source } = value;
    if (source.kind !== "op" || replaced.has(value)) continue;
    const inputs = source.inputs.map(now);
    const norm = norms.get(value);
    if (
      norm?.source.kind === "op" &&
      inputs.length === 2 &&
      value.shape.length === 2 &&
      inputs.every(({ shape }) => sameShape(shape, value.shape))
    ) {
      const { op, inputs: of, attrs } = norm.source;
      const [y, sum] = apply(residualNormOp, [...inputs, ...of.slice(1)], { op, ...(attrs as { readonly eps: number }) });
      replaced.set(norm, y!);
      replaced.set(value, sum!);
    } else if (inputs.some((input, i) => input !== source.inputs[i])) {
      for (const [i, twin] of apply(source.op, inputs, source.attrs).entries()) replaced.set(source.outputs[i]!, twin);
    }
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, now(value)]));
}
