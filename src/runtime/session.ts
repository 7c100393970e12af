import type { Feeds } from "../core/tensor.js";

/** Tensors that a runtime holds for those runs that name them, such as one adapter's among many. */
export interface HeldTensors {
  /** Unique in the runtime. */
  readonly id: number;
  /** Gives the tensors back; runs that name them throw from then on. */
  dispose(): Promise<void>;
}

/** Tensors that stay with the runtime from run to run of a session: those that a run gives are those that the next one reads. */
export interface CarriedTensors {
  /** What the next run reads, by the names of inputs. Runs that are under way at the same time must carry different ones. */
  readonly held: HeldTensors;
  /** The input that each output is for, by the output's name; these outputs replace what is held, and are not returned. */
  readonly outputs: Readonly<Record<string, string>>;
}

/** A loaded program. */
export interface Session {
  /**
   * Runs the program and returns the outputs named in `fetch` (all of them by default). An input that is not in `feeds` is taken from `held` or
   * `carried`, else from the tensors that the runtime keeps. Throws SessionError, with ORT's message.
   */
  run(feeds: Feeds, fetch?: readonly string[], held?: HeldTensors, carried?: CarriedTensors): Promise<Feeds>;
  /** Frees the session; further runs throw. */
  dispose(): Promise<void>;
}

/** What runs ONNX programs. Sessions and kept tensors live until they are disposed of or the runtime is closed. */
export interface Runtime {
  /** Threads that one run may use. */
  readonly threads: number;
  /** Whether frozen weights are best fed on each run (Node) or baked into the program (browser). */
  readonly weights: "inputs" | "initializers";
  /**
   * Hands tensors over to the runtime, which feeds them to every session that has an input of that name. Their buffers may move: do not use
   * them afterwards.
   */
  keep(tensors: Feeds): Promise<void>;
  /** Hands over tensors that are fed to those runs only that name them. The caller's stay usable, and must not be changed afterwards. */
  hold(tensors: Feeds): Promise<HeldTensors>;
  /** The same runtime with kept tensors of its own, so that two models' weights of one name do not meet. */
  own(): Runtime;
  /** Loads a program whose `external` initialisers are kept tensors of those names. Throws SessionError when ORT refuses it. */
  createSession(model: Uint8Array, external?: readonly string[]): Promise<Session>;
  /** Ends the runtime with everything in it. */
  close(): Promise<void>;
}
