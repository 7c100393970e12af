import { apply1, type Emitter, type OpDef, type TensorType, type Value } from "../core/graph.js";
import { f32, type Tensor } from "../core/tensor.js";
import { productWork, scaled } from "./linear.js";
import { sameShape, shapeError, show } from "./shapes.js";
import type { StoredMatrix, WeightForm } from "./weight-form.js";

type MatrixShape = StoredMatrix["shape"];

/** A form of which the float32 matrix is made anew for each product, and thrown away after it: for memory, not for speed. */
export interface DenseForm {
  readonly name: string;
  /** The tensors that store a matrix [R, C]; they serve both products. */
  parts(shape: MatrixShape): Readonly<Record<string, TensorType>>;
  /** The tensors' data. Throws WeightError. */
  quantize(matrix: Tensor<"float32">, path: string): Readonly<Record<string, Tensor>>;
  /** The numbers that they stand for, row by row. */
  dequantize(tensors: Readonly<Record<string, Tensor>>, shape: MatrixShape): Float32Array;
  /** Writes nodes that make the float32 matrix [R, C]; `forward` says for which product. */
  dense(e: Emitter, parts: Readonly<Record<string, string>>, shape: MatrixShape, forward: boolean): string;
  /** Writes x·Mᵀ as one node, where ONNX Runtime has one for this form. */
  fused?(e: Emitter, x: string, parts: Readonly<Record<string, string>>, shape: MatrixShape): string;
}

interface DenseAttrs {
  readonly form: DenseForm;
  readonly matrix: StoredMatrix;
  readonly transB: boolean;
  readonly alpha: number;
}

/** alpha·x·Mᵀ (`transB`) or alpha·x·M, plus an addend, of the float32 matrix that a form's parts stand for: exactly linear in x. */
export const denseProductOp: OpDef<DenseAttrs> = {
  name: "dense_product",
  infer: (inputs, { form, matrix: { shape }, transB }) => {
    const wanted = Object.values(form.parts(shape));
    const [x, ...rest] = inputs;
    const addend = rest[wanted.length];
    const [N, K] = transB ? shape : [shape[1], shape[0]];
    const fits =
      x?.dtype === "float32" &&
      x.shape.length === 2 &&
      x.shape[1] === K &&
      wanted.every((type, i) => rest[i]?.dtype === type.dtype && sameShape(rest[i].shape, type.shape)) &&
      (rest.length === wanted.length || (rest.length === wanted.length + 1 && addend?.dtype === "float32" && sameShape(addend.shape, [N])));
    if (!fits) throw shapeError("dense_product", inputs, `float32[T,${K}], ${wanted.map(show).join(", ")}, and float32[${N}] or nothing`);
    return [{ dtype: "float32", shape: [x.shape[0]!, N] }];
  },
  addend: (inputs, { form, matrix }) => inputs[1 + Object.keys(form.parts(matrix.shape)).length],
  vjp: ({ inputs, attrs: { form, matrix, transB, alpha }, grad }) => {
    const parts = Object.keys(form.parts(matrix.shape));
    const dx = scaled(product(form, grad, matrix, !transB), alpha);
    return [dx, ...parts.map(() => null), ...inputs.slice(1 + parts.length).map(() => grad)];
  },
  // the float32 matrix
  work: (_, [y], { form, matrix: { shape }, transB }) => productWork(form.name, y!, shape[transB ? 1 : 0], 4 * shape[0] * shape[1]),
  emit: (e, [x, ...rest], { form, matrix: { shape }, transB, alpha }) => {
    const names = Object.keys(form.parts(shape));
    const parts = Object.fromEntries(names.map((name, i) => [name, rest[i]!]));
    const addend = rest[names.length];
    if (transB && form.fused !== undefined) {
      const fused = form.fused(e, x!, parts, shape);
      const whole = alpha === 1 ? fused : e.node("Mul", [fused, e.constant(f32([alpha], []))])[0]!;
      return addend === undefined ? [whole] : e.node("Add", [whole, addend]);
    }
    const inputs = [x!, form.dense(e, parts, shape, transB), ...(addend === undefined ? [] : [addend])];
    return e.node("Gemm", inputs, { transB: Number(transB), alpha: { float: alpha } });
  },
};

function product(form: DenseForm, x: Value, matrix: StoredMatrix, transB: boolean, addend?: Value): Value {
  const parts = Object.entries(form.parts(matrix.shape)).map(([name, type]) => matrix.part(name, type));
  return apply1(denseProductOp, [x, ...parts, ...(addend === undefined ? [] : [addend])], { form, matrix, transB, alpha: 1 });
}

/** A dense form as a form of storage. */
export function denseForm(form: DenseForm): WeightForm {
  return {
    name: form.name,
    product: (x, matrix, transB, addend) => product(form, x, matrix, transB, addend),
    squaredNorms: ({ shape, part }, transB) => {
      const [name, size] = transB ? ["row_norms", shape[0]] : ["column_norms", shape[1]];
      return part(name, { dtype: "float32", shape: [size] });
    },
    store(matrix, names, path) {
      const shape = [matrix.shape[0]!, matrix.shape[1]!] as const;
      const tensors = form.quantize(matrix, path);
      return Object.fromEntries(
        names.map((name) => [name, tensors[name] ?? squaredNorms(form.dequantize(tensors, shape), shape, name === "row_norms")]),
      );
    },
  };
}

function squaredNorms(numbers: Float32Array, [R, C]: MatrixShape, ofRows: boolean): Tensor {
  const norms = new Float32Array(ofRows ? R : C);
  for (const [i, value] of numbers.entries()) norms[ofRows ? Math.floor(i / C) : i % C]! += value * value;
  return f32(norms);
}
