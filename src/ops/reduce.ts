import { apply1, type OpDef, type Value } from "../core/graph.js";
import { i64 } from "../core/tensor.js";
import { bytesOf } from "../core/work.js";
import { mul, sub } from "./elementwise.js";
import { expand } from "./movement.js";
import { axisOf, expectInputs } from "./shapes.js";

interface ReduceAttrs {
  /** Axes to reduce, counted from the front; they stay as size 1. */
  readonly axes: readonly number[];
}

/** The sum over some axes, which stay as size 1. */
export const sumOp: OpDef<ReduceAttrs> = {
  name: "sum",
  infer: ([x, ...rest], { axes }) => {
    expectInputs("sum", [x!, ...rest], 1);
    const reduced = axes.map((axis) => axisOf("sum", x!, axis));
    return [{ dtype: "float32", shape: x!.shape.map((dim, i) => (reduced.includes(i) ? 1 : dim)) }];
  },
  vjp: ({ inputs: [x], grad }) => [expand(grad, x!.shape)],
  emit: (e, [x], { axes }) => e.node("ReduceSum", [x!, e.constant(i64(axes))], { keepdims: 1 }),
};

/** eˣ / Σeˣ along one axis. */
export const softmaxOp: OpDef<{ readonly axis: number }> = {
  name: "softmax",
  infer: (inputs, { axis }) => {
    expectInputs("softmax", inputs, 1);
    axisOf("softmax", inputs[0]!, axis);
    return [inputs[0]!];
  },
  vjp: ({ outputs: [y], attrs, grad }) => [mul(y!, sub(grad, sum(mul(grad, y!), [attrs.axis])))],
  work: (_, [y]) => ({ moved: 5 * bytesOf(y!), scratch: 0 }), // the largest is found, the exponentials written, then scaled
  emit: (e, inputs, { axis }) => e.node("Softmax", inputs, { axis }),
};

/** The sum over `axes` (negative ones count from the back), which stay as size 1. */
export function sum(x: Value, axes: readonly number[]): Value {
  return apply1(sumOp, [x], { axes: axes.map((axis) => axisOf("sum", x.type, axis)) });
}

/** eˣ / Σeˣ along an axis, the last one by default. */
export function softmax(x: Value, axis = -1): Value {
  return apply1(softmaxOp, [x], { axis: axisOf("softmax", x.type, axis) });
}
