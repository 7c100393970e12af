import { afterAll, describe, expect, it } from "vitest";
import { type Attribute, apply, apply1, constant, input, leaf, type OpDef, type TensorType, type Value } from "../core/graph.js";
import { zeros } from "../core/initializer.js";
import { type Feeds, f32, i32, i64, type Tensor } from "../core/tensor.js";
import { GraphError } from "../errors.js";
import { add, mul, neg, tanh } from "../ops/elementwise.js";
import { gemm, linear, matmul } from "../ops/linear.js";
import { concat, expand, reshape, slice } from "../ops/movement.js";
import { layerNormOp } from "../ops/norm.js";
import { sum } from "../ops/reduce.js";
import { expectClose, randomTensor, testRuntime } from "../ops/run-graph.fixture.js";
import { emit } from "./emit.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

async function run(bytes: Uint8Array, feeds: Feeds): Promise<Feeds> {
  const session = await runtime.createSession(bytes);
  const results = await session.run(feeds);
  await session.dispose();
  return results;
}

const weight = (path: string, ...shape: readonly number[]): Value => leaf({ kind: "weight", path }, { dtype: "float32", shape });
const param = (path: string, ...shape: readonly number[]): Value =>
  leaf({ kind: "param", path, init: zeros, trained: true, lr_scale: 1, decay: true }, { dtype: "float32", shape });
const raw = (opType: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>>, type?: TensorType): Value => {
  const op: OpDef<null> = {
    name: opType,
    infer: ([x]) => [type ?? x!],
    vjp: "unsupported",
    emit: (e, names) => e.node(opType, names, attributes),
  };
  return apply1(op, inputs, null);
};

describe("weights", () => {
  const x = input("x", "float32", ["T", 3]);
  const y = linear(x, weight("dense.weight", 4, 3), weight("dense.bias", 4));
  const tensors: Record<string, Tensor> = { "dense.weight": randomTensor([4, 3], "w"), "dense.bias": randomTensor([4], "b") };
  const feeds = { "batch:x": randomTensor([5, 3], "x") };

  it("give equal results fed and baked in", async () => {
    const fed = emit({ y });
    expect([...fed.feeds.keys()].sort()).toEqual(["batch:x", "weight:dense.bias", "weight:dense.weight"]);
    expect(fed.feeds.get("batch:x")).toBe(x);
    const baked = emit({ y }, ({ path }) => tensors[path]);
    expect([...baked.feeds.keys()]).toEqual(["batch:x"]);
    const first = await run(fed.bytes, {
      ...feeds,
      "weight:dense.weight": tensors["dense.weight"]!,
      "weight:dense.bias": tensors["dense.bias"]!,
    });
    const second = await run(baked.bytes, feeds);
    expect(first.y!.shape).toEqual([5, 4]);
    expectClose(second.y, { shape: [5, 4], data: first.y!.data as Float32Array }, 1e-6);
    expect(new Set<unknown>(first.y!.data).size).toBe(20);
  });

  it("may be fed and baked in side by side", async () => {
    const some = emit({ y }, ({ path }) => (path === "dense.bias" ? tensors[path] : undefined));
    expect([...some.feeds.keys()].sort()).toEqual(["batch:x", "weight:dense.weight"]);
    const { y: both } = await run(some.bytes, { ...feeds, "weight:dense.weight": tensors["dense.weight"]! });
    const all = await run(emit({ y }, ({ path }) => tensors[path]).bytes, feeds);
    expectClose(both, { shape: [5, 4], data: all.y!.data as Float32Array }, 1e-6);
  });

  it("are the only leaves that are baked in", () => {
    const asked: string[] = [];
    const { feeds } = emit({ y: add(y, param("dense.bias", 4)) }, ({ path }) => {
      asked.push(path);
      return undefined;
    });
    expect(asked.sort()).toEqual(["dense.bias", "dense.weight"]);
    expect(feeds.has("param:dense.bias")).toBe(true);
  });
});

