import { f32, i64, type Tensor } from "../core/tensor.js";
import { denseForm } from "./dense-form.js";
import { codeAt, lookUp, packCodes, reshaped } from "./four-bits.js";
import { nearestInteger } from "./weight-form.js";

/** Numbers of a row that share a step and a zero; GGUF's too. */
const blockSize = 32;
const codesFromZero = Array.from({ length: 16 }, (_, code) => code);

/** 4 bits in blocks of 32 along the rows, in 15 equal steps from the block's least number to its largest, as GGUF's Q4_1: 0.75 bytes a weight. */
export const q4 = denseForm({
  name: "q4",
  parts: ([R, C]) => {
    const blocks = Math.ceil(C / blockSize);
    return {
      codes: { dtype: "uint8", shape: [R, blocks, blockSize / 2] },
      steps: { dtype: "float32", shape: [R, blocks] },
      zeros: { dtype: "float32", shape: [R, blocks] },
    };
  },
  quantize({ shape, data }) {
    const [R, C] = [shape[0]!, shape[1]!];
    const blocks = Math.ceil(C / blockSize);
    const codes = new Uint8Array(R * blocks * blockSize);
    const [steps, zeros] = [new Float32Array(R * blocks), new Float32Array(R * blocks)];
    for (let block = 0; block < R * blocks; block++) {
      const row = Math.floor(block / blocks);
      const first = row * C + (block % blocks) * blockSize;
      const end = Math.min(first + blockSize, (row + 1) * C);
      let [least, most] = [data[first]!, data[first]!];
      for (let i = first + 1; i < end; i++) {
        least = Math.min(least, data[i]!);
        most = Math.max(most, data[i]!);
      }
      const step = (most - least) / 15 || Math.abs(least) || 1; // a block of equal numbers: code 0 stands for them
      steps[block] = step;
      zeros[block] = -least / step;
      for (let i = first; i < end; i++) codes[block * blockSize + i - first] = Math.min(15, nearestInteger((data[i]! - least) / step));
    }
    const bytes = packCodes(codes, "low");
    return {
      codes: { dtype: "uint8", shape: [R, blocks, blockSize / 2], data: bytes },
      steps: f32(steps, [R, blocks]),
      zeros: f32(zeros, [R, blocks]),
    };
  },
  dequantize({ codes, steps, zeros }, [R, C]) {
    const bytes = (codes as Tensor<"uint8">).data;
    const blocks = Math.ceil(C / blockSize);
    return Float32Array.from({ length: R * C }, (_, i) => {
      const [row, column] = [Math.floor(i / C), i % C];
      const block = row * blocks + Math.floor(column / blockSize);
      const code = codeAt(bytes, block * blockSize + (column % blockSize), "low");
      return (code - Number(zeros!.data[block])) * Number(steps!.data[block]);
    });
  },
  dense(e, { codes, steps, zeros }, [R, C]) {
    const blocks = Math.ceil(C / blockSize);
    const numbers = reshaped(e, lookUp(e, codes!, codesFromZero, "low"), [R, blocks, blockSize]);
    const [centred] = e.node("Sub", [numbers, reshaped(e, zeros!, [R, blocks, 1])]);
    const [scaled] = e.node("Mul", [centred!, reshaped(e, steps!, [R, blocks, 1])]);
    const whole = reshaped(e, scaled!, [R, blocks * blockSize]);
    if (C % blockSize === 0) return whole;
    return e.node("Slice", [whole, e.constant(i64([0])), e.constant(i64([C])), e.constant(i64([1]))])[0]!;
  },
  fused(e, x, { codes, steps, zeros }, [R, C]) {
    const attributes = { N: R, K: C, bits: 4, block_size: blockSize, accuracy_level: 4 };
    return e.node("MatMulNBits", [x, codes!, steps!, zeros!], attributes, { domain: "com.microsoft" })[0]!;
  },
});
