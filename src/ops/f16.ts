import { floatBitsOfHalf, halfBits } from "../core/half.js";
import { WeightError } from "../errors.js";
import { denseForm } from "./dense-form.js";
import { reshaped } from "./four-bits.js";

/** IEEE 754 half precision: half the memory of float32, and exact for checkpoints that are stored so. */
export const f16 = denseForm({
  name: "f16",
  parts: (shape) => ({ values: { dtype: "float16", shape } }),
  quantize({ shape, data }, path) {
    const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
    const values = new Uint16Array(data.length);
    for (let i = 0; i < bits.length; i++) {
      values[i] = halfBits(bits[i]!);
      if ((values[i]! & 0x7fff) !== 0x7c00) continue;
      throw new WeightError(`${path}: ${data[i]} is too large for f16, whose largest number is 65504`, {
        hint: "choose base dtype f32 or q8",
      });
    }
    return { values: { dtype: "float16", shape, data: values } };
  },
  dequantize: ({ values }) => new Float32Array(Uint32Array.from(values!.data as Uint16Array, floatBitsOfHalf).buffer),
  // The reshape changes nothing but keeps ORT from making one matrix for both products, which would live from the one to the other.
  dense: (e, { values }, shape, forward) => e.node("Cast", [forward ? values! : reshaped(e, values!, shape)], { to: 1 })[0]!,
});
