import { apply, type OpDef, type Value } from "../core/graph.js";
import { mul, scale, sub } from "./elementwise.js";
import { sum } from "./reduce.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";

/**
 * Normalises the last axis and applies a weight and a bias (Ba et al. 2016, arXiv:1607.06450). Inputs x [.., D], weight [D], bias [D].
 * Outputs y [.., D], and for the backward pass the mean and the inverse deviation [.., 1].
 */
export const layerNormOp: OpDef<{ readonly eps: number }> = {
  name: "layer_norm",
  infer: (inputs) => {
    expectInputs("layer_norm", inputs, 3);
    const [x, weight, bias] = inputs;
    const width = x!.shape.slice(-1);
    if (!sameShape(weight!.shape, width) || !sameShape(bias!.shape, width))
      throw shapeError("layer_norm", inputs, "x [.., D], weight [D] and bias [D]");
    const row = { dtype: "float32" as const, shape: [...x!.shape.slice(0, -1), 1] };
    return [x!, row, row];
  },
  vjp: ({ inputs: [x, weight], outputs: [, mean, inverse], grad }) => {
    const width = Number(x!.shape.at(-1));
    const average = (value: Value): Value => scale(sum(value, [-1]), 1 / width);
    const normalised = mul(sub(x!, mean!), inverse!);
    const g = mul(grad, weight!);
    const dx = mul(inverse!, sub(sub(g, average(g)), mul(normalised, average(mul(g, normalised)))));
    return [dx, mul(grad, normalised), grad];
  },
  emit: (e, inputs, { eps }) => e.node("LayerNormalization", inputs, { axis: -1, epsilon: { float: eps } }, { outputs: 3 }),
};

/** LayerNorm over the last axis: x [.., D], weight [D], bias [D]; `eps` is added to the variance. torch's nn.LayerNorm. */
export function layerNorm(x: Value, weight: Value, bias: Value, eps: number): Value {
  return apply(layerNormOp, [x, weight, bias], { eps })[0]!;
}

/**
 * Divides the last axis by its root mean square and applies a weight (Zhang & Sennrich 2019, arXiv:1910.07467). Inputs x [.., D], weight [D].
 * Outputs y [.., D], and for the backward pass the inverse root mean square [.., 1].
 */
export const rmsNormOp: OpDef<{ readonly eps: number }> = {
  name: "rms_norm",
  infer: (inputs) => {
    expectInputs("rms_norm", inputs, 2);
    const [x, weight] = inputs;
    if (!sameShape(weight!.shape, x!.shape.slice(-1))) throw shapeError("rms_norm", inputs, "x [.., D] and weight [D]");
    return [x!, { dtype: "float32" as const, shape: [...x!.shape.slice(0, -1), 1] }];
  },
  vjp: ({ inputs: [x, weight], outputs: [, inverse], grad }) => {
    const normalised = mul(x!, inverse!);
    const g = mul(grad, weight!);
    const dx = mul(inverse!, sub(g, mul(normalised, scale(sum(mul(g, normalised), [-1]), 1 / Number(x!.shape.at(-1))))));
    return [dx, mul(grad, normalised)];
  },
  emit: (e, inputs, { eps }) => e.node("SimplifiedLayerNormalization", inputs, { axis: -1, epsilon: { float: eps } }, { outputs: 2 }),
};

/** x / √(mean(x²) + eps) · weight over the last axis: x [.., D], weight [D]. torch's nn.RMSNorm, transformers' LlamaRMSNorm. */
export function rmsNorm(x: Value, weight: Value, eps: number): Value {
  return apply(rmsNormOp, [x, weight], { eps })[0]!;
}
