import type { Dim } from "../core/dims.js";
import { apply1, type OpDef, type TensorType, type Value } from "../core/graph.js";
import { sizeOf } from "../core/tensor.js";
import type { ProductKind, Sized, Work } from "../core/work.js";
import { scale } from "./elementwise.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";

/** Which factors are transposed before they are multiplied, and a factor on the product. */
export interface ProductOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly alpha?: number;
}

/** The same with all of them stated. */
export type ProductAttrs = Required<ProductOptions>;

/** Sizes of A·B over the last two axes: [M, K] and [K, N] after the transposes. */
function productShape(op: string, a: TensorType, b: TensorType, { transA, transB }: ProductAttrs): readonly [Dim, Dim] {
  const [rows, inner] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const [inner2, columns] = transB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!];
  if (inner !== inner2) {
    throw shapeError(
      op,
      [a, b],
      `inner sizes that agree${transA ? ", A transposed" : ""}${transB ? ", B transposed" : ""}: ${inner} is not ${inner2}`,
    );
  }
  return [rows, columns];
}

/** The work of a product whose inner size is K. */
export function productWork(kind: ProductKind, y: Sized, K: number, scratch = 0): Work {
  return { product: { kind, operations: 2 * K * sizeOf(y.shape) }, moved: 0, scratch };
}

/** Gradients of alpha·A·B by A and by B, each a product again. */
function productVjp(
  multiply: (a: Value, b: Value, options: ProductOptions) => Value,
  a: Value,
  b: Value,
  { transA, transB, alpha }: ProductAttrs,
  grad: Value,
): [Value, Value] {
  return [
    transA ? multiply(b, grad, { transA: transB, transB: true, alpha }) : multiply(grad, b, { transB: !transB, alpha }),
    transB ? multiply(grad, a, { transA: true, transB: transA, alpha }) : multiply(a, grad, { transA: !transA, alpha }),
  ];
}

/** alpha·A·B + C on matrices; the addend C is [M, N], [1, N] or [N] and may be left out. */
export const gemmOp: OpDef<ProductAttrs> = {
  name: "gemm",
  addend: ([, , c]) => c,
  infer: (inputs, attrs) => {
    expectInputs("gemm", inputs, inputs.length === 3 ? 3 : 2);
    const [a, b, c] = inputs;
    if (a!.shape.length !== 2 || b!.shape.length !== 2) throw shapeError("gemm", inputs, "two matrices");
    const shape = productShape("gemm", a!, b!, attrs);
    if (c !== undefined && !sameShape(c.shape, shape) && !sameShape(c.shape, [shape[1]]) && !sameShape(c.shape, [1, shape[1]])) {
      throw shapeError("gemm", inputs, `an addend of shape [${shape}] or [${shape[1]}]`);
    }
    return [{ dtype: "float32", shape }];
  },
  vjp: ({ inputs: [a, b, c], attrs, grad }) => [...productVjp(gemm, a!, b!, attrs, grad), ...(c === undefined ? [] : [grad])],
  work: ([a], [y], { transA }) => productWork("f32", y!, a!.shape[transA ? 0 : 1]!),
  emit: (e, inputs, { transA, transB, alpha }) =>
    e.node("Gemm", inputs, { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } }),
};

/** alpha·A·B over the last two axes; the axes before them are equal in both. */
export const matmulOp: OpDef<ProductAttrs> = {
  name: "matmul",
  infer: (inputs, attrs) => {
    expectInputs("matmul", inputs, 2);
    const [a, b] = inputs;
    const batch = a!.shape.slice(0, -2);
    if (a!.shape.length < 2 || !sameShape(batch, b!.shape.slice(0, -2)))
      throw shapeError("matmul", inputs, "equal sizes before the last two axes");
    return [{ dtype: "float32", shape: [...batch, ...productShape("matmul", a!, b!, attrs)] }];
  },
  vjp: ({ inputs: [a, b], attrs, grad }) => productVjp(matmul, a!, b!, attrs, grad),
  work: ([a], [y], { transA }) => productWork("batched", y!, a!.shape.at(transA ? -2 : -1)!),
  emit: (e, inputs, { transA, transB, alpha }) =>
    e.node("FusedMatMul", inputs, { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } }, { domain: "com.microsoft" }),
};

/** alpha·A·B on matrices: [M, K] · [K, N] → [M, N], each transposed first where asked. */
export function gemm(a: Value, b: Value, options: ProductOptions = {}, addend?: Value): Value {
  const attrs = { transA: false, transB: false, alpha: 1, ...options };
  return apply1(gemmOp, addend === undefined ? [a, b] : [a, b, addend], attrs);
}

/** alpha·A·B over the last two axes, e.g. [B, H, S, K] · [B, H, K, S]. */
export function matmul(a: Value, b: Value, options: ProductOptions = {}): Value {
  return apply1(matmulOp, [a, b], { transA: false, transB: false, alpha: 1, ...options });
}

/** x · factor; where x is a matrix product without an addend, the product takes the factor (its `alpha`), which saves a pass over memory. */
export function scaled(x: Value, factor: number): Value {
  const { source } = x;
  if (source.kind !== "op" || source.op.addend === undefined || source.op.addend(source.inputs, source.attrs) !== undefined)
    return scale(x, factor);
  const { alpha, ...attrs } = source.attrs as { readonly alpha: number };
  return apply1(source.op, source.inputs, { ...attrs, alpha: alpha * factor });
}

/** x·Wᵀ + bias: x [T, in], W [out, in], bias [out] → [T, out]. torch's nn.Linear. */
export function linear(x: Value, weight: Value, bias?: Value): Value {
  return gemm(x, weight, { transB: true }, bias);
}
