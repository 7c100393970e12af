import { expect } from "vitest";
import { dimValue } from "../core/dims.js";
import { feedName, input, topological, type Value } from "../core/graph.js";
import { fillUniform, keyOf } from "../core/random.js";
import { type Feeds, f32, sizeOf, type Tensor } from "../core/tensor.js";
import { emit } from "../onnx/emit.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { mul } from "./elementwise.js";
import { gradient } from "./gradient.js";
import { validate } from "./graph-check.js";
import { reshape } from "./movement.js";
import { sum } from "./reduce.js";

/** Runs a graph once. `feeds` are by input name ("x", not "batch:x"), or `param:` and a parameter's path. */
export async function runGraph(runtime: Runtime, outputs: Readonly<Record<string, Value>>, feeds: Feeds): Promise<Feeds> {
  validate(outputs);
  const session = await runtime.createSession(emit(outputs).bytes);
  const used = new Set([...topological(Object.values(outputs))].map(({ source }) => (source.kind === "op" ? undefined : feedName(source))));
  const named = Object.fromEntries(
    Object.entries(feeds).flatMap(([name, tensor]) => {
      const feed = name.startsWith("param:") ? name : `batch:${name}`;
      return used.has(feed) ? [[feed, tensor]] : [];
    }),
  );
  const results = await session.run(named);
  await session.dispose();
  return results;
}

/** What gradcheck is told of one op. */
export interface GradcheckCase {
  /** Float inputs by name; the gradient is checked by all of them. */
  readonly inputs: Readonly<Record<string, Tensor<"float32">>>;
  /** Inputs without a gradient. */
  readonly others?: Feeds;
  /** Symbolic sizes of inputs, where the graph should not know the numbers: {x: ["T", 4]}. */
  readonly shapes?: Readonly<Record<string, Value["shape"]>>;
  /** Builds the op's output from its inputs. */
  build(values: Readonly<Record<string, Value>>): Value;
  /** Sizes of the symbols in the output's shape. */
  readonly sizes?: Readonly<Record<string, number>>;
  readonly step?: number;
  readonly seed?: number;
}

/**
 * Directional gradient check: for a random weighting c of the output and a random direction d of all inputs, compares ⟨gradient, d⟩ with the
 * central difference of ⟨c, f⟩ along d. Returns both; they agree to about 1e-3 relative in float32.
 */
export async function gradcheck(runtime: Runtime, check: GradcheckCase): Promise<{ readonly analytic: number; readonly numeric: number }> {
  const { inputs, others = {}, shapes = {}, sizes = {}, step = 1e-2, seed = 0 } = check;
  const values = Object.fromEntries(
    Object.entries({ ...inputs, ...others }).map(([name, { dtype, shape }]) => [name, input(name, dtype, shapes[name] ?? shape)]),
  );
  const y = check.build(values);
  const random = (shape: readonly number[], label: string): Tensor<"float32"> => {
    const data = new Float32Array(sizeOf(shape));
    fillUniform(data, keyOf(seed, label), -1, 1);
    return f32(data, shape);
  };
  const weights = random(
    y.shape.map((dim) => dimValue(dim, sizes)),
    "weights",
  );
  const loss = reshape(
    sum(
      mul(y, input("gradcheck_weights", "float32", y.shape)),
      y.shape.map((_, i) => i),
    ),
    [],
  );
  const names = Object.keys(inputs);
  const grads = gradient(
    loss,
    names.map((name) => values[name]!),
  );
  const feeds: Feeds = { ...inputs, ...others, gradcheck_weights: weights };
  const results = await runGraph(runtime, Object.fromEntries(names.map((name, i) => [name, grads[i]!])), feeds);
  const directions = Object.fromEntries(names.map((name) => [name, random(inputs[name]!.shape, `direction ${name}`)]));
  let analytic = 0;
  for (const name of names) analytic += dot(results[name]!.data as Float32Array, directions[name]!.data);
  const at = async (factor: number): Promise<Float32Array> => {
    const moved = Object.fromEntries(
      names.map((name) => [
        name,
        f32(
          inputs[name]!.data.map((x, i) => x + factor * step * directions[name]!.data[i]!),
          inputs[name]!.shape,
        ),
      ]),
    );
    return (await runGraph(runtime, { y }, { ...feeds, ...moved })).y!.data as Float32Array;
  };
  const [above, below] = [await at(1), await at(-1)];
  let numeric = 0;
  for (let i = 0; i < above.length; i++) numeric += weights.data[i]! * (above[i]! - below[i]!);
  return { analytic, numeric: numeric / (2 * step) };
}

/** A seeded tensor, uniform in [low, high). */
export function randomTensor(shape: readonly number[], label: string, low = -1, high = 1): Tensor<"float32"> {
  const data = new Float32Array(sizeOf(shape));
  fillUniform(data, keyOf(7, label), low, high);
  return f32(data, shape);
}

/** Asserts that a tensor has a shape and, element by element, values within `tolerance · (1 + |expected|)`. */
export function expectClose(
  actual: Tensor | undefined,
  expected: { readonly shape: readonly number[]; readonly data: ArrayLike<number> },
  tolerance = 1e-5,
): void {
  expect(actual?.shape).toEqual(expected.shape);
  for (const [i, value] of Array.from(actual!.data, Number).entries()) {
    const wanted = expected.data[i]!;
    if (!(Object.is(value, wanted) || Math.abs(value - wanted) <= tolerance * (1 + Math.abs(wanted))))
      expect.fail(`element ${i} of [${expected.shape}]: got ${value}, expected ${wanted}`);
  }
}

/** Asserts that gradcheck's two numbers agree, and that they are far enough from 0 for this to mean something. */
export function expectGradient({ analytic, numeric }: { readonly analytic: number; readonly numeric: number }): void {
  expect(Math.abs(numeric), "a derivative too close to 0 checks nothing: take another seed").toBeGreaterThan(0.05);
  expect(Math.abs(analytic - numeric) / Math.abs(numeric), `analytic ${analytic}, numeric ${numeric}`).toBeLessThan(2e-3);
}

/** A runtime for a test file. */
export function testRuntime(): Runtime {
  return nodeRuntime({ threads: 1 });
}

function dot(a: Float32Array, b: Float32Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i]! * b[i]!;
  return total;
}
