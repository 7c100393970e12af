// @ts-check
// Runs ONNX Runtime's sessions on a thread of their own: a run blocks its thread's event loop for its whole length.
// Plain JavaScript, so that the same file serves the TypeScript sources under test and the build.
import { parentPort } from "node:worker_threads";
import { InferenceSession, Tensor } from "onnxruntime-node";

/**
 * @typedef {{ dtype: import("../core/tensor.js").DType, shape: readonly number[], data: any }} PlainTensor
 * @typedef {{ id: number, kind: "keep", owner: number, tensors: Record<string, PlainTensor> }
 *   | { id: number, kind: "hold", held: number, tensors: Record<string, PlainTensor> }
 *   | { id: number, kind: "drop", held: number }
 *   | { id: number, kind: "create", owner: number, session: number, model: Uint8Array, external: readonly string[], threads: number,
 *       profile?: string }
 *   | { id: number, kind: "run", session: number, feeds: Record<string, PlainTensor>, fetch?: readonly string[], held?: number,
 *       carried?: { held: number, outputs: Readonly<Record<string, string>> } }
 *   | { id: number, kind: "dispose", session: number }
 *   | { id: number, kind: "close" }} Request
 */

const port = /** @type {import("node:worker_threads").MessagePort} */ (parentPort);
/** @type {Map<string, Tensor>} by owner and name */
const kept = new Map();
/** @type {Map<number, Map<string, Tensor>>} by name, for those runs that ask for them */
const holdings = new Map();
/** @type {Map<number, { session: InferenceSession, owner: number, profiled: boolean }>} */
const sessions = new Map();
let closed = false;

/** @param {PlainTensor} tensor */
const toOrt = ({ dtype, shape, data }) => new Tensor(dtype, data, shape);

/** @param {number | undefined} id */
function heldBy(id) {
  const held = id === undefined ? undefined : holdings.get(id);
  if (id !== undefined && held === undefined) throw new Error("the held tensors were given back");
  return held;
}

/** @param {Request} request */
async function handle(request) {
  if (request.kind === "close") process.exit();
  if (closed) throw new Error("the runtime is closed");
  if (request.kind === "keep") {
    for (const [name, tensor] of Object.entries(request.tensors)) kept.set(`${request.owner} ${name}`, toOrt(tensor));
    return {};
  }
  if (request.kind === "hold") {
    holdings.set(request.held, new Map(Object.entries(request.tensors).map(([name, tensor]) => [name, toOrt(tensor)])));
    return {};
  }
  if (request.kind === "drop") {
    holdings.delete(request.held);
    return {};
  }
  if (request.kind === "create") {
    const externalData = request.external.map((name) => {
      const data = kept.get(`${request.owner} ${name}`)?.data;
      if (!ArrayBuffer.isView(data)) throw new Error(`initialiser "${name}" is not kept`);
      return { path: name, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
    });
    const session = await InferenceSession.create(request.model, {
      externalData,
      executionProviders: ["cpu"],
      intraOpNumThreads: request.threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      enableMemPattern: false,
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
      ...(request.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: request.profile }),
    });
    sessions.set(request.session, { session, owner: request.owner, profiled: request.profile !== undefined });
    return {};
  }
  const found = sessions.get(request.session);
  if (found === undefined) throw new Error("the session was disposed of");
  const { session, owner, profiled } = found;
  if (request.kind === "dispose") {
    sessions.delete(request.session);
    if (profiled) session.endProfiling();
    await session.release();
    return {};
  }
  const held = heldBy(request.held);
  const carried = heldBy(request.carried?.held);
  /** @type {Record<string, Tensor>} */
  const feeds = {};
  for (const name of session.inputNames) {
    const fed = request.feeds[name];
    const tensor = fed === undefined ? (held?.get(name) ?? carried?.get(name) ?? kept.get(`${owner} ${name}`)) : toOrt(fed);
    if (tensor === undefined) throw new Error(`input "${name}" is not fed`);
    feeds[name] = tensor;
  }
  const results = request.fetch === undefined ? await session.run(feeds) : await session.run(feeds, request.fetch);
  /** @type {Record<string, PlainTensor>} */
  const outputs = {};
  for (const [name, tensor] of Object.entries(results)) {
    const next = request.carried?.outputs[name];
    if (next !== undefined) carried?.set(next, /** @type {Tensor} */ (tensor));
    else outputs[name] = { dtype: /** @type {import("../core/tensor.js").DType} */ (tensor.type), shape: tensor.dims, data: tensor.data };
  }
  return outputs;
}

/** @param {Request} request */
async function answer(request) {
  try {
    const outputs = await handle(request);
    const buffers = new Set(Object.values(outputs).map(({ data }) => data.buffer));
    port.postMessage({ id: request.id, outputs }, [...buffers]);
  } catch (error) {
    port.postMessage({ id: request.id, error: error instanceof Error ? error.message : String(error) });
  }
}

// One request after the other: ORT starts a run some ticks after it is asked to, and a dispose must not come in between.
let last = Promise.resolve();
port.on("message", (/** @type {Request} */ request) => {
  if (request.kind === "close") closed = true;
  last = last.then(() => answer(request));
});
