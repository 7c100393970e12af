import { apply1, constant, type OpDef, type Value } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { broadcast, expectInputs } from "./shapes.js";

function binary(name: string, opType: string, vjp: OpDef<null>["vjp"]): OpDef<null> {
  return {
    name,
    infer: (inputs) => {
      expectInputs(name, inputs, 2);
      return [{ dtype: "float32", shape: broadcast(name, inputs[0]!, inputs[1]!) }];
    },
    vjp,
    emit: (e, inputs) => e.node(opType, inputs),
  };
}

function unary(name: string, opType: string, vjp: OpDef<null>["vjp"]): OpDef<null> {
  return {
    name,
    infer: (inputs) => {
      expectInputs(name, inputs, 1);
      return [inputs[0]!];
    },
    vjp,
    emit: (e, inputs) => e.node(opType, inputs),
  };
}

export const addOp = binary("add", "Add", ({ grad }) => [grad, grad]);
export const subOp = binary("sub", "Sub", ({ grad }) => [grad, neg(grad)]);
export const mulOp = binary("mul", "Mul", ({ inputs: [a, b], grad }) => [mul(grad, b!), mul(grad, a!)]);
export const divOp = binary("div", "Div", ({ inputs: [, b], outputs: [y], grad }) => [div(grad, b!), neg(mul(grad, div(y!, b!)))]);
export const negOp = unary("neg", "Neg", ({ grad }) => [neg(grad)]);
export const expOp = unary("exp", "Exp", ({ outputs: [y], grad }) => [mul(grad, y!)]);
export const logOp = unary("log", "Log", ({ inputs: [x], grad }) => [div(grad, x!)]);
export const sqrtOp = unary("sqrt", "Sqrt", ({ outputs: [y], grad }) => [div(scale(grad, 0.5), y!)]);
export const tanhOp = unary("tanh", "Tanh", ({ outputs: [y], grad }) => [mul(grad, sub(scalar(1), mul(y!, y!)))]);
export const sigmoidOp = unary("sigmoid", "Sigmoid", ({ outputs: [y], grad }) => [mul(grad, mul(y!, sub(scalar(1), y!)))]);
/** The derivative of |max(x,0)| at 0 is taken as 0, as torch does. */
export const reluOp = unary("relu", "Relu", ({ outputs: [y], grad }) => [mul(grad, apply1(signOp, [y!], null))]);
/** 1, 0 or -1; no gradient. */
export const signOp = unary("sign", "Sign", "stop");
/** x, with no gradient through it. */
export const detachOp = unary("detach", "Identity", "stop");
/** The Gauss error function. */
export const erfOp = unary("erf", "Erf", ({ inputs: [x], grad }) => [mul(grad, scale(exp(neg(mul(x!, x!))), 2 / Math.sqrt(Math.PI)))]);

/** a + b, broadcast. */
export const add = (a: Value, b: Value): Value => apply1(addOp, [a, b], null);
/** a - b, broadcast. */
export const sub = (a: Value, b: Value): Value => apply1(subOp, [a, b], null);
/** a · b elementwise, broadcast. */
export const mul = (a: Value, b: Value): Value => apply1(mulOp, [a, b], null);
/** a / b elementwise, broadcast. */
export const div = (a: Value, b: Value): Value => apply1(divOp, [a, b], null);
/** -x. */
export const neg = (x: Value): Value => apply1(negOp, [x], null);
/** eˣ. */
export const exp = (x: Value): Value => apply1(expOp, [x], null);
/** The natural logarithm. */
export const log = (x: Value): Value => apply1(logOp, [x], null);
/** √x. */
export const sqrt = (x: Value): Value => apply1(sqrtOp, [x], null);
/** The hyperbolic tangent. */
export const tanh = (x: Value): Value => apply1(tanhOp, [x], null);
/** 1/(1+e⁻ˣ). */
export const sigmoid = (x: Value): Value => apply1(sigmoidOp, [x], null);
/** x as if it were a constant: no gradient goes through it. */
export const detach = (x: Value): Value => apply1(detachOp, [x], null);
/** max(x, 0). */
export const relu = (x: Value): Value => apply1(reluOp, [x], null);
/** The Gauss error function. */
export const erf = (x: Value): Value => apply1(erfOp, [x], null);
/** A float32 constant without axes. */
export const scalar = (value: number): Value => constant(f32([value], []));
/** x · factor. */
export const scale = (x: Value, factor: number): Value => (factor === 1 ? x : mul(x, scalar(factor)));
