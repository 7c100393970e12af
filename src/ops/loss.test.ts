import { afterAll, describe, expect, it } from "vitest";
import { type Emitter, input, leaf, topological, type Value } from "../core/graph.js";
import { ones } from "../core/initializer.js";
import { f32, i32 } from "../core/tensor.js";
import { add } from "./elementwise.js";
import { gradient } from "./gradient.js";
import { gemm, linear } from "./linear.js";
import { linearCrossEntropyOp } from "./linear-cross-entropy.js";
import { crossEntropyOp, crossEntropySum, squaredErrorSum } from "./loss.js";
import { reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, expectGradient, gradcheck, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

describe("crossEntropySum", () => {
  const classes = i32([2, 0, 1]);

  it("sums the rows' -log softmax, with gradient softmax - one-hot, for logits as large as ±50", async () => {
    const logits = f32([50, -50, 0.5, 1, -2, 3, -50, 49, 50], [3, 3]);
    const x = input("logits", "float32", ["L", 3]);
    const loss = crossEntropySum(x, input("classes", "int32", ["L"]));
    const results = await runGraph(runtime, { loss, grad: gradient(loss, [x])[0]! }, { logits, classes });
    const at = reader(logits);
    const odds = (i: number, j: number): number => total(3, (k) => Math.exp(at(i, k) - at(i, j)));
    expectClose(results.loss, { shape: [], data: [total(3, (i) => Math.log(odds(i, classes.data[i]!)))] });
    expectClose(
      results.grad,
      tabulate([3, 3], (i, j) => 1 / odds(i, j) - (classes.data[i] === j ? 1 : 0)),
    );
  });

  it("has the gradient of central differences", async () => {
    const inputs = { logits: randomTensor([3, 5], "logits", -3, 3) };
    const shapes = { logits: ["L", 5], classes: ["L"] };
    expectGradient(
      await gradcheck(runtime, { inputs, others: { classes }, shapes, build: ({ logits, classes }) => crossEntropySum(logits!, classes!) }),
    );
  });
});

describe("crossEntropySum of an output layer", () => {
  const hidden = input("hidden", "float32", ["L", 4]);
  const classes = input("classes", "int32", ["L"]);
  const frozen = (path: string, shape: readonly number[]): Value => leaf({ kind: "weight", path }, { dtype: "float32", shape });
  const trained = (path: string, shape: readonly number[]): Value =>
    leaf({ kind: "param", path, init: ones, trained: true, lr_scale: 1, decay: true }, { dtype: "float32", shape });
  const chunked = (logits: Value): boolean => {
    const ops = topological([crossEntropySum(logits, classes)]).flatMap(({ source }) => (source.kind === "op" ? [source.op] : []));
    expect(ops.includes(crossEntropyOp)).toBe(!ops.includes(linearCrossEntropyOp));
    return ops.includes(linearCrossEntropyOp);
  };

  it("goes by chunks where table and bias are frozen", () => {
    expect(chunked(linear(hidden, frozen("W", [9, 4])))).toBe(true);
    expect(chunked(linear(hidden, frozen("W", [9, 4]), frozen("b", [9])))).toBe(true);
  });

  it("takes the logits as they are where they are more than that, or where table or bias is trained", () => {
    const W = frozen("W", [9, 4]);
    expect(chunked(linear(hidden, trained("W", [9, 4])))).toBe(false);
    expect(chunked(linear(hidden, W, trained("b", [9])))).toBe(false);
    expect(chunked(gemm(hidden, trained("A", [4, 9]), {}, linear(hidden, W)))).toBe(false);
    expect(chunked(add(linear(hidden, W), input("scores", "float32", ["L", 9])))).toBe(false);
    expect(chunked(gemm(hidden, frozen("T", [4, 9])))).toBe(false);
    expect(chunked(gemm(hidden, W, { transB: true, alpha: 2 }))).toBe(false);
    expect(chunked(gemm(hidden, W, { transB: true }, input("scores", "float32", ["L", 9])))).toBe(false);
  });
});

describe("squaredErrorSum", () => {
  const inputs = { logits: randomTensor([5, 1], "logits"), targets: randomTensor([5], "targets") };

  it("sums the rows' squared differences", async () => {
    const loss = squaredErrorSum(input("logits", "float32", ["L", 1]), input("targets", "float32", ["L"]));
    const expected = total(5, (i) => (inputs.logits.data[i]! - inputs.targets.data[i]!) ** 2);
    expectClose((await runGraph(runtime, { loss }, inputs)).loss, { shape: [], data: [expected] });
  });

  it("has the gradient of central differences", async () => {
    const shapes = { logits: ["L", 1], targets: ["L"] };
    expectGradient(await gradcheck(runtime, { inputs, shapes, build: ({ logits, targets }) => squaredErrorSum(logits!, targets!) }));
  });
});

it("makes a chunk's logits when the chunk before it is done with, and its slopes when its losses are there", () => {
  const nodes = new Map<string, { readonly opType: string; readonly inputs: readonly string[] }>();
  const emitter: Emitter = {
    node(opType, inputs, _, { outputs = 1 } = {}) {
      return Array.from({ length: outputs }, (_, i) => {
        const name = `${opType}.${nodes.size}.${i}`;
        nodes.set(name, { opType, inputs });
        return name;
      });
    },
    constant: () => "constant",
    shape: () => "shape",
  };
  const rows = { dtype: "float32", shape: ["L", 1] } as const;
  linearCrossEntropyOp.emit(emitter, ["hidden", "table", "classes"], { chunks: 3, least: 2 }, [rows, { ...rows, shape: ["L", 4] }]);
  const behind = (name: string): ReadonlySet<string> => {
    const found = new Set([name]);
    for (const each of found) for (const before of nodes.get(each)?.inputs ?? []) found.add(before);
    return found;
  };
  const products = [...nodes].filter(([, { opType }]) => opType === "Gemm").map(([name]) => name);
  expect(products).toHaveLength(6); // logits and slopes of each chunk
  for (const [i, product] of products.entries()) if (i > 0) expect(behind(product)).toContain(products[i - 1]);
  for (const slopes of [1, 3, 5]) expect([...behind(products[slopes]!)].some((name) => name.startsWith("Log."))).toBe(true);
});
