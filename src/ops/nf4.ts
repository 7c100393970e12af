import { f32, i64, type Tensor } from "../core/tensor.js";
import { denseForm } from "./dense-form.js";
import { codeAt, lookUp, packCodes, reshaped } from "./four-bits.js";

/**
 * The 16 numbers of 4-bit NormalFloat: quantiles of a normal distribution, with 0 among them (Dettmers et al. 2023, arXiv:2305.14314, §3), as
 * bitsandbytes has them.
 */
export const nf4Numbers: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1,
];
/** Between two neighbours; a number on the line goes to the lower one, as in bitsandbytes. */
const borders = nf4Numbers.slice(1).map((number, i) => (number + nf4Numbers[i]!) / 2);

/** Numbers that share a scale, in the order of the rows; bitsandbytes' and QLoRA's. */
const blockSize = 64;

/** The code of a number in [-1, 1]: that of the nearest of the 16. */
function codeOf(x: number): number {
  let code = x > borders[7]! ? 8 : 0;
  if (x > borders[code + 3]!) code += 4;
  if (x > borders[code + 1]!) code += 2;
  return x > borders[code]! ? code + 1 : code;
}

const blocksOf = (count: number): number => Math.ceil(count / blockSize);

/**
 * 4-bit NormalFloat in blocks of 64 with their largest magnitudes as scales, 0.56 bytes a weight: QLoRA's storage, without its second
 * quantisation of the scales. Codes and scales are those of bitsandbytes.
 */
export const nf4 = denseForm({
  name: "nf4",
  parts: ([R, C]) => ({
    codes: { dtype: "uint8", shape: [Math.ceil((R * C) / 2)] },
    absmax: { dtype: "float32", shape: [blocksOf(R * C)] },
  }),
  quantize({ data }) {
    const absmax = new Float32Array(blocksOf(data.length));
    const codes = new Uint8Array(data.length);
    for (let block = 0; block < absmax.length; block++) {
      const [first, end] = [block * blockSize, Math.min((block + 1) * blockSize, data.length)];
      let most = 0;
      for (let i = first; i < end; i++) most = Math.max(most, Math.abs(data[i]!));
      absmax[block] = most;
      for (let i = first; i < end; i++) codes[i] = codeOf(most === 0 ? 0 : Math.fround(data[i]! / most));
    }
    const bytes = packCodes(codes, "high");
    return { codes: { dtype: "uint8", shape: [bytes.length], data: bytes }, absmax: f32(absmax) };
  },
  dequantize({ codes, absmax }, [R, C]) {
    const bytes = (codes as Tensor<"uint8">).data;
    return Float32Array.from(
      { length: R * C },
      (_, i) => nf4Numbers[codeAt(bytes, i, "high")]! * Number(absmax!.data[Math.floor(i / blockSize)]),
    );
  },
  dense(e, { codes, absmax }, [R, C]) {
    const count = R * C;
    const missing = (blocksOf(count) * blockSize) / 2 - Math.ceil(count / 2);
    const whole = missing === 0 ? codes! : e.node("Pad", [codes!, e.constant(i64([0, missing]))])[0]!;
    const blocks = reshaped(e, lookUp(e, whole, nf4Numbers, "high"), [-1, blockSize]);
    const [numbers] = e.node("Mul", [blocks, reshaped(e, absmax!, [-1, 1])]);
    if (count % blockSize === 0) return reshaped(e, numbers!, [R, C]);
    const bounds = [0, count].map((at) => e.constant(i64([at])));
    return reshaped(e, e.node("Slice", [reshaped(e, numbers!, [-1]), ...bounds])[0]!, [R, C]);
  },
  // ORT's node takes no matrix that is not to be transposed: with transB = 0 it still reads it as transposed (ORT 1.30, CPU)
  fused: (e, x, { codes, absmax }, [R, C]) =>
    e.node("MatMulBnb4", [x, codes!, absmax!], { N: R, K: C, block_size: blockSize, quant_type: 1 }, { domain: "com.microsoft" })[0]!,
});
