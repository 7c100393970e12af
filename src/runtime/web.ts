import * as ort from "onnxruntime-web/wasm";
import type { DType, Tensor } from "../core/tensor.js";
import { messageOf, SessionError } from "../errors.js";
import type { HeldTensors, Runtime, Session } from "./session.js";

/** What webRuntime may be told. */
export interface WebRuntimeOptions {
  /** Threads that one run may use; more than 1 needs a cross-origin isolated page. */
  readonly threads?: number;
  /** Where ONNX Runtime's .wasm and .mjs files are served: a folder's URL that ends with a slash. */
  readonly wasmPaths?: string;
}

/**
 * Does one thing after the other. All runtimes of a page share ORT's one WebAssembly instance, whose runs leave it for a tick while their
 * tensors stand on its stack: two at a time overwrite each other's memory (ORT 1.30).
 */
const inTurn = (() => {
  let last: Promise<unknown> = Promise.resolve();
  return <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work);
    last = result.catch(() => {});
    return result;
  };
})();

/** ONNX Runtime's WebAssembly sessions. A run blocks its thread: use it from a worker when a page must stay alive meanwhile. */
export function webRuntime({ threads = 1, wasmPaths }: WebRuntimeOptions = {}): Runtime {
  ort.env.wasm.numThreads = threads;
  if (wasmPaths !== undefined) ort.env.wasm.wasmPaths = wasmPaths;
  const sessions = new Set<ort.InferenceSession>();
  const holdings = new Map<number, Map<string, ort.Tensor>>();
  let nextHolding = 0;
  const heldBy = (named: HeldTensors | undefined): Map<string, ort.Tensor> | undefined => {
    const held = named === undefined ? undefined : holdings.get(named.id);
    if (named !== undefined && held === undefined) throw new SessionError("the held tensors were given back");
    return held;
  };

  const view = (kept: Map<string, ort.Tensor>): Runtime => ({
    threads,
    weights: "initializers",
    own: () => view(new Map()),
    async keep(tensors) {
      for (const [name, tensor] of Object.entries(tensors)) kept.set(name, toOrt(tensor));
    },
    async hold(tensors): Promise<HeldTensors> {
      const id = nextHolding++;
      holdings.set(id, new Map(Object.entries(tensors).map(([name, tensor]) => [name, toOrt(tensor)])));
      return {
        id,
        async dispose() {
          holdings.delete(id);
        },
      };
    },
    async createSession(model): Promise<Session> {
      const session = await inTurn(() =>
        ort.InferenceSession.create(model, { executionProviders: ["wasm"], enableMemPattern: false }),
      ).catch(failure);
      sessions.add(session);
      return {
        async run(feeds, fetch, named, carrying) {
          const held = heldBy(named);
          const carried = heldBy(carrying?.held);
          const all: Record<string, ort.Tensor> = {};
          for (const name of session.inputNames) {
            const fed = feeds[name];
            const tensor = fed === undefined ? (held?.get(name) ?? carried?.get(name) ?? kept.get(name)) : toOrt(fed);
            if (tensor === undefined) throw new SessionError(`input "${name}" is not fed`);
            all[name] = tensor;
          }
          const results = await inTurn(() => (fetch === undefined ? session.run(all) : session.run(all, fetch))).catch(failure);
          const outputs: Record<string, Tensor> = {};
          for (const [name, tensor] of Object.entries(results)) {
            const next = carrying?.outputs[name];
            if (next !== undefined) carried?.set(next, tensor);
            else outputs[name] = fromOrt(tensor);
          }
          return outputs;
        },
        async dispose() {
          if (sessions.delete(session)) await inTurn(() => session.release());
        },
      };
    },
    async close() {
      await Promise.all([...sessions].map((session) => inTurn(() => session.release())));
      sessions.clear();
      holdings.clear();
      kept.clear();
    },
  });
  return view(new Map());
}

function failure(cause: unknown): never {
  throw new SessionError(`ONNX Runtime: ${messageOf(cause)}`, { cause });
}

function toOrt({ dtype, shape, data }: Tensor): ort.Tensor {
  return new ort.Tensor(dtype, data, shape);
}

function fromOrt({ type, dims, data }: ort.Tensor): Tensor {
  return { dtype: type as DType, shape: dims, data: data as Tensor["data"] };
}
