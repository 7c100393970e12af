import { apply1, type OpDef, type Value } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { bytesOf } from "../core/work.js";
import { ConfigError, nearest } from "../errors.js";
import { add, div, erf, mul, neg, relu, scalar, scale, sigmoid, sub, tanh } from "./elementwise.js";
import { scaled } from "./linear.js";
import { expectInputs } from "./shapes.js";

/** x·Φ(x) with the exact error function (Hendrycks & Gimpel 2016, arXiv:1606.08415); transformers' "gelu". */
export const geluOp: OpDef<null> = {
  name: "gelu",
  infer: (inputs) => {
    expectInputs("gelu", inputs, 1);
    return [inputs[0]!];
  },
  work: (_, [y]) => ({ moved: 6 * bytesOf(y!), scratch: 0 }), // three passes: the error function lies between two products
  vjp: ({ inputs: [x], grad }) => [mul(apply1(geluSlopeOp, [x!], null), scaled(grad, 0.5))],
  emit: (e, inputs) => e.node("Gelu", inputs, { approximate: "none" }),
};

/**
 * Twice the slope of gelu, 2·(Φ(x) + x·φ(x)), as one op so that it costs few passes over memory. With s = x/√2 it is
 * 1 + erf(s) + s·exp(ln(2/√π) - s²); the factor 2 is left to the gradient's own product.
 */
export const geluSlopeOp: OpDef<null> = {
  name: "gelu_slope",
  infer: (inputs) => {
    expectInputs("gelu_slope", inputs, 1);
    return [inputs[0]!];
  },
  vjp: "unsupported",
  work: (_, [y]) => ({ moved: 20 * bytesOf(y!), scratch: 2 * bytesOf(y!) }), // eight nodes of one or two inputs; s and phi outlive the next ones
  emit: (e, [x]) => {
    const number = (value: number): string => e.constant(f32([value], []));
    const [s] = e.node("Mul", [x!, number(Math.SQRT1_2)]);
    const [phi] = e.node("Erf", [s!]);
    const [square] = e.node("Mul", [s!, s!]);
    const [exponent] = e.node("Sub", [number(Math.log(2 / Math.sqrt(Math.PI))), square!]);
    const [density] = e.node("Exp", [exponent!]);
    const [slope] = e.node("Mul", [s!, density!]);
    const [sum] = e.node("Add", [phi!, slope!]);
    return e.node("Add", [sum!, number(1)]);
  },
};

/** x·Φ(x), exact. */
export const gelu = (x: Value): Value => apply1(geluOp, [x], null);

/** 0.5x(1 + tanh(√(2/π)(x + 0.044715x³))); transformers' "gelu_new", "gelu_pytorch_tanh", "gelu_fast" and "gelu_accurate". */
export function geluTanh(x: Value): Value {
  const inner = scale(mul(x, add(scalar(1), scale(mul(x, x), 0.044715))), Math.sqrt(2 / Math.PI));
  return scale(mul(x, add(scalar(1), tanh(inner))), 0.5);
}

/** x·sigmoid(x) (Elfwing et al. 2017, arXiv:1702.03118); transformers' "silu" and "swish". One op, so that only x stays for the backward pass. */
export const siluOp: OpDef<null> = {
  name: "silu",
  infer: (inputs) => {
    expectInputs("silu", inputs, 1);
    return [inputs[0]!];
  },
  vjp: ({ inputs: [x], outputs: [y], grad }) => [mul(grad, apply1(siluSlopeOp, [x!, y!], null))],
  emit: (e, inputs) => e.node("QuickGelu", inputs, { alpha: { float: 1 } }, { domain: "com.microsoft" }),
};

/** The slope of y = silu(x): with s = sigmoid(x) it is y + s(1 - y). Inputs x and y, which the forward pass keeps for what follows it. */
export const siluSlopeOp: OpDef<null> = {
  name: "silu_slope",
  infer: (inputs) => {
    expectInputs("silu_slope", inputs, 2);
    return [inputs[0]!];
  },
  vjp: "unsupported",
  work: (_, [slope]) => ({ moved: 10 * bytesOf(slope!), scratch: bytesOf(slope!) }),
  emit: (e, [x, y]) => {
    const [s] = e.node("Sigmoid", [x!]);
    const [rest] = e.node("Sub", [e.constant(f32([1], [])), y!]);
    return e.node("Add", [y!, e.node("Mul", [s!, rest!])[0]!]);
  },
};

/** x·sigmoid(x). */
export const silu = (x: Value): Value => apply1(siluOp, [x], null);

/** min(x, most). */
const atMost = (x: Value, most: number): Value => sub(x, relu(sub(x, scalar(most))));

/** x·tanh(ln(1 + eˣ)) (Misra 2019, arXiv:1908.08681). With s = sigmoid(-x) the tanh is (1 - s²)/(1 + s²). */
function mish(x: Value): Value {
  const s = sigmoid(neg(x));
  const square = mul(s, s);
  return mul(x, div(sub(scalar(1), square), add(scalar(1), square)));
}

/** ½(1 + erf((x - μ)/(σ√2))) with μ = √½ and σ = √(1/4π) (Ma et al. 2022, arXiv:2209.10655, §3.1); transformers rounds both to six digits. */
const laplace = (x: Value): Value => scale(add(scalar(1), erf(scale(sub(x, scalar(Math.SQRT1_2)), Math.sqrt(2 * Math.PI)))), 0.5);

const activations = {
  gelu,
  gelu_python: gelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  gelu_python_tanh: geluTanh,
  gelu_fast: geluTanh,
  gelu_accurate: geluTanh,
  gelu_10: (x) => atMost(gelu(x), 10),
  quick_gelu: (x) => mul(x, sigmoid(scale(x, 1.702))),
  relu,
  relu6: (x) => atMost(relu(x), 6),
  relu2: (x) => mul(relu(x), relu(x)),
  leaky_relu: (x) => sub(relu(x), scale(relu(scale(x, -1)), 0.01)),
  silu,
  swish: silu,
  mish,
  laplace,
  sigmoid,
  tanh,
  linear: (x) => x,
} satisfies Record<string, (x: Value) => Value>;

/** An activation by the name that Hugging Face configs use (transformers' ACT2FN). Throws ConfigError that lists the names there are. */
export function activation(name: string): (x: Value) => Value {
  const found = Object.hasOwn(activations, name) ? (activations as Readonly<Record<string, (x: Value) => Value>>)[name] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(activations);
  const guess = nearest(name, names);
  throw new ConfigError(`activation "${name}" is not supported`, {
    hint: `${guess === undefined ? "" : `did you mean "${guess}"? `}supported: ${names.join(", ")}`,
  });
}
