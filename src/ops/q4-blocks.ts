import { f32, type Tensor } from "../core/tensor.js";
import { blockProduct, blockSize, blockTypes } from "./block-product.js";
import { add } from "./elementwise.js";
import { gemm } from "./linear.js";
import { reshape } from "./movement.js";
import { q4 } from "./q4.js";
import { q8Blocks } from "./q8-blocks.js";
import { sum } from "./reduce.js";
import type { WeightForm } from "./weight-form.js";

/** The code that stands for 0 in the blocks' product. */
const middle = 8;

/**
 * q4 for programs that read a few rows at a time and train nothing: the same numbers, multiplied without making the float32 matrix. q4's zeros are no
 * whole numbers, so a number is step·(code - 8) + offset, and the offsets [N, blocks] meet each block's sum of activations in float32. Matrices that are stored
 * the other way round, or with rows that are no whole number of blocks, are multiplied as in q4. A model's output matrix, which
 * q4 leaves in float32, is held in 8 bits.
 */
export const q4Blocks: WeightForm = {
  name: "q4-blocks",
  head: q8Blocks,
  product(x, matrix, transB, addend) {
    const [N, K] = matrix.shape;
    if (!transB || K % blockSize !== 0) return q4.product(x, matrix, transB, addend);
    const { codes, steps } = blockTypes(4, K, N);
    const product = blockProduct(x, [matrix.part("codes", codes), matrix.part("steps", steps)], { bits: 4, N });
    const sums = sum(reshape(x, [x.shape[0]!, K / blockSize, blockSize]), [2]);
    const whole = gemm(reshape(sums, [x.shape[0]!, K / blockSize]), matrix.part("offsets", steps), { transB: true }, product);
    return addend === undefined ? whole : add(whole, addend);
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