describe("names", () => {
  it("of nodes and constants do not meet those of inputs", async () => {
    const names = ["n0.0", "n1.0", "n2.0", "c0", "c1", "n0"];
    const two = constant(f32([2], []));
    const leaves = names.flatMap((name) => [input(name, "float32", [2]), param(name, 2)]);
    const y = leaves.reduce((left, right) => add(mul(left, two), right));
    const feeds: Record<string, Tensor> = {};
    for (const [i, name] of names.entries()) Object.assign(feeds, { [`batch:${name}`]: f32([i, 1]), [`param:${name}`]: f32([1, i]) });
    let expected = [0, 1];
    for (const name of [...emit({ y }).feeds.keys()].slice(1))
      expected = expected.map((each, i) => 2 * each + Number(feeds[name]!.data[i]));
    expectClose((await run(emit({ y }).bytes, feeds)).y, { shape: [2], data: expected });
  });

  it("of outputs are those given, also for one value under two names and for a leaf", async () => {
    const x = input("x", "float32", ["T"]);
    const y = neg(x);
    const results = await run(emit({ loss: y, "grad:a.b": y, x }).bytes, { "batch:x": f32([1, -2]) });
    expect(Object.keys(results)).toEqual(["loss", "grad:a.b", "x"]);
    expect(results["grad:a.b"]!.data).toEqual(new Float32Array([-1, 2]));
    expect(results.loss!.data).toEqual(new Float32Array([-1, 2]));
    expect(results.x!.data).toEqual(new Float32Array([1, -2]));
  });

  it("of outputs are those of the nodes that make them: nothing is copied but what has two names, or no node", () => {
    const x = input("x", "float32", ["T"]);
    const copies = (outputs: Readonly<Record<string, Value>>): number =>
      new TextDecoder("latin1").decode(emit(outputs).bytes).split("Identity").length - 1;
    const y = neg(x);
    expect([copies({ y, z: neg(y) }), copies({ y, again: y }), copies({ x })]).toEqual([0, 1, 1]);
  });
});

it("calls each node after the first output that needs it", () => {
  const x = input("x", "float32", [2]);
  const loss = neg(x);
  const text = new TextDecoder("latin1").decode(emit({ loss, "grad:w": add(loss, tanh(x)) }).bytes);
  expect([...text.matchAll(/(?:loss|grad:w)\/\d+/g)].map(([name]) => name)).toEqual(["loss/0", "grad:w/1", "grad:w/2"]);
});

describe("attributes", () => {
  const x = input("x", "float32", ["T", 3]);
  const feeds = { "batch:x": f32([-1, 2, -3, 4, -5, 6], [2, 3]) };

  it("int, also a negative one", async () => {
    const sums = raw("CumSum", [x, constant(i64([1], []))], { reverse: 1, exclusive: 1 });
    const softmax = raw("LogSoftmax", [x], { axis: -2 });
    const results = await run(emit({ sums, softmax }).bytes, feeds);
    expectClose(results.sums, { shape: [2, 3], data: [-1, -3, 0, 1, 6, 0] });
    expectClose(results.softmax, {
      shape: [2, 3],
      data: [
        [-1, 4],
        [2, -5],
        [-3, 6],
        [4, -1],
        [-5, 2],
        [6, -3],
      ].map(([a, b]) => -Math.log(1 + Math.exp(b! - a!))),
    });
  });

  it("ints", async () => {
    const turned = raw("Transpose", [x], { perm: [1, 0] }, { dtype: "float32", shape: [3, "T"] });
    expectClose((await run(emit({ turned }).bytes, feeds)).turned, { shape: [3, 2], data: [-1, 4, 2, -5, -3, 6] });
  });

  it("float", async () => {
    const leaky = raw("LeakyRelu", [x], { alpha: { float: 0.25 } });
    expectClose((await run(emit({ leaky }).bytes, feeds)).leaky, { shape: [2, 3], data: [-0.25, 2, -0.75, 4, -1.25, 6] });
  });

  it("string", async () => {
    const gelu = raw("Gelu", [x], { approximate: "tanh" });
    const data = Array.from(feeds["batch:x"].data, (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))));
    expectClose((await run(emit({ gelu }).bytes, feeds)).gelu, { shape: [2, 3], data });
  });
});

