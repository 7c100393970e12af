import { apply1, constant, type Node, topological, type Value } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { GraphError } from "../errors.js";
import { add } from "./elementwise.js";
import { gemmOp, type ProductAttrs } from "./linear.js";
import { reshape } from "./movement.js";
import { kept, type Reread } from "./recompute.js";
import { sum } from "./reduce.js";
import { sameShape, show } from "./shapes.js";

/**
 * Reverse-mode differentiation (Griewank & Walther 2008, §3.2): the gradient of a scalar loss by each of `wrt`, in their shapes. Only what
 * lies between `wrt` and the loss gets a backward pass. Throws GraphError when the loss is no scalar, does not depend on one of `wrt`, or
 * reaches it through an op without a gradient. `reread` says what the backward rules read of the forward pass.
 */
export function gradient(loss: Value, wrt: readonly Value[], reread: Reread = kept): readonly Value[] {
  if (loss.shape.length !== 0) throw new GraphError(`gradient: the loss must be a scalar, got ${show(loss.type)}`);
  const order = topological([loss]);
  const path = reachable(order, wrt);
  const gradients = new Map<Value, Value>([[loss, constant(f32([1], []))]]);
  for (const value of [...order].reverse()) {
    const grad = gradients.get(value);
    const { source, index } = value;
    if (grad !== undefined) reread.arrived(value, grad);
    if (source.kind !== "op" || grad === undefined || source.op.vjp === "stop" || !source.inputs.some((each) => path.has(each))) continue;
    if (index !== 0) throw new GraphError(`gradient: only output 0 of ${source.op.name} can be differentiated`);
    backward(source, grad, path, gradients, reread);
  }
  return wrt.map((value) => {
    const found = gradients.get(value);
    if (found === undefined) throw new GraphError(`gradient: the loss does not depend on ${describe(value)}`);
    return found;
  });
}

/** The values through which `wrt` reaches others, not crossing ops whose outputs do not depend smoothly on their inputs. */
function reachable(order: readonly Value[], wrt: readonly Value[]): ReadonlySet<Value> {
  const found = new Set<Value>(wrt);
  for (const value of order) {
    const { source } = value;
    if (source.kind === "op" && source.op.vjp !== "stop" && source.inputs.some((each) => found.has(each))) found.add(value);
  }
  return found;
}

function backward(
  { op, inputs, outputs, attrs }: Node,
  grad: Value,
  path: ReadonlySet<Value>,
  gradients: Map<Value, Value>,
  { of }: Reread,
): void {
  if (typeof op.vjp === "string") throw new GraphError(`gradient: ${op.name} has no gradient`);
  const parts = op.vjp({ inputs: inputs.map(of), outputs: outputs.map(of), attrs, grad });
  for (const [i, target] of inputs.entries()) {
    if (!path.has(target)) continue;
    const part = parts[i];
    if (part === undefined || part === null)
      throw new GraphError(`gradient: ${op.name} gives its input ${i} no gradient, but a parameter stands behind it`);
    const fitted = sumTo(part, target);
    const before = gradients.get(target);
    gradients.set(target, before === undefined ? fitted : plus(before, fitted));
  }
}

/** The sum of two gradients; a matrix product takes the other one as its addend, which saves a pass over memory. */
function plus(before: Value, part: Value): Value {
  for (const [product, other] of [
    [part, before],
    [before, part],
  ] as const) {
    const { source } = product;
    if (source.kind === "op" && source.op === gemmOp && source.inputs.length === 2)
      return apply1(gemmOp, [...source.inputs, other], source.attrs as ProductAttrs);
  }
  return add(before, part);
}

/** Undoes broadcasting: sums the axes that were added or stretched. */
function sumTo(value: Value, target: Value): Value {
  if (sameShape(value.shape, target.shape)) return value;
  const extra = value.shape.length - target.shape.length;
  const axes = value.shape.flatMap((dim, i) => (i < extra || (target.shape[i - extra] === 1 && dim !== 1) ? [i] : []));
  return reshape(axes.length === 0 ? value : sum(value, axes), [...target.shape]);
}

function describe(value: Value): string {
  const { source } = value;
  return source.kind === "param" ? `parameter ${source.path}` : `a ${source.kind} ${show(value.type)}`;
}
