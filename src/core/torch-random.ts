/** Words of state in MT19937. */
const N = 624;

/**
 * Fills `out` with what torch's CPU generator gives: `torch.empty(n).uniform_(low, high, generator=Generator().manual_seed(seed))`, after `skip`
 * earlier draws, to the bit. MT19937 (Matsumoto & Nishimura 1998) seeded with the low 32 bits of `seed` by Knuth's recurrence; an element takes the
 * low 24 bits u of one word: low + u·2⁻²⁴·(high − low), all float32, the product not rounded before the sum (ATen/core/DistributionsHelper.h,
 * built with fused multiply-add; a torch built without differs in the last bit).
 */
export function fillTorchUniform(out: Float32Array, seed: number, skip: number, low: number, high: number): void {
  const state = seeded(seed);
  const from = Math.fround(low);
  const unit = Math.fround(Math.fround(high) - from) * 2 ** -24;
  for (let i = -skip; i < out.length; i++) {
    const at = (i + skip) % N;
    if (at === 0) renew(state);
    if (i >= 0) out[i] = (temper(state[at]!) & 0xffffff) * unit + from;
  }
}

function seeded(seed: number): Int32Array {
  const state = new Int32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++) {
    const before = state[i - 1]!;
    state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
  }
  return state;
}

/** The next 624 words. */
function renew(state: Int32Array): void {
  for (let i = 0; i < N; i++) {
    const bits = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff);
    state[i] = state[(i + 397) % N]! ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
  }
}

function temper(word: number): number {
  let y = word;
  y ^= y >>> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return y ^ (y >>> 18);
}
