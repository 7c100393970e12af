import { dimValue } from "../core/dims.js";
import { feedName, type ParamLeaf, paramFeed, topological, type Value, type WeightLeaf } from "../core/graph.js";
import { fillDropoutMask, keyOf } from "../core/random.js";
import { bytesPer, type Feeds, f32, sizeOf, type Tensor } from "../core/tensor.js";
import { type EmittedModel, emit } from "../onnx/emit.js";
import { blockProductOp } from "../ops/block-product.js";
import { validate } from "../ops/graph-check.js";
import { gemmOp } from "../ops/linear.js";
import type { CarriedTensors, HeldTensors, Runtime, Session } from "../runtime/session.js";
import type { BaseModel, FrozenWeight } from "./base-model.js";

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
  /** What stays with the runtime from run to run. */
  readonly carried?: CarriedTensors;
}

/** A graph loaded into a runtime, with its feeds named. */
export interface Program {
  run(inputs: ProgramInputs): Promise<Feeds>;
  dispose(): Promise<void>;
}

/**
 * What a program is for: one that runs thousands of times lets ORT lay its matrices out for speed, at the price of memory; so does training where
 * they are not too large for that.
 */
export type ProgramUse = "training" | "decoding" | "inference";

/** How a training program is used: one that recomputes its layers is there to save memory, so no matrices are laid out for it. */
export function trainingUse(recompute: boolean): ProgramUse {
  return recompute ? "inference" : "training";
}

/**
 * Numbers in matrices that training lays out for speed: each is then held three times, as it is and for the products forward and backward. It saves
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
export function loadProgram(model: BaseModel, outputs: Readonly<Record<string, Value>>, use: ProgramUse = "inference"): Promise<Program> {
  return startProgram(model, outputs, use).program;
}

/** A program on its way. */
export interface StartedProgram {
  /** Fulfilled when the session is the runtime's work alone, or loading has failed: where that is another thread's, this one is free. */
  readonly handedOver: Promise<void>;
  readonly program: Promise<Program>;
}

/** Like {@link loadProgram}, and says when the calling thread has done its part. */
export function startProgram(model: BaseModel, outputs: Readonly<Record<string, Value>>, use: ProgramUse): StartedProgram {
  const requested = requestSession(model, outputs, use);
  const load = async (): Promise<Program> => {
    const { creating, feeds } = await requested;
    const session = await creating;
    return { run: (inputs) => run(session, feeds, inputs), dispose: () => session.dispose() };
  };
  const done = (): void => {};
  return { handedOver: requested.then(done, done), program: load() };
}

/** A session that is being created, not awaited yet, and what it is fed. */
async function requestSession(
  model: BaseModel,
  outputs: Readonly<Record<string, Value>>,
  use: ProgramUse,
): Promise<{ readonly creating: Promise<Session>; readonly feeds: EmittedModel["feeds"] }> {
  validate(outputs);
  const { bytes, feeds, external } = await emitFor(model, outputs, use);
  return { creating: model.runtime.createSession(bytes, external), feeds };
}

async function emitFor(model: BaseModel, outputs: Readonly<Record<string, Value>>, use: ProgramUse): Promise<EmittedModel> {
  const weights = weightsOf(outputs);
  if (model.runtime.weights === "inputs") {
    await model.keep(weights);
    const matrices = laidOutWeights(outputs, use);
    // a pass over one token is short: that each of its many norms' vectors is fed anew would be felt
    const vectors = new Set(use === "decoding" ? weights.filter(({ shape }) => shape.length === 1).map(({ leaf }) => leaf) : []);
    return emit(outputs, (leaf) => (matrices.has(leaf) || vectors.has(leaf) ? "kept" : undefined));
  }
  const baked = await model.stored(weights);
  return emit(outputs, (leaf) => baked[feedName(leaf)!]);
}

/** The frozen matrices that ORT lays out for a program's products, on Node. */
export function laidOutWeights(outputs: Readonly<Record<string, Value>>, use: ProgramUse): ReadonlySet<WeightLeaf> {
  if (use === "inference") return new Set();
  const matrices = factors(outputs);
  const numbers = weightsOf(outputs).reduce((total, { leaf, shape }) => total + (matrices.has(leaf) ? sizeOf(shape) : 0), 0);
  return use === "decoding" || numbers <= mostLaidOut ? matrices : new Set();
}

/** Bytes of the frozen weights that a program reads. */
export interface WeightBytes {
  /** As the runtime keeps them. */
  readonly kept: number;
  /** Copies that ORT lays out, one for each product that reads a matrix. */
  readonly laidOut: number;
  /** Buffers from which those are made that are not kept as they were read. */
  readonly converted: number;
}

