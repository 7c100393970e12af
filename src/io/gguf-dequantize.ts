import { toFloat32 } from "./safetensors.js";

/** Where a block's numbers are read from. */
interface Blocks {
  readonly bytes: Uint8Array;
  /** The float32 value of the half at a byte. */
  half(at: number): number;
}

/** Writes the numbers of the block at byte `b` from `o` on. All arithmetic is rounded to float32 step by step, as the gguf package does. */
type Unpack = (blocks: Blocks, b: number, out: Float32Array, o: number) => void;

const f = Math.fround;

/**
 * Packed numbers as float32, bit-equal to what the Python package `gguf` makes of them (`gguf.quants.dequantize`; the formats are ggml's,
 * ggml-quants.c). `bytes` are whole blocks of the type `name`. Takes the host to be little-endian.
 */
export function dequantize(
  { name, block, bytes: width }: { name: string; block: number; bytes: number },
  bytes: Uint8Array<ArrayBuffer>,
): Float32Array {
  if (name === "F32" || name === "F16" || name === "BF16") return toFloat32(name, bytes);
  const unpack = unpackers[name as keyof typeof unpackers] as Unpack;
  const count = bytes.byteLength / width;
  const even = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice(); // halves are read as such; every block's size is even
  const halves = toFloat32("F16", even);
  const blocks: Blocks = { bytes: even, half: (at) => halves[at >> 1]! };
  const out = new Float32Array(count * block);
  for (let i = 0; i < count; i++) unpack(blocks, i * width, out, i * block);
  return out;
}

/** 32 numbers: d·(q − 8); the low nibbles are the first half. */
const q4_0: Unpack = ({ bytes, half }, b, out, o) => {
  const d = half(b);
  for (let i = 0; i < 16; i++) {
    const q = bytes[b + 2 + i]!;
    out[o + i] = d * ((q & 15) - 8);
    out[o + 16 + i] = d * ((q >> 4) - 8);
  }
};

/** 32 numbers: d·q + m. */
const q4_1: Unpack = ({ bytes, half }, b, out, o) => {
  const [d, m] = [half(b), half(b + 2)];
  for (let i = 0; i < 16; i++) {
    const q = bytes[b + 4 + i]!;
    out[o + i] = f(d * (q & 15)) + m;
    out[o + 16 + i] = f(d * (q >> 4)) + m;
  }
};

/** The fifth bit of number `i`, as 16 or 0: 32 of them stand at byte `at`. */
const fifth = (bytes: Uint8Array, at: number, i: number): number => ((bytes[at + (i >> 3)]! >> (i & 7)) & 1) << 4;

/** 32 numbers: d·(q − 16), the fifth bits apart. */
const q5_0: Unpack = ({ bytes, half }, b, out, o) => {
  const d = half(b);
  for (let i = 0; i < 16; i++) {
    const q = bytes[b + 6 + i]!;
    out[o + i] = d * (((q & 15) | fifth(bytes, b + 2, i)) - 16);
    out[o + 16 + i] = d * (((q >> 4) | fifth(bytes, b + 2, 16 + i)) - 16);
  }
};

/** 32 numbers: d·q + m, the fifth bits apart. */
const q5_1: Unpack = ({ bytes, half }, b, out, o) => {
  const [d, m] = [half(b), half(b + 2)];
  for (let i = 0; i < 16; i++) {
    const q = bytes[b + 8 + i]!;
    out[o + i] = f(d * ((q & 15) | fifth(bytes, b + 4, i))) + m;
    out[o + 16 + i] = f(d * ((q >> 4) | fifth(bytes, b + 4, 16 + i))) + m;
  }
};

const signed = (byte: number): number => (byte << 24) >> 24;

/** 32 numbers: d·q. */
const q8_0: Unpack = ({ bytes, half }, b, out, o) => {
  const d = half(b);
  for (let i = 0; i < 32; i++) out[o + i] = d * signed(bytes[b + 2 + i]!);
};

/** The 6-bit scale and minimum of part `j` (of 8): 12 bytes at `at` hold them all. */
function scaleAndMin(bytes: Uint8Array, at: number, j: number): readonly [number, number] {
  if (j < 4) return [bytes[at + j]! & 63, bytes[at + 4 + j]! & 63];
  const low = bytes[at + 4 + j]!;
  return [(low & 15) | ((bytes[at + j - 4]! >> 2) & 48), (low >> 4) | ((bytes[at + j]! >> 2) & 48)];
}

/** 256 numbers in 8 parts of 32: (d·scale)·q − dmin·min; each 32 bytes hold two parts, in their low and high nibbles. `high` is the fifth bits' byte, if any. */
const partsOf32 =
  (nibbles: number, high?: number): Unpack =>
  ({ bytes, half }, b, out, o) => {
    for (let j = 0; j < 8; j++) {
      const [scale, min] = scaleAndMin(bytes, b + 4, j);
      const [d, m] = [f(half(b) * scale), f(half(b + 2) * min)];
      const shift = (j & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const low = (bytes[b + nibbles + (j >> 1) * 32 + i]! >> shift) & 15;
        const q = high === undefined ? low : low | (((bytes[b + high + i]! >> j) & 1) << 4);
        out[o + j * 32 + i] = f(d * q) - m;
      }
    }
  };

/** 256 numbers: (d·scale)·(q − 32), a signed scale for each 16; q has four bits in `ql` and two in `qh`. */
const q6_k: Unpack = ({ bytes, half }, b, out, o) => {
  const [qh, scales, d] = [b + 128, b + 192, half(b + 208)];
  for (let i = 0; i < 256; i++) {
    const [part, k] = [i >> 7, i & 127]; // two parts of 128: 64 bytes of low bits, 32 of high ones each
    const low = (bytes[b + part * 64 + (k & 63)]! >> ((k >> 6) * 4)) & 15;
    const high = (bytes[qh + part * 32 + (k & 31)]! >> ((k >> 5) * 2)) & 3;
    out[o + i] = f(d * signed(bytes[scales + (i >> 4)]!)) * ((low | (high << 4)) - 32);
  }
};

const unpackers = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q4_K: partsOf32(16),
  Q5_K: partsOf32(48, 16),
  Q6_K: q6_k,
};
