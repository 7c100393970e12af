import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { AdamW, accumulate, clipGradNorm, type TrainedParam } from "./optimizer.js";

interface Golden {
  readonly options: { readonly betas: [number, number]; readonly eps: number; readonly weight_decay: number };
  readonly params: readonly { readonly path: string; readonly lr_scale: number; readonly decay: boolean; readonly values: number[] }[];
  readonly steps: readonly { readonly learning_rate: number; readonly grads: number[][]; readonly values: number[][] }[];
  readonly state: { readonly step: number; readonly m: number[][]; readonly v: number[][] };
  readonly clip: readonly { readonly max_norm: number; readonly grads: number[][]; readonly norm: number; readonly clipped: number[][] }[];
}

const golden: Golden = JSON.parse(readFileSync(new URL("../../test/golden/adamw.json", import.meta.url), "utf8"));
const arrays = (rows: readonly number[][]): Float32Array[] => rows.map((row) => Float32Array.from(row));
const freshParams = (): TrainedParam[] => golden.params.map((p) => ({ ...p, values: Float32Array.from(p.values) }));

/** Largest |a − b| / max(|b|, floor): torch does the same sums in float32, so a few units in the last place may differ. */
function worst(actual: readonly ArrayLike<number>[], expected: readonly number[][], floor: number): number {
  let gap = 0;
  expected.forEach((row, i) => {
    expect(actual[i]!.length).toBe(row.length);
    row.forEach((value, j) => {
      gap = Math.max(gap, Math.abs(actual[i]![j]! - value) / Math.max(Math.abs(value), floor));
    });
  });
  return gap;
}

describe("AdamW", () => {
  it("equals torch.optim.AdamW for five steps, with exemptions from decay, scaled rates and a rate that changes", () => {
    const params = freshParams();
    const optimizer = new AdamW(params, golden.options);
    for (const { learning_rate, grads, values } of golden.steps) {
      optimizer.step(arrays(grads), learning_rate);
      expect(
        worst(
          params.map((p) => p.values),
          values,
          0.01,
        ),
      ).toBeLessThan(1e-5);
    }
    const state = optimizer.state();
    expect(state.step).toBe(golden.state.step);
    expect(worst([...state.m.values()], golden.state.m, 1e-12)).toBeLessThan(1e-5);
    expect(worst([...state.v.values()], golden.state.v, 1e-12)).toBeLessThan(1e-5);
  });

  it("continues from a restored state to the same bits, and its state is a copy", () => {
    const params = freshParams();
    const optimizer = new AdamW(params, golden.options);
    for (const { learning_rate, grads } of golden.steps.slice(0, 3)) optimizer.step(arrays(grads), learning_rate);
    const state = optimizer.state();
    const resumed = params.map((p) => ({ ...p, values: p.values.slice() }));
    const rest = golden.steps.slice(3);
    for (const { learning_rate, grads } of rest) optimizer.step(arrays(grads), learning_rate);
    const other = new AdamW(resumed, golden.options);
    other.restore(state);
    for (const { learning_rate, grads } of rest) other.step(arrays(grads), learning_rate);
    expect(resumed.map((p) => [...p.values])).toEqual(params.map((p) => [...p.values]));
    expect(other.state()).toEqual(optimizer.state());
    expect(state.step).toBe(3);
  });

  it("names every parameter that a state does not fit, and then changes nothing", () => {
    const optimizer = new AdamW(freshParams());
    const m = new Map([["a.weight", new Float32Array(7).fill(1)] as const, ["old", new Float32Array(1)] as const]);
    const v = optimizer.state().v;
    expect(() => optimizer.restore({ step: 2, m, v })).toThrow(
      /m of a\.bias has no elements, expected 3; m of b\.weight.*m of old belongs to no parameter/,
    );
    expect(optimizer.state().step).toBe(0);
    expect([...optimizer.state().m.get("a.weight")!]).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });

  it("refuses gradients of another size before it changes anything, and settings out of range", () => {
    const params = freshParams();
    const optimizer = new AdamW(params);
    expect(() => optimizer.step(arrays([[1, 2, 3, 4, 5, 6, 7], [1], [1, 2, 3, 4, 5]]), 1)).toThrow(/a\.bias has 1 elements, expected 3/);
    expect(() => optimizer.step([], 1)).toThrow(/0 gradients for 3 parameters/);
    expect(params.map((p) => p.values)).toEqual(freshParams().map((p) => p.values));
    expect(() => new AdamW([params[0]!, params[0]!], { eps: -1 })).toThrow(/eps must not be negative.*a\.weight is given twice/);
  });
});

describe("clipGradNorm", () => {
  it.each(golden.clip)("equals torch.nn.utils.clip_grad_norm_ at $max_norm", ({ max_norm, grads, norm, clipped }) => {
    const ours = arrays(grads);
    expect(Math.abs(clipGradNorm(ours, max_norm) / norm - 1)).toBeLessThan(1e-6);
    expect(worst(ours, clipped, 1e-6)).toBeLessThan(1e-6);
  });

  it("leaves gradients alone without a limit or with a norm that is not finite", () => {
    const grads = arrays([[3, 0, 0, 0, 0, 0, 4]]);
    expect(clipGradNorm(grads)).toBe(5);
    expect(clipGradNorm(grads, 0)).toBe(5);
    expect([...grads[0]!]).toEqual([3, 0, 0, 0, 0, 0, 4]);
    const infinite = arrays([[1, Number.POSITIVE_INFINITY]]);
    expect(clipGradNorm(infinite, 1)).toBe(Number.POSITIVE_INFINITY);
    expect([...infinite[0]!]).toEqual([1, Number.POSITIVE_INFINITY]);
  });
});

describe("accumulate", () => {
  it("adds in place, scaled", () => {
    const sum = arrays([[1, 2], [3]]);
    accumulate(sum, arrays([[10, 20], [30]]));
    accumulate(sum, arrays([[4, 8], [12]]), 0.25);
    expect(sum.map((row) => [...row])).toEqual([[12, 24], [36]]);
    expect(() =>
      accumulate(
        sum,
        arrays([
          [1, 2],
          [3, 4],
        ]),
      ),
    ).toThrow(/gradient 1 has 2 elements, expected 1/);
  });
});
