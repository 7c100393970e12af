import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Feeds } from "../core/tensor.js";
import { messageOf, SessionError } from "../errors.js";
import type { HeldTensors, Runtime, Session } from "./session.js";

/** What nodeRuntime may be told. */
export interface NodeRuntimeOptions {
  /** Threads that one run may use; all of the machine's cores by default. */
  readonly threads?: number;
  /** Where ONNX Runtime writes what each node of a session took, once the session is disposed of: files `PREFIX_TIME.json`, times in microseconds. */
  readonly profile?: string | undefined;
}

interface Reply {
  readonly id: number;
  readonly outputs?: Feeds;
  readonly error?: string;
}

interface Waiting {
  readonly resolve: (outputs: Feeds) => void;
  readonly reject: (error: Error) => void;
}

/** ONNX Runtime's CPU sessions in a worker thread, so that the calling thread goes on while a program runs. */
export function nodeRuntime({ threads = availableParallelism(), profile }: NodeRuntimeOptions = {}): Runtime {
  const worker = new Worker(new URL("./node-worker.js", import.meta.url));
  worker.unref();
  const waiting = new Map<number, Waiting>();
  let requests = 0;
  let sessions = 0;
  let holdings = 0;
  let ended: Error | undefined;

  worker.on("message", ({ id, outputs, error }: Reply) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (waiting.size === 0 && ended === undefined) worker.unref();
    if (error !== undefined) call?.reject(new SessionError(`ONNX Runtime: ${error}`));
    else call?.resolve(outputs ?? {});
  });
  const end = (error: Error): void => {
    ended ??= error;
    for (const call of waiting.values()) call.reject(ended);
    waiting.clear();
  };
  worker.on("error", (cause) => end(new SessionError(`the runtime's thread failed: ${cause.message}`, { cause })));
  const exit = new Promise<void>((resolve) => {
    worker.on("exit", () => {
      end(new SessionError("the runtime is closed"));
      resolve();
    });
  });

  const ask = (request: object, transfer: readonly ArrayBuffer[] = []): Promise<Feeds> =>
    new Promise((resolve, reject) => {
      if (ended !== undefined) return reject(ended);
      const id = requests++;
      waiting.set(id, { resolve, reject });
      worker.ref();
      try {
        worker.postMessage({ ...request, id }, transfer);
      } catch (cause) {
        waiting.delete(id);
        if (waiting.size === 0) worker.unref();
        reject(
          new SessionError(`the runtime's thread cannot be sent these tensors: ${messageOf(cause)}`, {
            cause,
          }),
        );
      }
    });

  let owners = 0;
  const view = (owner: number): Runtime => ({
    threads,
    weights: "inputs",
    own: () => view(++owners),
    async keep(tensors) {
      const buffers = new Set(Object.values(tensors).map(({ data }) => data.buffer));
      await ask(
        { kind: "keep", owner, tensors },
        [...buffers].filter((buffer) => buffer instanceof ArrayBuffer),
      );
    },
    async hold(tensors): Promise<HeldTensors> {
      const id = holdings++;
      await ask({ kind: "hold", held: id, tensors });
      return {
        id,
        dispose: async () => {
          await ask({ kind: "drop", held: id });
        },
      };
    },
    async createSession(model, external = []): Promise<Session> {
      const session = sessions++;
      await ask({ kind: "create", owner, session, model, external, threads, profile });
      return {
        run: (feeds, fetch, held, carried) =>
          ask({
            kind: "run",
            session,
            feeds,
            fetch,
            held: held?.id,
            carried: carried && { held: carried.held.id, outputs: carried.outputs },
          }),
        dispose: async () => {
          await ask({ kind: "dispose", session });
        },
      };
    },
    async close() {
      // Not worker.terminate(): ending the thread in the middle of a run makes ORT abort the whole process.
      end(new SessionError("the runtime is closed"));
      worker.ref();
      worker.postMessage({ kind: "close", id: requests++ });
      await exit;
    },
  });
  return view(0);
}
