/** What ONNX Runtime's profiles say of kernels and of the matrix products among them. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * @typedef {object} KernelEvent
 * @property {string} name of the node
 * @property {string} op ONNX's name of the op
 * @property {boolean} forward whether the loss needs it; all else belongs to the backward pass
 * @property {number} milliseconds
 * @property {Product | undefined} product undefined for all ops that are no matrix product
 *
 * @typedef {object} Product of `batch` pairs of matrices [M, K] and [K, N]
 * @property {"f32" | "int8"} kind
 * @property {number} batch more than 1 in attention only
 * @property {number} M
 * @property {number} K
 * @property {number} N
 * @property {number} gigaflops 2·batch·M·K·N / 10^9
 */

/**
 * The kernels of each run of a session, by the files of a profile's prefix.
 * @param {string} folder
 * @param {string} prefix of the one file
 * @returns {Promise<readonly (readonly KernelEvent[])[]>}
 */
export async function kernelEvents(folder, prefix) {
  const name = (await readdir(folder)).find((each) => each.startsWith(prefix));
  if (name === undefined) throw new Error(`ONNX Runtime wrote no profile ${prefix}`);
  /** @type {any[]} */
  const events = JSON.parse(await readFile(join(folder, name), "utf8"));
  const runs = events.filter((each) => each.name === "model_run").sort((a, b) => a.ts - b.ts);
  const kernels = events.filter((each) => each.cat === "Node" && each.name.endsWith("_kernel_time"));
  return runs.map(({ ts, dur }) => kernels.filter((each) => each.ts >= ts && each.ts <= ts + dur).map(kernel));
}

/**
 * @param {any} event
 * @returns {KernelEvent}
 */
function kernel({ name, dur, args }) {
  const firstShape = (/** @type {Record<string, number[]>[]} */ all) => all.flatMap((each) => Object.values(each))[0] ?? [];
  return {
    name: name.replace(/_kernel_time$/, ""),
    op: args.op_name,
    forward: name.includes("loss/"),
    milliseconds: dur / 1000,
    product: productOf(args.op_name, firstShape(args.input_type_shape), firstShape(args.output_type_shape)),
  };
}

const products = new Map([
  ...["Gemm", "MatMul", "FusedMatMul", "FusedGemm"].map((op) => /** @type {const} */ ([op, "f32"])),
  /** @type {const} */ (["MatMulIntegerToFloat", "int8"]),
]);

/**
 * @param {string} op
 * @param {readonly number[]} a shape of the first input
 * @param {readonly number[]} output
 * @returns {Product | undefined}
 */
function productOf(op, a, output) {
  const kind = products.get(op);
  const size = (/** @type {readonly number[]} */ shape) => shape.reduce((product, each) => product * each, 1);
  if (kind === undefined || size(output) === 0) return undefined; // a batch whose texts all share rows has no other attention
  const [M = 1, N = 1] = output.slice(-2);
  const batch = size(output) / (M * N);
  const K = size(a) / (batch * M); // profiles leave out the second matrix where it was laid out beforehand
  return { kind, batch, M, K, N, gigaflops: (2 * batch * M * K * N) / 1e9 };
}
