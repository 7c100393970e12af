/** How fast this machine multiplies matrices, by ONNX Runtime's own kernels with nothing around them. */
import { join } from "node:path";
import { built } from "./built.js";
import { kernelEvents } from "./op-times.js";

/** Runs that are left out, and those of which the fastest counts for each product. */
const [warmUp, counted] = [3, 15];

/** @typedef {import("./op-times.js").Product} Product */

/**
 * GFLOP/s of each product; outside attention the second matrix is laid out beforehand, as a layer's weight is.
 * @param {readonly Product[]} products
 * @param {number} threads
 * @param {string} folder for the profile
 * @returns {Promise<readonly number[]>}
 */
export async function speedsAlone(products, threads, folder) {
  const { encodeModel } = /** @type {typeof import("../src/onnx/proto.js")} */ (await built("onnx/proto.js"));
  const { nodeRuntime } = /** @type {typeof import("../src/runtime/node.js")} */ (await built("runtime/node.js"));
  const runtime = nodeRuntime({ threads, profile: join(folder, "alone") });
  const parts = products.map(operands);
  const all = parts.flatMap(({ inputs }) => Object.entries(inputs));
  const session = await runtime.createSession(
    encodeModel({
      nodes: parts.map(({ node }) => node),
      initializers: parts.flatMap(({ initializers }) => Object.entries(initializers)),
      external: [],
      between: [],
      inputs: all,
      outputs: products.map(({ batch, M, N }, i) => [`y${i}`, { dtype: "float32", shape: batch === 1 ? [M, N] : [batch, M, N] }]),
    }),
  );
  for (let run = 0; run < warmUp + counted; run++) await session.run(Object.fromEntries(all));
  await session.dispose();
  await runtime.close();
  const runs = (await kernelEvents(folder, "alone")).slice(-counted);
  return products.map(({ gigaflops }, i) => {
    const taken = runs.map((events) => events.find(({ name }) => name === `y${i}`)?.milliseconds ?? Number.NaN);
    return (gigaflops * 1000) / Math.min(...taken);
  });
}

/**
 * A product's node and what it reads.
 * @param {Product} product
 * @param {number} i
 */
function operands({ kind, batch, M, K, N }, i) {
  const shapes = batch === 1 ? { a: [M, K], b: [K, N] } : { a: [batch, M, K], b: [batch, K, N] };
  /** @type {(shape: readonly number[]) => import("../src/core/tensor.js").Tensor} */
  const float = (shape) => ({ dtype: "float32", shape, data: new Float32Array(size(shape)).map((_, j) => (j % 251) / 251 - 0.5) });
  const bytes = (/** @type {readonly number[]} */ shape) => new Uint8Array(size(shape)).map((_, j) => j % 251);
  const outputs = [`y${i}`];
  if (kind === "f32") {
    const [a, b] = [float(shapes.a), float(shapes.b)];
    const node = { name: `y${i}`, opType: "MatMul", domain: "", inputs: [`a${i}`, `b${i}`], outputs, attributes: {} };
    return batch === 1
      ? { node, inputs: { [`a${i}`]: a }, initializers: { [`b${i}`]: b } }
      : { node, inputs: { [`a${i}`]: a, [`b${i}`]: b }, initializers: {} };
  }
  const names = ["a", "b", "one", "scales", "zero"].map((name) => `${name}${i}`);
  const node = { name: `y${i}`, opType: "MatMulIntegerToFloat", domain: "com.microsoft", inputs: names, outputs, attributes: {} };
  /** @type {Record<string, import("../src/core/tensor.js").Tensor>} */
  const initializers = {
    [`b${i}`]: { dtype: "int8", shape: shapes.b, data: new Int8Array(bytes(shapes.b).buffer) },
    [`one${i}`]: { dtype: "float32", shape: [], data: Float32Array.of(1) },
    [`scales${i}`]: { dtype: "float32", shape: [N], data: new Float32Array(N).fill(0.01) },
    [`zero${i}`]: { dtype: "uint8", shape: [], data: Uint8Array.of(128) },
  };
  /** @type {Record<string, import("../src/core/tensor.js").Tensor>} */
  const inputs = { [`a${i}`]: { dtype: "uint8", shape: shapes.a, data: bytes(shapes.a) } };
  return { node, inputs, initializers };
}

/** @param {readonly number[]} shape */
function size(shape) {
  return shape.reduce((product, each) => product * each, 1);
}
