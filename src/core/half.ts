/** IEEE 754 binary16 bits of binary32 bits. */
export function halfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 65536 and above
  const exponent = (magnitude >>> 23) - 112;
  // 13 digits go; of a subnormal more, and its leading one is written out
  const shift = exponent > 0 ? 13 : 14 - exponent;
  if (shift > 24) return sign;
  const digits = exponent > 0 ? magnitude - (112 << 23) : (magnitude & 0x7fffff) | 0x800000;
  const rest = digits & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const kept = digits >>> shift;
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}

/** IEEE 754 binary16 (sign 1, exponent 5, fraction 10 bits) to binary32 bits. */
export function floatBitsOfHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  let exponent = (half >> 10) & 0x1f;
  let fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent === 0) {
    if (fraction === 0) return sign;
    // A subnormal half is a normal float: shift until the leading one is the implicit bit.
    for (exponent = 1; (fraction & 0x400) === 0; exponent--) fraction <<= 1;
    fraction &= 0x3ff;
  }
  return sign | ((exponent + 112) << 23) | (fraction << 13);
}
