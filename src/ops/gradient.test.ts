import { afterAll, describe, expect, it } from "vitest";
import { apply, apply1, input, leaf, type OpDef, topological, type Value } from "../core/graph.js";
import { zeros } from "../core/initializer.js";
import { f32, i32, sizeOf } from "../core/tensor.js";
import { GraphError } from "../errors.js";
import { geluSlopeOp } from "./activation.js";
import { add, mul, neg, scale, signOp, tanh } from "./elementwise.js";
import { gradient } from "./gradient.js";
import { linear } from "./linear.js";
import { crossEntropySum } from "./loss.js";
import { gather, reshape } from "./movement.js";
import { layerNorm, layerNormOp } from "./norm.js";
import { sum } from "./reduce.js";
import { reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, expectGradient, gradcheck, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const at = (name: string, ...shape: Value["shape"]): Value => input(name, "float32", shape);
const sumAll = (x: Value): Value =>
  reshape(
    sum(
      x,
      x.shape.map((_, i) => i),
    ),
    [],
  );
const sign = (x: Value): Value => apply1(signOp, [x], null);
/** How often each op stands in a graph. */
const census = (values: readonly Value[]): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {};
  for (const { source, index } of topological(values))
    if (source.kind === "op" && index === 0) counts[source.op.name] = (counts[source.op.name] ?? 0) + 1;
  return counts;
};

describe("broadcasting is undone", () => {
  const x = randomTensor([2, 3, 4], "x");
  const c = reader(x);

  it.each([
    { shape: [4], expected: tabulate([4], (k) => total(2, (i) => total(3, (j) => c(i, j, k)))) },
    { shape: [3, 1], expected: tabulate([3, 1], (j) => total(2, (i) => total(4, (k) => c(i, j, k)))) },
    { shape: [2, 1, 4], expected: tabulate([2, 1, 4], (i, _, k) => total(3, (j) => c(i, j, k))) },
    { shape: [1, 1, 1], expected: tabulate([1, 1, 1], () => x.data.reduce((a, b) => a + b, 0)) },
    { shape: [], expected: tabulate([], () => x.data.reduce((a, b) => a + b, 0)) },
    { shape: [2, 3, 4], expected: tabulate([2, 3, 4], c) },
  ])("for a factor [$shape]", async ({ shape, expected }) => {
    const factor = at("factor", ...shape);
    const [grad] = gradient(sumAll(mul(at("x", 2, 3, 4), factor)), [factor]);
    expect(grad!.shape).toEqual(shape);
    expectClose((await runGraph(runtime, { grad: grad! }, { x, factor: randomTensor(shape, "f") })).grad, expected);
  });
});

describe("a value that is used more than once", () => {
  const x = randomTensor([5], "x");

  it("gets the sum of its gradients", async () => {
    const v = at("x", "T");
    const cube = mul(mul(v, v), v);
    const [grad] = gradient(sumAll(add(add(cube, scale(v, -2)), neg(v))), [v]);
    expectClose(
      (await runGraph(runtime, { grad: grad! }, { x })).grad,
      tabulate([5], (i) => 3 * x.data[i]! ** 2 - 3),
    );
  });

  it("is differentiated once, however many use it", () => {
    const v = at("x", "T");
    const inner = tanh(v);
    const forward = sumAll(mul(add(inner, inner), inner));
    expect(census([forward])).toMatchObject({ tanh: 1, mul: 1 });
    // tanh's rule holds the only sub.
    expect(census(gradient(forward, [v]))).toMatchObject({ tanh: 1, sub: 1 });
  });
});

describe("ops without a smooth dependence", () => {
  it("cut the gradient", async () => {
    const x = randomTensor([5], "x");
    const v = at("x", "T");
    const [grad] = gradient(sumAll(mul(sign(v), v)), [v]);
    expect(census([grad!])).not.toHaveProperty("tanh");
    expectClose(
      (await runGraph(runtime, { grad: grad! }, { x })).grad,
      tabulate([5], (i) => Math.sign(x.data[i]!)),
    );
  });

  it("cut the search for paths: what is only behind them gets no backward nodes", () => {
    const [v, w] = [at("x", "T"), at("w", "T")];
    expect(census(gradient(sumAll(mul(sign(tanh(v)), w)), [w]))).not.toHaveProperty("sub");
    expect(() => gradient(sumAll(mul(sign(tanh(v)), w)), [v])).toThrow(
      new GraphError("gradient: the loss does not depend on a input float32[T]"),
    );
  });

  it("make an op without a gradient harmless above them", async () => {
    const v = at("x", "T");
    const [grad] = gradient(sumAll(add(apply1(geluSlopeOp, [sign(v)], null), mul(v, v))), [v]);
    expectClose((await runGraph(runtime, { grad: grad! }, { x: f32([1, 2]) })).grad, { shape: [2], data: [2, 4] });
  });

  it("may stand right at a value asked for, which gets its gradient all the same", async () => {
    const [x, w] = [randomTensor([5], "x"), randomTensor([5], "w")];
    const v = at("x", "T");
    const signs = sign(v);
    const grads = gradient(sumAll(mul(mul(signs, at("w", "T")), v)), [signs, v]);
    const results = await runGraph(runtime, { bySigns: grads[0]!, byX: grads[1]! }, { x, w });
    expectClose(results.bySigns, { shape: [5], data: w.data.map((each, i) => each * x.data[i]!) });
    expectClose(results.byX, { shape: [5], data: w.data.map((each, i) => each * Math.sign(x.data[i]!)) });
  });
});

