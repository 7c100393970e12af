/**
 * Rows as Hugging Face has them from rows as llama.cpp has them, in each head: K rows, of which llama.cpp turns neighbours (2i, 2i + 1) by one
 * angle and Hugging Face (i, i + K/2). The inverse of `permute` in llama.cpp's convert_hf_to_gguf.py.
 */
export function fromGgufRows(data: Float32Array, heads: number, rows: number): Float32Array {
  return moved(data, heads, rows, (out, source, from, to, width) => out.set(source.subarray(from * width, (from + 1) * width), to * width));
}

/** The inverse: rows as llama.cpp has them. */
export function toGgufRows(data: Float32Array, heads: number, rows: number): Float32Array {
  return moved(data, heads, rows, (out, source, from, to, width) => out.set(source.subarray(to * width, (to + 1) * width), from * width));
}

/** Goes through pairs of places of a row: `from` in llama.cpp's order, `to` in Hugging Face's. */
function moved(
  data: Float32Array,
  heads: number,
  rows: number,
  copy: (out: Float32Array, source: Float32Array, from: number, to: number, width: number) => void,
): Float32Array {
  const out = new Float32Array(data.length);
  const [width, headDim] = [data.length / rows, rows / heads];
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < headDim; i++) copy(out, data, h * headDim + i, h * headDim + (i >> 1) + (i & 1) * (headDim / 2), width);
  }
  return out;
}
