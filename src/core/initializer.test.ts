import { expect, it } from "vitest";
import { filled, initialValues, kaimingUniform, normal, ones, zeros } from "./initializer.js";
import type { RandomKey } from "./random.js";

const moments = (values: Float32Array): readonly [mean: number, deviation: number] => {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length)];
};

it("fills with constants", () => {
  expect(initialValues(zeros, [2, 3], 1, "a")).toEqual({ dtype: "float32", shape: [2, 3], data: new Float32Array(6) });
  expect(initialValues(ones, [2], 1, "a").data).toEqual(new Float32Array([1, 1]));
  expect(initialValues({ kind: "constant", value: 0.5 }, [], 1, "a")).toEqual({
    dtype: "float32",
    shape: [],
    data: new Float32Array([0.5]),
  });
});

it("draws torch's default for linear layers: uniform in ±1/√fan_in", () => {
  const { data } = initialValues(kaimingUniform(64), [300, 64], 1, "a");
  expect(Math.max(...data)).toBeLessThan(0.125);
  expect(Math.max(...data)).toBeGreaterThan(0.1249);
  expect(Math.min(...data)).toBeGreaterThanOrEqual(-0.125);
  expect(Math.min(...data)).toBeLessThan(-0.1249);
  const [mean, deviation] = moments(data);
  expect(mean).toBeCloseTo(0, 2);
  expect(deviation).toBeCloseTo(0.125 / Math.sqrt(3), 3);
});

it("draws normal numbers of the given mean and deviation", () => {
  const [mean, deviation] = moments(initialValues(normal(0.02), [200, 100], 1, "a").data);
  expect(Math.abs(mean)).toBeLessThan(0.0006);
  expect(Math.abs(deviation - 0.02)).toBeLessThan(0.0005);
  const [shifted] = moments(initialValues({ kind: "normal", mean: 3, std: 0.02 }, [2000], 1, "a").data);
  expect(shifted).toBeCloseTo(3, 2);
});

it("asks a method that computes its own values, with the key of the seed and the path", () => {
  const keys: RandomKey[] = [];
  const counting = filled((out, key) => {
    keys.push(key);
    for (const i of out.keys()) out[i] = i;
  });
  expect(initialValues(counting, [2, 2], 1, "a")).toEqual({ dtype: "float32", shape: [2, 2], data: new Float32Array([0, 1, 2, 3]) });
  initialValues(counting, [1], 2, "a");
  expect(keys[0]).not.toEqual(keys[1]);
});

it("depends on the seed and the path, and on nothing else", () => {
  const draw = (seed: number, path: string): Float32Array => initialValues(normal(1), [8], seed, path).data;
  expect(draw(1, "a")).toEqual(draw(1, "a"));
  expect(draw(1, "a")).not.toEqual(draw(2, "a"));
  expect(draw(1, "a")).not.toEqual(draw(1, "b"));
});
