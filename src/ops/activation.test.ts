import { afterAll, describe, expect, it } from "vitest";
import { input } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import { activation } from "./activation.js";
import { awayFromZero, erfOf, reader, tabulate } from "./reference.fixture.js";
import { expectClose, expectGradient, gradcheck, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const gelu = (x: number): number => (x * (1 + erfOf(x / Math.SQRT2))) / 2;
const geluTanh = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const silu = (x: number): number => x * sigmoid(x);

/** transformers' ACT2FN, by its formulas. */
const formulas: Readonly<Record<string, (x: number) => number>> = {
  gelu,
  gelu_python: gelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  gelu_python_tanh: geluTanh,
  gelu_fast: geluTanh,
  gelu_accurate: geluTanh,
  gelu_10: (x) => Math.min(10, Math.max(-10, gelu(x))),
  quick_gelu: (x) => x * sigmoid(1.702 * x),
  relu: (x) => Math.max(0, x),
  relu6: (x) => Math.min(6, Math.max(0, x)),
  relu2: (x) => Math.max(0, x) ** 2,
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  silu,
  swish: silu,
  mish: (x) => x * Math.tanh(Math.log(1 + Math.exp(x))),
  laplace: (x) => 0.5 * (1 + erfOf(Math.min(5, Math.max(-5, (x - Math.SQRT1_2) / (Math.sqrt(1 / (4 * Math.PI)) * Math.SQRT2))))),
  sigmoid,
  tanh: Math.tanh,
  linear: (x) => x,
};
const x = awayFromZero([5, 7], "activation");

describe.each(Object.entries(formulas))("%s", (name, formula) => {
  it("has the value of its formula", async () => {
    const wide = { ...x, data: x.data.map((each) => 2.5 * each) };
    const { y } = await runGraph(runtime, { y: activation(name)(input("x", "float32", ["T", 7])) }, { x: wide });
    expectClose(
      y,
      tabulate([5, 7], (i, j) => formula(reader(wide)(i, j))),
      2e-6,
    );
  });

  it("has the gradient of central differences", async () => {
    expectGradient(
      await gradcheck(runtime, { inputs: { x }, shapes: { x: ["T", 7] }, sizes: { T: 5 }, build: ({ x }) => activation(name)(x!) }),
    );
  });
});

it.each([
  ["gelu_10", 10],
  ["relu6", 6],
])("%s ends at %d", async (name, most) => {
  const { y } = await runGraph(runtime, { y: activation(name)(input("x", "float32", ["T"])) }, { x: f32([12, 3, -12], [3]) });
  expect(y!.data[0]).toBeCloseTo(most, 5);
  expect(y!.data[1]).toBeGreaterThan(2.9);
  expect(y!.data[2]).toBeCloseTo(0, 5);
});

function refusalOf(name: string): ConfigError {
  try {
    activation(name);
  } catch (error) {
    if (error instanceof ConfigError) return error;
  }
  throw new Error(`activation("${name}") did not throw a ConfigError`);
}

describe("an unknown name", () => {
  it("is refused with the nearest one and a list of those there are, all of them tested above", () => {
    const { message, hint } = refusalOf("gelo");
    expect(message).toBe('activation "gelo" is not supported');
    expect(hint).toBe(`did you mean "gelu"? supported: ${Object.keys(formulas).join(", ")}`);
  });

  it("gets no guess where none is near, nor for names that every object has", () => {
    expect(refusalOf("exponential_unit").hint).toMatch(/^supported: /);
    expect(refusalOf("constructor").message).toBe('activation "constructor" is not supported');
  });
});