describe("what cannot be differentiated is an error", () => {
  const x = at("x", "T", 3);
  const param = leaf(
    { kind: "param", path: "head.weight", init: zeros, trained: true, lr_scale: 1, decay: true },
    { dtype: "float32", shape: [3] },
  );

  it("a loss that is no scalar", () => {
    expect(() => gradient(x, [x])).toThrow(new GraphError("gradient: the loss must be a scalar, got float32[T,3]"));
    expect(() => gradient(sum(x, [0, 1]), [x])).toThrow("got float32[1,1]");
  });

  it("a parameter that the loss does not depend on", () => {
    expect(() => gradient(sumAll(x), [x, param])).toThrow(new GraphError("gradient: the loss does not depend on parameter head.weight"));
  });

  it("a way through an op without a gradient", () => {
    expect(() => gradient(sumAll(apply1(geluSlopeOp, [x], null)), [x])).toThrow(new GraphError("gradient: gelu_slope has no gradient"));
  });

  it("a way through an input without a gradient", () => {
    const toIndex: OpDef<null> = {
      name: "to_index",
      infer: () => [{ dtype: "int32", shape: ["T"] }],
      vjp: ({ grad }) => [grad],
      emit: () => [],
    };
    const y = gather(param, apply1(toIndex, [x], null));
    expect(() => gradient(sumAll(y), [x])).toThrow(
      new GraphError("gradient: gather gives its input 1 no gradient, but a parameter stands behind it"),
    );
  });

  it("a way through a further output of an op", () => {
    const mean = apply(layerNormOp, [x, param, param], { eps: 1e-5 })[1]!;
    expect(() => gradient(sumAll(mean), [x])).toThrow(new GraphError("gradient: only output 0 of layer_norm can be differentiated"));
  });
});

it("an op's further outputs may be used behind a cut", async () => {
  const inputs = { x: randomTensor([5, 7], "x") };
  const others = { w: randomTensor([7], "w", 0.5, 1.5) };
  // The sign of the mean comes into the graph after what uses the op's first output.
  const build = ({ x, w }: Readonly<Record<string, Value>>): Value => {
    const [y, mean] = apply(layerNormOp, [x!, w!, w!], { eps: 1e-3 });
    return mul(tanh(y!), sign(mean!));
  };
  expectGradient(await gradcheck(runtime, { inputs, others, shapes: { x: ["T", 7] }, sizes: { T: 5 }, build }));
});

it("the gradient by the loss itself is 1, and by nothing is nothing", async () => {
  const loss = sumAll(at("x", "T"));
  expectClose((await runGraph(runtime, { one: gradient(loss, [loss])[0]! }, {})).one, { shape: [], data: [1] });
  expect(gradient(loss, [])).toEqual([]);
});

describe("a network of two layers", () => {
  const inputs = {
    w1: randomTensor([4, 3], "w1"),
    b1: randomTensor([4], "b1"),
    norm: randomTensor([4], "norm", 0.5, 1.5),
    w2: randomTensor([5, 4], "w2"),
    b2: randomTensor([5], "b2"),
  };
  const others = { x: randomTensor([6, 3], "x"), classes: i32([0, 4, 2, 2, 1, 3]) };
  const shapes = { x: ["T", 3], classes: ["T"] };
  const build = ({ w1, b1, norm, w2, b2, x, classes }: Readonly<Record<string, Value>>): Value =>
    crossEntropySum(linear(tanh(layerNorm(linear(x!, w1!, b1!), norm!, b1!, 1e-5)), w2!, b2!), classes!);
  const values = Object.fromEntries(
    Object.entries({ ...inputs, ...others }).map(([name, { dtype, shape }]) => [
      name,
      input(name, dtype, name in shapes ? shapes[name as "x"] : shape),
    ]),
  );

  it("has the gradient of central differences", async () => {
    expectGradient(await gradcheck(runtime, { inputs, others, shapes, build }));
  });

  it.each(Object.keys(inputs))("has the partial derivatives of central differences by %s", async (name) => {
    const loss = build(values);
    const feeds = { ...inputs, ...others };
    const grad = (await runGraph(runtime, { grad: gradient(loss, [values[name]!])[0]! }, feeds)).grad!;
    const own = inputs[name as keyof typeof inputs];
    const lossAt = async (i: number, step: number): Promise<number> => {
      const moved = { ...own, data: own.data.map((x, j) => (i === j ? x + step : x)) };
      return Number((await runGraph(runtime, { loss }, { ...feeds, [name]: moved })).loss!.data[0]);
    };
    for (const i of [0, sizeOf(own.shape) - 1]) {
      const numeric = ((await lossAt(i, 0.01)) - (await lossAt(i, -0.01))) / 0.02;
      expect(Math.abs(Number(grad.data[i]) - numeric)).toBeLessThan(2e-3 * Math.max(0.5, Math.abs(numeric)));
    }
  });

  it("gets no backward nodes below the lowest value asked for", () => {
    const loss = build(values);
    // Forward: two gemms; they and the first layer's nodes are needed for w2's gradient, which is one more gemm.
    expect(census(gradient(loss, [values.w2!]))).toEqual({
      gemm: 3,
      layer_norm: 1,
      tanh: 1,
      softmax: 1,
      one_hot: 1,
      sub: 1,
      mul: 1,
      expand: 1,
      reshape: 1,
    });
    // The bias needs the probabilities, but no gemm of the backward pass.
    expect(census(gradient(loss, [values.b2!])).gemm).toBe(2);
    // One gemm more by the hidden values, and one by w1; none by x.
    expect(census(gradient(loss, [values.w1!])).gemm).toBe(4);
    expect(census(gradient(loss, [values.w1!, values.w2!])).gemm).toBe(5);
  });
});
