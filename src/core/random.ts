import { ConfigError } from "../errors.js";

/** 64 bits that name one stream of noise, as two unsigned 32-bit halves. Made by {@link keyOf}; holds no position. */
export interface RandomKey {
  readonly k0: number;
  readonly k1: number;
}

/**
 * Philox4x32-10: four 32-bit words of noise for one 128-bit counter and a 64-bit key, written to `out [4]` (as signed int32).
 * Stateless, integers only, so the same on every platform. Source: Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3" (SC 2011), §4.3 and the reference implementation Random123, whose known-answer vectors the tests check. The paper finds no
 * failure in BigCrush from 7 rounds on; 10 leave a margin.
 */
export function philox(out: Int32Array, key: RandomKey, c0: number, c1 = 0, c2 = 0, c3 = 0, rounds = 10): void {
  c0 |= 0;
  c1 |= 0;
  c2 |= 0;
  c3 |= 0;
  let k0 = key.k0 | 0;
  let k1 = key.k1 | 0;
  for (let round = 0; round < rounds; round++) {
    // High halves of the unsigned products 0xD2511F53 · c0 and 0xCD9E8D57 · c2 from 16-bit limbs: no partial sum
    // exceeds 32 bits. Every step ends in `| 0`, which keeps V8 on integer registers (twice as fast).
    const a0 = c0 & 0xffff;
    const a1 = c0 >>> 16;
    const aMid = (Math.imul(a1, 0x1f53) + (Math.imul(a0, 0x1f53) >>> 16)) | 0;
    const aLow = (Math.imul(a0, 0xd251) + (aMid & 0xffff)) | 0;
    const aHigh = (((Math.imul(a1, 0xd251) + (aMid >>> 16)) | 0) + (aLow >>> 16)) | 0;
    const b0 = c2 & 0xffff;
    const b1 = c2 >>> 16;
    const bMid = (Math.imul(b1, 0x8d57) + (Math.imul(b0, 0x8d57) >>> 16)) | 0;
    const bLow = (Math.imul(b0, 0xcd9e) + (bMid & 0xffff)) | 0;
    const bHigh = (((Math.imul(b1, 0xcd9e) + (bMid >>> 16)) | 0) + (bLow >>> 16)) | 0;
    const low0 = Math.imul(c0, 0xd2511f53 | 0);
    c0 = bHigh ^ c1 ^ k0;
    c1 = Math.imul(c2, 0xcd9e8d57 | 0);
    c2 = aHigh ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + (0x9e3779b9 | 0)) | 0;
    k1 = (k1 + (0xbb67ae85 | 0)) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * The key of the stream named by a seed and any further parts: a step, a layer's path, what the noise is for.
 * Order and type count: `keyOf(0, "1")`, `keyOf(0, 1)` and `keyOf(1, 0)` are three streams. Parts are absorbed one after the other by
 * {@link philox}, numbers as their float64 bits, strings as UTF-16 code units with their length. Throws ConfigError for a number that is not finite.
 */
export function keyOf(seed: number, ...parts: readonly (string | number)[]): RandomKey {
  const out = new Int32Array(4);
  const bits = new DataView(new ArrayBuffer(8));
  let key: RandomKey = { k0: 0, k1: 0 };
  const absorb = (a: number, b: number, tag: number): void => {
    philox(out, key, a, b, tag, 0x9eef);
    key = { k0: out[0]! >>> 0, k1: out[1]! >>> 0 };
  };
  for (const part of [seed, ...parts]) {
    if (typeof part === "number") {
      if (!Number.isFinite(part)) throw new ConfigError(`a seed must be a finite number, got ${part}`);
      bits.setFloat64(0, part + 0); // + 0 makes -0 the same as 0
      absorb(bits.getInt32(0), bits.getInt32(4), 1);
    } else {
      absorb(part.length, 0, 2);
      for (let i = 0; i < part.length; i += 4) {
        const unit = (offset: number): number => (i + offset < part.length ? part.charCodeAt(i + offset) : 0);
        absorb(unit(0) | (unit(1) << 16), unit(2) | (unit(3) << 16), 3);
      }
    }
  }
  return key;
}

/**
 * Fills `out` with uniform numbers in `[low, high)`, 24 bits each (rounding to float32 may give `high` itself when the range is far from 0).
 * Element i depends on the key and i only, so a longer array begins with the shorter one.
 */
export function fillUniform(out: Float32Array, key: RandomKey, low: number, high: number): void {
  const words = new Int32Array(4);
  const scale = (high - low) * 2 ** -24;
  for (let i = 0; i < out.length; i += 4) {
    philox(words, key, i >>> 2);
    const end = Math.min(4, out.length - i);
    for (let lane = 0; lane < end; lane++) out[i + lane] = low + scale * (words[lane]! >>> 8);
  }
}

/**
 * Fills `out` with normal numbers by Box and Muller's transform (1958). Element i depends on the key and i only.
 * Engines may differ in the last bit of `Math.log`, `Math.cos` and `Math.sin`, so values agree across engines to float32 rounding, not
 * always to the bit; the uniform, dropout and shuffling functions use integers and agree exactly.
 */
export function fillNormal(out: Float32Array, key: RandomKey, mean: number, std: number): void {
  const words = new Int32Array(4);
  for (let i = 0; i < out.length; i += 4) {
    philox(words, key, i >>> 2);
    for (let pair = 0; pair < 4 && i + pair < out.length; pair += 2) {
      const radius = std * Math.sqrt(-2 * Math.log(((words[pair]! >>> 0) + 0.5) * 2 ** -32));
      const angle = 2 * Math.PI * ((words[pair + 1]! >>> 0) * 2 ** -32);
      out[i + pair] = mean + radius * Math.cos(angle);
      if (i + pair + 1 < out.length) out[i + pair + 1] = mean + radius * Math.sin(angle);
    }
  }
}

/**
 * Fills `out` with a dropout mask: 0 with probability `rate`, else `1 / (1 - rate)`, so that masked values keep their mean.
 * One byte of noise decides an element, except the one byte value in 256 that the threshold falls into: there 24 further bits do, so the
 * rate holds to 2^-32. Philox with 7 rounds: masks are drawn in every step. Element i depends on the key and i only. Throws ConfigError unless `0 <= rate < 1`.
 */
export function fillDropoutMask(out: Float32Array, key: RandomKey, rate: number): void {
  if (!(rate >= 0 && rate < 1)) throw new ConfigError(`a dropout rate must be at least 0 and below 1, got ${rate}`);
  const scale = 1 / (1 - rate);
  const threshold = Math.round(rate * 2 ** 32);
  const edge = Math.floor(threshold / 2 ** 24);
  const rest = threshold % 2 ** 24;
  const maskOf = new Float32Array(256).fill(scale).fill(0, 0, edge);
  const words = new Int32Array(4);
  const ties = new Int32Array(4);
  const settleTies = (mask: Float32Array, at: number, off: number): void => {
    for (let byte = 0; byte < 4; byte++) {
      if (((off >>> (8 * byte)) & 0xff) !== 0) continue;
      philox(ties, key, at + byte, 1);
      mask[at + byte] = ties[0]! >>> 8 < rest ? 0 : scale;
    }
  };
  // Whole blocks of 16: a write past the end would be dropped, but makes V8 leave its fast path.
  const mask = out.length % 16 === 0 ? out : new Float32Array(16 * Math.ceil(out.length / 16));
  const edges = Math.imul(edge, 0x01010101);
  for (let i = 0; i < mask.length; i += 16) {
    philox(words, key, i >>> 4, 0, 0, 0, 7);
    for (let lane = 0; lane < 4; lane++) {
      const word = words[lane]!;
      const at = i + 4 * lane;
      mask[at] = maskOf[word & 0xff]!;
      mask[at + 1] = maskOf[(word >>> 8) & 0xff]!;
      mask[at + 2] = maskOf[(word >>> 16) & 0xff]!;
      mask[at + 3] = maskOf[word >>> 24]!;
      const off = word ^ edges; // has a zero byte where the word has the edge's byte
      if ((((off - 0x01010101) | 0) & ~off & (0x80808080 | 0)) !== 0) settleTies(mask, at, off);
    }
  }
  if (mask !== out) out.set(mask.subarray(0, out.length));
}

/** A uniform number in `[0, 1)` of 32 bits, for one counter of the key's stream. */
export function uniformAt(key: RandomKey, counter: number): number {
  const words = new Int32Array(4);
  philox(words, key, counter | 0, Math.floor(counter / 2 ** 32), 0, 4);
  return (words[0]! >>> 0) * 2 ** -32;
}

/** A whole number in `[0, n)`, each equally likely, for one counter of the key's stream; `n` from 1 to 2^32 - 1. Throws ConfigError for another `n`. */
export function randomInt(n: number, key: RandomKey, counter = 0): number {
  if (!Number.isInteger(n) || n < 1 || n >= 2 ** 32) throw new ConfigError(`a random integer needs a whole number of choices, got ${n}`);
  const words = new Int32Array(4);
  for (let attempt = 0; ; attempt++) {
    if (attempt % 4 === 0) philox(words, key, counter | 0, Math.floor(counter / 2 ** 32), attempt >>> 2, 2);
    const value = scaled(words[attempt % 4]! >>> 0, n);
    if (value >= 0) return value;
  }
}

/** The numbers 0 … n-1 in random order (Fisher and Yates; Durstenfeld 1964), every order equally likely up to the key's 64 bits. */
export function shuffled(n: number, key: RandomKey): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  const words = new Int32Array(4);
  let drawn = 0;
  for (let i = n - 1; i > 0; i--) {
    let j = -1;
    while (j < 0) {
      if (drawn % 4 === 0) philox(words, key, drawn >>> 2, 0, 0, 3);
      j = scaled(words[drawn % 4]! >>> 0, i + 1);
      drawn++;
    }
    const held = order[i]!;
    order[i] = order[j]!;
    order[j] = held;
  }
  return order;
}

/** `floor(word · n / 2^32)`, or -1 where that would favour some values (Lemire, "Fast random integer generation in an interval", 2019). */
function scaled(word: number, n: number): number {
  const low = Math.imul(word, n) >>> 0;
  if (low < n && low < (2 ** 32 - n) % n) return -1;
  // The product has up to 64 bits: split the word so that each partial product is exact in a double.
  return Math.floor((Math.floor((word & 0xffff) * n * 2 ** -16) + (word >>> 16) * n) * 2 ** -16);
}
