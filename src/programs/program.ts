import { dimValue } from "../core/dims.js";
import { type ParamLeaf, paramFeed, topological, type Value } from "../core/graph.js";
import { fillDropoutMask, keyOf } from "../core/random.js";
import { type Feeds, f32, sizeOf, type Tensor } from "../core/tensor.js";
import { type EmittedModel, emit } from "../onnx/emit.js";
import { validate } from "../ops/graph-check.js";
import { gemmOp } from "../ops/linear.js";
import type { HeldTensors, Runtime, Session } from "../runtime/session.js";
import type { BaseModel } from "./base-model.js";

/** An adapter's tensors by path. */
export type Params = ReadonlyMap<string, Tensor<"float32">>;

/** What one run is fed besides the frozen weights. */
export interface ProgramInputs {
  /** The batch's inputs by name. */
  readonly batch: Feeds;
  /** The adapter's tensors, sent along with the run, or held by the runtime already. */
  readonly params: Params | HeldTensors;
  /** Where the noise of this run comes from: the seed and what tells this run from others. Needed by programs with dropout. */
  readonly noise?: readonly [seed: number, ...run: number[]];
}

/** A graph loaded into a runtime, with its feeds named. */
export interface Program {
  run(inputs: ProgramInputs): Promise<Feeds>;
  dispose(): Promise<void>;
}

/** What a program is for: one that runs thousands of times lets ORT lay its matrices out for speed, where they are not too large for that. */
export type ProgramUse = "training" | "inference";

/**
 * Numbers in matrices that are laid out for speed: each is then held three times, as it is and for the products forward and backward. It saves
 * about a tenth of a step's time.
 */
const mostLaidOut = 2 ** 26;

/**
 * What a program computes, as text: equal for graphs whose programs differ at most in the values fed to them. It is the whole ONNX model with
 * its weights left out, not a hash of it, so that two structures never meet.
 */
export function structureOf(outputs: Readonly<Record<string, Value>>): string {
  validate(outputs);
  return new TextDecoder("latin1").decode(emit(outputs).bytes);
}

/** Validates, emits and loads a graph; the frozen weights it needs are handed to the runtime or baked in, as the runtime has it. */
export async function loadProgram(
  model: BaseModel,
  outputs: Readonly<Record<string, Value>>,
  use: ProgramUse = "inference",
): Promise<Program> {
  validate(outputs);
  const weights = new Map<string, readonly number[]>();
  for (const [path, value] of leavesOf(outputs, "weight")) weights.set(path, value.shape.map(Number));
  const { bytes, feeds, external } = await emitFor(model, outputs, weights, use);
  const session = await model.runtime.createSession(bytes, external);
  return { run: (inputs) => run(session, feeds, inputs), dispose: () => session.dispose() };
}

async function emitFor(
  model: BaseModel,
  outputs: Readonly<Record<string, Value>>,
  weights: ReadonlyMap<string, readonly number[]>,
  use: ProgramUse,
): Promise<EmittedModel> {
  if (model.runtime.weights === "inputs") {
    await model.keep(weights);
    const matrices = use === "training" ? factors(outputs) : new Set<string>();
    const numbers = [...matrices].reduce((total, path) => total + sizeOf(weights.get(path)!), 0);
    return emit(outputs, (path) => (numbers <= mostLaidOut && matrices.has(path) ? "kept" : undefined));
  }
  const baked = new Map<string, Tensor>();
  for (const [path, shape] of weights) baked.set(path, await model.read(path, shape));
  return emit(outputs, (path) => baked.get(path));
}

/** The frozen weights that are read by nothing but matrix products. */
function factors(outputs: Readonly<Record<string, Value>>): ReadonlySet<string> {
  const found = new Set<string>();
  const others = new Set<string>();
  for (const { source } of topological(Object.values(outputs))) {
    if (source.kind !== "op") continue;
    for (const [i, { source: input }] of source.inputs.entries()) {
      if (input.kind === "weight") (source.op === gemmOp && i === 1 ? found : others).add(input.path);
    }
  }
  return new Set([...found].filter((path) => !others.has(path)));
}

async function run(session: Session, feeds: ReadonlyMap<string, Value>, { batch, params, noise }: ProgramInputs): Promise<Feeds> {
  const [sent, held] = "dispose" in params ? [undefined, params] : [params, undefined];
  const sizes: Record<string, number> = {};
  const all: Record<string, Tensor> = {};
  for (const [name, value] of feeds) {
    const { source } = value;
    const tensor = source.kind === "input" ? batch[source.name] : source.kind === "param" ? sent?.get(source.path) : undefined;
    if (tensor === undefined) continue;
    all[name] = tensor;
    for (const [axis, size] of value.shape.entries()) if (typeof size === "string" && /^\w+$/.test(size)) sizes[size] = tensor.shape[axis]!;
  }
  for (const [name, value] of feeds) {
    const { source } = value;
    if (source.kind !== "mask" || noise === undefined) continue;
    const shape = value.shape.map((dim) => dimValue(dim, sizes));
    const mask = new Float32Array(sizeOf(shape));
    fillDropoutMask(mask, keyOf(noise[0], "dropout", ...noise.slice(1), source.name), source.rate);
    all[name] = f32(mask, shape);
  }
  return session.run(all, undefined, held);
}

/** Hands an adapter's tensors to the runtime, so that runs need only name them. The tensors stay usable, and must not be changed. */
export function holdParams(runtime: Runtime, params: Params): Promise<HeldTensors> {
  return runtime.hold(Object.fromEntries([...params].map(([path, tensor]) => [paramFeed(path), tensor])));
}

/** The distinct leaves of a kind that a graph depends on, by path. */
function leavesOf(outputs: Readonly<Record<string, Value>>, kind: "weight" | "param"): ReadonlyMap<string, Value> {
  const found = new Map<string, Value>();
  for (const value of topological(Object.values(outputs))) if (value.source.kind === kind) found.set(value.source.path, value);
  return found;
}

/** Numbers in the trained parameters of a graph, and in all of its weights and parameters together. */
export function countParameters(outputs: Readonly<Record<string, Value>>): {
  readonly trained_parameters: number;
  readonly total_parameters: number;
} {
  const size = (value: Value): number => sizeOf(value.shape.map(Number));
  const params = paramsOf(outputs);
  const trained = params.reduce((total, { value, leaf }) => total + (leaf.trained ? size(value) : 0), 0);
  const all = [...leavesOf(outputs, "weight").values(), ...params.flatMap(({ value, leaf }) => (leaf.derived === true ? [] : [value]))];
  return { trained_parameters: trained, total_parameters: all.reduce((total, value) => total + size(value), 0) };
}

/** The adapter's parameters that a graph depends on, in the order in which the model was built. */
export function paramsOf(outputs: Readonly<Record<string, Value>>): readonly { readonly value: Value; readonly leaf: ParamLeaf }[] {
  return [...leavesOf(outputs, "param").values()].map((value) => ({ value, leaf: value.source as ParamLeaf }));
}
