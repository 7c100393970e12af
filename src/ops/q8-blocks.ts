import { f32, type Tensor } from "../core/tensor.js";
import { blockProduct, blockSize, blockTypes } from "./block-product.js";
import { add } from "./elementwise.js";
import { nearestInteger, type StoredMatrix, type WeightForm } from "./weight-form.js";

/** Steps from 0 to the largest magnitude of a block. */
const steps = 127;
/** The byte that stands for 0 in blocks whose numbers may be anything. */
const middle = 128;
/** How far a number may lie from one of 16 levels, in levels: further than float32 moves one that lies on it. */
const nearlyWhole = 1e-3;

/** 8 bits in blocks of 32 along the inputs of each output, with a step and a zero each: q8 for programs that read a few rows at a time and train nothing. */
export const q8Blocks: WeightForm = {
  name: "q8-blocks",
  get head() {
    return q8Blocks;
  },
  product(x, matrix, transB, addend) {
    const [side, N, K] = sideOf(matrix, transB);
    const types = blockTypes(8, K, N);
    const parts = (["codes", "steps", "zeros"] as const).map((name) => matrix.part(`${side}_${name}`, types[name]));
    const product = blockProduct(x, parts, { bits: 8, N });
    return addend === undefined ? product : add(product, addend);
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
  readonly zeros: Tensor<"uint8">;
  /** The squared norm of each output's numbers as they are kept. */
  readonly norm: Tensor<"float32">;
}

/** A matrix's rows, or its columns, in blocks; the last block of each ends in zeros. */
function inBlocks({ shape, data }: Tensor<"float32">, ofRows: boolean): Blocks {
  const [R, C] = [shape[0]!, shape[1]!];
  const [N, K] = ofRows ? [R, C] : [C, R];
  const [alongN, alongK] = ofRows ? [C, 1] : [1, C];
  const blocks = Math.ceil(K / blockSize);
  const codes = new Uint8Array(N * blocks * blockSize);
  const zeros = new Uint8Array(N * blocks);
  const [blockSteps, norms] = [new Float32Array(N * blocks), new Float32Array(N)];
  for (let n = 0; n < N; n++) {
    let norm = 0;
    for (let block = 0, place = n * blocks; block < blocks; block++, place++) {
      const first = n * alongN + block * blockSize * alongK;
      const count = Math.min(blockSize, K - block * blockSize);
      const { step, zero } = gridOf(data, first, alongK, count);
      const inverse = step === 0 ? 0 : 1 / step;
      let squares = 0;
      for (let k = 0; k < count; k++) {
        const steady = nearestInteger(data[first + k * alongK]! * inverse);
        codes[place * blockSize + k] = zero + steady;
        squares += steady * steady;
      }
      codes.fill(zero, place * blockSize + count, (place + 1) * blockSize);
      blockSteps[place] = step;
      zeros[place] = zero;
      norm += squares * step * step;
    }
    norms[n] = norm;
  }
  return {
    codes: { dtype: "uint8", shape: [N, blocks, blockSize], data: codes },
    steps: f32(blockSteps, [N, blocks]),
    zeros: { dtype: "uint8", shape: [N, blocks], data: zeros },
    norm: f32(norms),
  };
}

/** Bytes 0 to 255 stand for `step`·(byte - `zero`). */
interface Grid {
  readonly step: number;
  readonly zero: number;
}

/**
 * The grid for `count` numbers from `first` on, `along` apart: 127 steps to the largest magnitude on either side of 0; but for numbers that lie on 16 levels, as
 * those of 4-bit files do, so many steps between two levels that 0 comes nearest to being one of the steps: what was 4-bit stays as it was.
 */
function gridOf(data: Float32Array, first: number, along: number, count: number): Grid {
  let least = data[first]!;
  let most = least;
  const end = first + count * along;
  for (let i = first + along; i < end; i += along) {
    const number = data[i]!;
    if (number < least) least = number;
    else if (number > most) most = number;
  }
  const symmetric = { step: Math.max(most, -least) / steps, zero: middle };
  const level = (most - least) / 15;
  if (level === 0 || least > 0 || most < 0) return symmetric;
  const inverse = 1 / level;
  for (let i = first; i < end; i += along) {
    const place = (data[i]! - least) * inverse;
    if (Math.abs(place - nearestInteger(place)) > nearlyWhole) return symmetric;
  }
  let [between, nearest] = [0, 1];
  for (let each = 17; each >= 6; each--) {
    const place = -least * inverse * each;
    const off = Math.abs(place - nearestInteger(place)) / each;
    if (off < nearest) [between, nearest] = [each, off];
  }
  return { step: level / between, zero: nearestInteger(-least * inverse * between) };
}
