import { apply1, type OpDef, type Value } from "../core/graph.js";
import { f32, i32, i64 } from "../core/tensor.js";
import { bytesOf } from "../core/work.js";
import { mul, sub } from "./elementwise.js";
import { linearCrossEntropy } from "./linear-cross-entropy.js";
import { reshape } from "./movement.js";
import { softmax, sum } from "./reduce.js";
import { sameShape, shapeError } from "./shapes.js";

/** -log softmax(logits)[class] for each row: logits [L, C], classes int32 [L] → nats [L, 1]. torch's cross_entropy without reduction. */
export const crossEntropyOp: OpDef<null> = {
  name: "cross_entropy",
  infer: (inputs) => {
    const [logits, classes] = inputs;
    if (
      inputs.length !== 2 ||
      logits!.shape.length !== 2 ||
      classes!.dtype !== "int32" ||
      !sameShape(classes!.shape, [logits!.shape[0]!])
    ) {
      throw shapeError("cross_entropy", inputs, "logits [L, C] and int32 classes [L]");
    }
    return [{ dtype: "float32", shape: [logits!.shape[0]!, 1] }];
  },
  vjp: ({ inputs: [logits, classes], grad }) => [mul(sub(softmax(logits!), oneHot(classes!, Number(logits!.shape[1]))), grad), null],
  work: ([logits]) => ({ moved: 6 * bytesOf(logits!), scratch: bytesOf(logits!) }), // the log-softmax
  emit: (e, [logits, classes]) => {
    const [log] = e.node("LogSoftmax", [logits!], { axis: -1 });
    const [column] = e.node("Unsqueeze", [classes!, e.constant(i64([1]))]);
    const [picked] = e.node("GatherElements", [log!, column!], { axis: 1 });
    return e.node("Neg", [picked!]);
  },
};

/** A 1 at each row's class, 0 elsewhere: int32 [L] → float32 [L, C]. No gradient. */
export const oneHotOp: OpDef<{ readonly classes: number }> = {
  name: "one_hot",
  infer: (inputs, { classes }) => {
    if (inputs.length !== 1 || inputs[0]!.dtype !== "int32") throw shapeError("one_hot", inputs, "int32 classes [L]");
    return [{ dtype: "float32", shape: [...inputs[0]!.shape, classes] }];
  },
  vjp: "stop",
  emit: (e, [indices], { classes }) => e.node("OneHot", [indices!, e.constant(i32([classes])), e.constant(f32([0, 1]))], { axis: -1 }),
};

/** A 1 at each row's class: int32 [L] → float32 [L, classes]. */
export function oneHot(indices: Value, classes: number): Value {
  return apply1(oneHotOp, [indices], { classes });
}

/**
 * The sum over all rows of the cross-entropy of logits [L, C] with classes [L], in nats, []. Where the logits come from a frozen output layer,
 * they never exist all at once.
 */
export function crossEntropySum(logits: Value, classes: Value): Value {
  const losses = linearCrossEntropy(logits, classes) ?? apply1(crossEntropyOp, [logits, classes], null);
  return reshape(sum(losses, [0]), []);
}

/** The sum over all rows of (prediction - target)²: logits [L, 1], targets [L] → []. torch's mse_loss with reduction "sum". */
export function squaredErrorSum(logits: Value, targets: Value): Value {
  const difference = sub(reshape(logits, [...targets.shape]), targets);
  return reshape(sum(mul(difference, difference), [0]), []);
}
