import { apply1, type OpDef, type TensorType } from "../core/graph.js";
import { f32, type Tensor } from "../core/tensor.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";
import { nearestInteger, type StoredMatrix, type WeightForm } from "./weight-form.js";

/** Numbers of a column that share a step: those of one output and so many inputs in a row. */
const blockSize = 32;
/** Steps from 0 to the largest magnitude of a block. */
const steps = 127;
/** The byte that stands for 0, as the kernel has it where no zero points are given. */
const zero = 128;

/**
 * x·W + addend, with x [T, K] rounded to 8 bits in blocks of each row's numbers by the kernel; W [K, N] as codes uint8 [N, blocks, 32] and steps [N, blocks].
 * One node, the fastest for few rows where codes and steps are initialisers; for rows that are read forward only.
 */
export const q8BlocksProductOp: OpDef<{ readonly K: number; readonly N: number }> = {
  name: "q8_blocks_product",
  infer: (inputs, { K, N }) => {
    const [x, codes, blockSteps, addend] = inputs;
    const { codes: codesType, steps: stepsType } = partTypes(K, N);
    const fits = x?.shape.length === 2 && x.shape[1] === K && codes?.dtype === "uint8" && sameShape(codes.shape, codesType.shape);
    if (!fits || !sameShape(blockSteps?.shape ?? [], stepsType.shape) || (addend !== undefined && !sameShape(addend.shape, [N])))
      throw shapeError(
        "q8_blocks_product",
        inputs,
        `float32[T,${K}], uint8[${codesType.shape}], float32[${stepsType.shape}], and float32[${N}] or nothing`,
      );
    expectInputs("q8_blocks_product", [x, blockSteps!, ...inputs.slice(3)], inputs.length - 1);
    return [{ dtype: "float32", shape: [x.shape[0]!, N] }];
  },
  vjp: "unsupported",
  emit: (e, [x, codes, blockSteps, addend], { K, N }) => {
    const attributes = { N, K, bits: 8, block_size: blockSize, accuracy_level: 4 };
    const inputs = [x!, codes!, blockSteps!, ...(addend === undefined ? [] : ["", "", addend])];
    return e.node("MatMulNBits", inputs, attributes, { domain: "com.microsoft" });
  },
};

function partTypes(K: number, N: number): Readonly<Record<"codes" | "steps", TensorType>> {
  const blocks = Math.ceil(K / blockSize);
  return { codes: { dtype: "uint8", shape: [N, blocks, blockSize] }, steps: { dtype: "float32", shape: [N, blocks] } };
}

/** 8 bits in blocks of 32 along the inputs of each output: q8 for programs that read a few rows at a time and train nothing. */
export const q8Blocks: WeightForm = {
  name: "q8-blocks",
  head: true,
  product(x, matrix, transB, addend) {
    const [side, N, K] = sideOf(matrix, transB);
    const { codes, steps } = partTypes(K, N);
    const inputs = [x, matrix.part(`${side}_codes`, codes), matrix.part(`${side}_steps`, steps), ...(addend === undefined ? [] : [addend])];
    return apply1(q8BlocksProductOp, inputs, { K, N });
  },
  squaredNorms(matrix, transB) {
    const [side, N] = sideOf(matrix, transB);
    return matrix.part(`${side}_norm`, { dtype: "float32", shape: [N] });
  },
  store(matrix, parts) {
    const sides = new Map<string, Blocks>();
    return Object.fromEntries(
      parts.map((part) => {
        const [side, what] = part.split("_") as [string, keyof Blocks];
        const blocks = sides.get(side) ?? inBlocks(matrix, side === "rows");
        sides.set(side, blocks);
        return [part, blocks[what]];
      }),
    );
  },
};

/** What a product reads of M [R, C]: for x·Mᵀ its rows, for x·M its columns; outputs and inputs. */
function sideOf({ shape: [R, C] }: StoredMatrix, transB: boolean): readonly [side: "rows" | "columns", N: number, K: number] {
  return transB ? ["rows", R, C] : ["columns", C, R];
}

interface Blocks {
  readonly codes: Tensor<"uint8">;
  readonly steps: Tensor<"float32">;
  /** The squared norm of each output's numbers as they are kept. */
  readonly norm: Tensor<"float32">;
}

/** A matrix's rows, or its columns, in blocks; the last block of each ends in zeros. */
function inBlocks({ shape, data }: Tensor<"float32">, ofRows: boolean): Blocks {
  const [R, C] = [shape[0]!, shape[1]!];
  const [N, K] = ofRows ? [R, C] : [C, R];
  const [alongN, alongK] = ofRows ? [C, 1] : [1, C];
  const blocks = Math.ceil(K / blockSize);
  const codes = new Uint8Array(N * blocks * blockSize).fill(zero);
  const [blockSteps, norms] = [new Float32Array(N * blocks), new Float32Array(N)];
  for (let n = 0; n < N; n++) {
    let norm = 0;
    for (let block = 0; block < blocks; block++) {
      const [first, end] = [block * blockSize, Math.min((block + 1) * blockSize, K)];
      let most = 0;
      for (let k = first; k < end; k++) most = Math.max(most, Math.abs(data[n * alongN + k * alongK]!));
      const step = most / steps;
      let squares = 0;
      for (let k = first; k < end && most > 0; k++) {
        const steady = nearestInteger(data[n * alongN + k * alongK]! / step);
        codes[n * blocks * blockSize + k] = zero + steady;
        squares += steady * steady;
      }
      blockSteps[n * blocks + block] = step;
      norm += squares * step * step;
    }
    norms[n] = norm;
  }
  return {
    codes: { dtype: "uint8", shape: [N, blocks, blockSize], data: codes },
    steps: f32(blockSteps, [N, blocks]),
    norm: f32(norms),
  };
}