describe("constants", () => {
  it("of every dtype come through", async () => {
    const tensors: Record<string, Tensor> = {
      float32: f32([1.5, -2.25, 3.4028234663852886e38], [3, 1]),
      int32: i32([-2147483648, 7]),
      int64: i64([-1, 2 ** 40]),
      uint8: { dtype: "uint8", shape: [2], data: new Uint8Array([0, 255]) },
      int8: { dtype: "int8", shape: [2], data: new Int8Array([-128, 127]) },
      bool: { dtype: "bool", shape: [3], data: new Uint8Array([1, 0, 1]) },
      scalar: f32([0.1], []),
      long: randomTensor([40], "long"),
      empty: f32([], [0, 4]),
      part: f32(new Float32Array([1, 2, 3, 4]).subarray(1, 3)),
    };
    const results = await run(
      emit(Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, constant(tensor)]))).bytes,
      {},
    );
    for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
      expect([name, results[name]!.dtype, results[name]!.shape, Array.from<unknown>(results[name]!.data)]).toEqual([
        name,
        dtype,
        shape,
        Array.from<unknown>(data),
      ]);
    }
  });

  it("that are equal are stored once, those that differ in type, shape or the sign of zero are not", async () => {
    const size = (...values: readonly Tensor[]): number =>
      emit(Object.fromEntries(values.map((value, i) => [`y${i}`, constant(value)]))).bytes.length;
    const once = size(f32([1, 2]));
    expect(size(f32([1, 2]), f32([1, 2])) - once).toBeLessThan(size(f32([1, 2]), f32([1, 3])) - once);
    const x = input("x", "float32", [2]);
    const y = raw("Div", [raw("Div", [x, constant(f32([1], []))], {}), constant(f32([-0], []))], {});
    const z = raw("Div", [x, constant(f32([0], []))], {});
    const results = await run(emit({ z, y }).bytes, { "batch:x": f32([1, -1]) });
    expect(results.z!.data).toEqual(new Float32Array([Infinity, -Infinity]));
    expect(results.y!.data).toEqual(new Float32Array([-Infinity, Infinity]));
  });
});