/** Counts the frozen weights that a program reads, on Node. */
export function weightBytes(model: BaseModel, outputs: Readonly<Record<string, Value>>, use: ProgramUse): WeightBytes {
  const matrices = laidOutWeights(outputs, use);
  const nodes = new Set(topological(Object.values(outputs)).flatMap(({ source }) => (source.kind === "op" ? [source] : [])));
  const bytes = ({ type }: Value): number => bytesPer[type.dtype] * sizeOf(type.shape.map(Number));
  const sizes = new Map<string, number>();
  let copies = 0;
  for (const node of nodes)
    for (const value of node.inputs) {
      if (value.source.kind !== "weight") continue;
      sizes.set(feedName(value.source)!, bytes(value));
      if (matrices.has(value.source)) copies += bytes(value);
    }
  const converted = new Map(
    weightsOf(outputs).flatMap(({ leaf, shape }) =>
      leaf.part === undefined && model.isPlain(leaf.path) ? [] : [[leaf.path, bytesPer.float32 * sizeOf(leaf.part?.shape ?? shape)]],
    ),
  );
  const total = (numbers: Iterable<number>): number => [...numbers].reduce((sum, each) => sum + each, 0);
  return { kept: total(sizes.values()), laidOut: copies, converted: total(converted.values()) };
}

/** The frozen weights that are read by nothing but matrix products of which ORT lays the matrices out: in float32, or in blocks of 8 bits. */
function factors(outputs: Readonly<Record<string, Value>>): ReadonlySet<WeightLeaf> {
  const found = new Set<WeightLeaf>();
  const others = new Set<WeightLeaf>();
  for (const { source } of topological(Object.values(outputs))) {
    if (source.kind !== "op") continue;
    for (const [i, { source: input }] of source.inputs.entries()) {
      const laidOut = (source.op === gemmOp && i === 1) || (source.op === blockProductOp && i > 0);
      if (input.kind === "weight") (laidOut ? found : others).add(input);
    }
  }
  return new Set([...found].filter((leaf) => !others.has(leaf)));
}

async function run(session: Session, feeds: ReadonlyMap<string, Value>, { batch, params, noise, carried }: ProgramInputs): Promise<Feeds> {
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
  return session.run(all, undefined, held, carried);
}

/** Hands an adapter's tensors to the runtime, so that runs need only name them. The tensors stay usable, and must not be changed. */
export function holdParams(runtime: Runtime, params: Params): Promise<HeldTensors> {
  return runtime.hold(Object.fromEntries([...params].map(([path, tensor]) => [paramFeed(path), tensor])));
}

/** The frozen weights that a graph reads, or the parts of them. */
function weightsOf(outputs: Readonly<Record<string, Value>>): readonly FrozenWeight[] {
  return topological(Object.values(outputs)).flatMap(({ source, shape }) =>
    source.kind === "weight" ? [{ leaf: source, shape: shape.map(Number) }] : [],
  );
}

/** Whether a graph reads any frozen matrix in another form than float32. */
export function storesMatrices(outputs: Readonly<Record<string, Value>>): boolean {
  return weightsOf(outputs).some(({ leaf }) => leaf.part !== undefined);
}

/** Numbers in the trained parameters of a graph, and in all of its weights and parameters together. */
export function countParameters(outputs: Readonly<Record<string, Value>>): {
  readonly trained_parameters: number;
  readonly total_parameters: number;
} {
  const size = ({ shape }: Value): number => sizeOf(shape.map(Number));
  const params = paramsOf(outputs);
  const total = (sizes: Iterable<number>): number => [...sizes].reduce((sum, each) => sum + each, 0);
  const frozen = new Map(weightsOf(outputs).map(({ leaf, shape }) => [leaf.path, sizeOf(leaf.part?.shape ?? shape)]));
  return {
    trained_parameters: total(params.map(({ value, leaf }) => (leaf.trained ? size(value) : 0))),
    total_parameters: total(frozen.values()) + total(params.map(({ value, leaf }) => (leaf.derived === true ? 0 : size(value)))),
  };
}

/** The adapter's parameters that a graph depends on, in the order in which the model was built. */
export function paramsOf(outputs: Readonly<Record<string, Value>>): readonly { readonly value: Value; readonly leaf: ParamLeaf }[] {
  const found = new Map<string, { readonly value: Value; readonly leaf: ParamLeaf }>();
  for (const value of topological(Object.values(outputs)))
    if (value.source.kind === "param") found.set(value.source.path, { value, leaf: value.source });
  return [...found.values()];
}
