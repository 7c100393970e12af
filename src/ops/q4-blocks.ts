import { apply1, type OpDef, type TensorType } from "../core/graph.js";
import { f32, i64, type Tensor } from "../core/tensor.js";
import { blockProduct } from "./block-product.js";
import { q4 } from "./q4.js";
import { q8Blocks } from "./q8-blocks.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";
import type { WeightForm } from "./weight-form.js";

/** Numbers of a row that share a step and a zero, as in q4. */
const blockSize = 32;
/** The code that stands for 0, as the kernel has it where no zero points are given. */
const middle = 8;

/**
 * x·Wᵀ + addend of a matrix W [N, K] in 4-bit blocks whose zeros are no whole numbers: step·(code - 8) + offset. x [T, K], codes uint8 [N, K/32, 16],
 * steps and offsets [N, K/32]. The blocks' product rounds x, in two parts, to 15 bits; the offsets meet each block's sum of x in float32.
 */
export const q4BlocksProductOp: OpDef<{ readonly K: number; readonly N: number }> = {
  name: "q4_blocks_product",
  infer: (inputs, { K, N }) => {
    const [x, codes, steps, offsets, addend] = inputs;
    const types = partTypes(N, K);
    const fits =
      x?.shape.length === 2 &&
      x.shape[1] === K &&
      K % blockSize === 0 &&
      codes?.dtype === "uint8" &&
      sameShape(codes.shape, types.codes.shape) &&
      [steps, offsets].every((each) => sameShape(each?.shape ?? [], types.steps.shape)) &&
      (addend === undefined || sameShape(addend.shape, [N]));
    if (!fits) {
      const blocks = K / blockSize;
      const wanted = `float32[T,${K}], uint8[${types.codes.shape}], float32[${N},${blocks}], float32[${N},${blocks}], and float32[${N}] or nothing`;
      throw shapeError("q4_blocks_product", inputs, wanted);
    }
    expectInputs("q4_blocks_product", [x, ...inputs.slice(2)], inputs.length - 1);
    return [{ dtype: "float32", shape: [x.shape[0]!, N] }];
  },
  vjp: "unsupported",
  emit: (e, [x, codes, steps, offsets, addend], { K, N }) => {
    const whole = blockProduct(e, x!, [codes!, steps!], { K, N, bits: 4 });
    const [blocks] = e.node("Reshape", [x!, e.constant(i64([-1, K / blockSize, blockSize]))]);
    const [sums] = e.node("ReduceSum", [blocks!, e.constant(i64([2]))], { keepdims: 0 });
    const [sum] = e.node("Gemm", [sums!, offsets!, whole], { transB: 1 });
    return addend === undefined ? [sum!] : e.node("Add", [sum!, addend]);
  },
};

function partTypes(N: number, K: number): Readonly<Record<"codes" | "steps" | "offsets", TensorType>> {
  const blocks = Math.ceil(K / blockSize);
  const float: TensorType = { dtype: "float32", shape: [N, blocks] };
  return { codes: { dtype: "uint8", shape: [N, blocks, blockSize / 2] }, steps: float, offsets: float };
}

/**
 * q4 for programs that read a few rows at a time and train nothing: the same numbers, multiplied without making the float32 matrix. Matrices that
 * are stored the other way round, or with rows that are no whole number of blocks, are multiplied as in q4. A model's output matrix, which q4 leaves
 * in float32, is held in 8 bits.
 */
export const q4Blocks: WeightForm = {
  name: "q4-blocks",
  head: q8Blocks,
  product(x, matrix, transB, addend) {
    const [N, K] = matrix.shape;
    if (!transB || K % blockSize !== 0) return q4.product(x, matrix, transB, addend);
    const types = partTypes(N, K);
    const parts = (["codes", "steps", "offsets"] as const).map((name) => matrix.part(name, types[name]));
    return apply1(q4BlocksProductOp, [x, ...parts, ...(addend === undefined ? [] : [addend])], { K, N });
  },
  squaredNorms: (matrix, transB) => q4.squaredNorms(matrix, transB),
  store(matrix, names, path) {
    const own = names.filter((name) => name !== "offsets");
    const { steps, zeros, ...parts } = q4.store(matrix, [...new Set([...own, "steps", "zeros"])], path) as Readonly<
      Record<string, Tensor<"float32">>
    >;
    const offsets = f32(
      zeros!.data.map((zero, i) => (middle - zero) * steps!.data[i]!),
      zeros!.shape,
    );
    const all: Readonly<Record<string, Tensor>> = { ...parts, steps: steps!, zeros: zeros!, offsets };
    return Object.fromEntries(names.map((name) => [name, all[name]!]));
  },
};