describe("symbolic sizes", () => {
  const b = input("b", "float32", ["B", 1]);
  const s = input("s", "float32", ["S"]);
  const feeds = { "batch:b": f32([1, 2, 3], [3, 1]), "batch:s": f32([10, 20]) };
  const shapeOf = async (shape: Value["shape"]): Promise<readonly number[]> => {
    const grid = add(b, s); // keeps both inputs in the graph
    const { y } = await run(emit({ y: expand(constant(f32([0], [])), shape), grid }).bytes, feeds);
    return y!.shape;
  };

  it.each([
    [["B*S"], [6]],
    [["S+5"], [7]],
    [
      ["B", "S", 4],
      [3, 2, 4],
    ],
    [
      ["2*B-S", "S*S+B*S-1"],
      [4, 9],
    ],
    [["B-S"], [1]],
    [["5-B"], [2]],
    [
      [4, 2],
      [4, 2],
    ],
  ])("%j is computed at run time", async (shape, expected) => {
    expect(await shapeOf(shape)).toEqual(expected);
  });

  it("two of them in one reshape, there and back", async () => {
    const grid = add(b, s);
    const flat = reshape(grid, ["B*S"]);
    const turned = reshape(flat, ["S", "B"]);
    const results = await run(emit({ flat, turned, back: reshape(turned, ["B", "S"]) }).bytes, feeds);
    const data = [11, 21, 12, 22, 13, 23];
    expectClose(results.flat, { shape: [6], data });
    expectClose(results.turned, { shape: [2, 3], data });
    expectClose(results.back, { shape: [3, 2], data });
  });

  it("are stated for what ops give, which ORT cannot tell of a reshape", () => {
    const { bytes } = emit({ y: neg(tanh(reshape(add(b, s), ["B*S"]))) });
    expect(new TextDecoder("latin1").decode(bytes).split("B*S").length - 1).toBe(3); // the reshape, tanh, and neg, which is the output
  });

  it("hold in joined and cut axes", async () => {
    const joined = concat([s, constant(f32([7, 8, 9]))], 0);
    expect(joined.shape).toEqual(["S+3"]);
    const results = await run(emit({ joined, tail: slice(joined, 0, "S", "S+2"), s }).bytes, feeds);
    expectClose(results.joined, { shape: [5], data: [10, 20, 7, 8, 9] });
    expectClose(results.tail, { shape: [2], data: [7, 8] });
  });

  it("follow what is fed, run by run", async () => {
    const session = await runtime.createSession(emit({ y: reshape(add(b, s), ["S*B", 1]) }).bytes);
    expect((await session.run(feeds)).y!.shape).toEqual([6, 1]);
    expect((await session.run({ ...feeds, "batch:s": f32([1, 2, 3, 4, 5]) })).y!.shape).toEqual([15, 1]);
    await session.dispose();
  });

  it("may be fed whole, as an axis of that size", async () => {
    const places = input("places", "int32", ["B*S"]);
    const y = expand(constant(f32([1], [])), ["B*S", 2]);
    expect((await run(emit({ y, places }).bytes, { "batch:places": i32([1, 2, 3, 4, 5]) })).y!.shape).toEqual([5, 2]);
  });

  it("that nothing fed tells are an error", () => {
    expect(() => emit({ y: expand(s, ["N", "S"]) })).toThrow(new GraphError('the size "N" is not an axis of any fed tensor'));
  });
});

it("an op with several outputs is written once, whichever of them are used", async () => {
  const x = input("x", "float32", ["T", 2]);
  const outputs = apply(layerNormOp, [x, constant(f32([1, 1])), constant(f32([0, 0]))], { eps: 0 });
  const feeds = { "batch:x": f32([1, 3, -2, 4], [2, 2]) };
  const results = await run(emit({ inverse: outputs[2]!, mean: outputs[1]!, y: outputs[0]! }).bytes, feeds);
  expectClose(results.mean, { shape: [2, 1], data: [2, 1] });
  expectClose(results.inverse, { shape: [2, 1], data: [1, 1 / 3] });
  expectClose(results.y, { shape: [2, 2], data: [-1, 1, -1, 1] });
  const one = emit({ mean: outputs[1]! }).bytes.length;
  const two = emit({ mean: outputs[1]!, inverse: outputs[2]! }).bytes.length;
  expect(two - one).toBeLessThan(80); // an output, but no second LayerNormalization
  expectClose((await run(emit({ mean: outputs[1]! }).bytes, feeds)).mean, { shape: [2, 1], data: [2, 1] });
});

it("the same graph, built twice, gives the same bytes", () => {
  const build = (): Uint8Array => {
    const [x, b, s] = [input("x", "float32", ["B*S", 3]), input("b", "int32", ["B"]), input("s", "int32", ["S"])];
    const h = tanh(gemm(x, weight("w", 4, 3), { transB: true }, param("b", 4)));
    const cube = reshape(h, ["B", "S", 4]);
    return emit({ y: sum(matmul(cube, cube, { transB: true }), [0]), h, b, s }, ({ path }) =>
      path === "w" ? randomTensor([4, 3], "w") : undefined,
    ).bytes;
  };
  expect(Buffer.compare(build(), build())).toBe(0);
});
