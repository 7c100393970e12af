import { transpose } from "../core/matrix.js";
import { f32, type Tensor } from "../core/tensor.js";
import { ConfigError, NumericError, WeightError } from "../errors.js";
import { throwProblems } from "../io/safetensors.js";
import type { TensorSource } from "../io/tensor-source.js";
import { methods } from "../methods/index.js";
import type { LinearSite, LinearWeights, Method, TableSite } from "../methods/method.js";
import { isSaved, savedModules } from "../methods/targets.js";
import { headOf, survey } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";

/** What the handlers do whose work stands outside of all weights. */
const outside = {
  tokens: "virtual tokens in front of each text",
  keyValue: "keys and values in attention",
  sublayer: "layers at the ends of sub-layers",
  embedding: "layers behind the embeddings",
} as const satisfies Partial<Record<keyof Method, string>>;

/** Why a method's adapters cannot be merged into their base model; undefined where they can. */
export function mergeObstacle(method: Method): string | undefined {
  const added: string[] = Object.entries(outside).flatMap(([handler, what]) =>
    method[handler as keyof typeof outside] === undefined ? [] : [what],
  );
  if (method.linear !== undefined && method.merge === undefined) added.push("something in linear layers");
  if (method.table !== undefined && method.mergeTable === undefined) added.push("something in embedding tables");
  return added.length === 0 ? undefined : `${method.name} adds computation that no weight of the base can hold: ${added.join(", ")}`;
}

function checkMergeable(model: BaseModel, adapter: Adapter, what: string): void {
  const { method } = adapter.attachment;
  const [apart] = changedApart(model, adapter);
  if (apart !== undefined) {
    throw new ConfigError(
      `this adapter cannot be ${what}: it changes ${apart}, but word embeddings and output matrix are one weight in the base`,
      { hint: "use it beside the base, with --adapter" },
    );
  }
  const obstacle = mergeObstacle(method);
  if (obstacle === undefined) return;
  const others = methods.filter((each) => mergeObstacle(each) === undefined).map(({ name }) => name);
  throw new ConfigError(`this adapter cannot be ${what}: ${obstacle}`, {
    hint: `use it beside the base, with --adapter; what can be merged: ${others.join(", ")}`,
  });
}

/** Modules that the adapter changes while what shares their weight stays: one of the word embeddings and the output matrix, where they are tied. */
function changedApart(model: BaseModel, { head, attachment: { config }, params }: Adapter): readonly string[] {
  const { linears, outputTables } = survey(model, head);
  const shared = [...linears.flatMap(({ path, tied }) => (tied === undefined ? [] : [path])), ...outputTables];
  const saved = savedModules(config);
  const isOwn = (param: string, path: string): boolean => param.startsWith(`${path}.`) && param !== `${path}.weight`;
  return shared.filter((path) => isSaved(path, saved) || [...params.keys()].some((param) => isOwn(param, path)));
}

/** Weights of a model by their paths in it, as float32, each computed when it is read. */
export interface ComputedWeights extends TensorSource {
  /** Linear layers and embedding tables whose weights are computed. */
  readonly layers: readonly string[];
}

/**
 * The weights of a model that gives by itself what the base gives with the adapter: the head and modules trained in full as the adapter has
 * them, linear layers as its method merges them, all else as the base has it. Nothing is read yet. Throws ConfigError where the method's
 * adapters cannot be merged; reading throws NumericError where a merged weight is not finite.
 */
export function mergedWeights(model: BaseModel, adapter: Adapter): ComputedWeights {
  checkMergeable(model, adapter, "merged");
  const { head, attachment, params } = adapter;
  const { method, plan, config } = attachment;
  const own = async (path: string, shape: readonly number[]): Promise<Tensor<"float32">> =>
    params.get(path) ?? (await model.read(path, shape));
  return computed(model, adapter, survey(model, head).weights, own, {
    layer: (site, weights) => method.merge!(site, weights, paramsAt(adapter, site), plan, config),
    table: (site, table) => method.mergeTable!(site, table, paramsAt(adapter, site), plan, config),
  });
}

/** The base model's weights again, and where each of the others comes from. */
export interface UnmergedWeights extends ComputedWeights {
  /** Weights that the adapter had replaced, as the original base has them. */
  readonly fromOriginal: readonly string[];
  /** Weights of the adapter's head, which the base does not have. */
  readonly dropped: readonly string[];
}

/**
 * The weights of the base model into which an adapter was merged. What the adapter had replaced is taken from `original`, without which only
 * its own head may be of that kind: it is left out. Throws ConfigError where the adapter cannot be unmerged, and WeightError for weights that
 * only the original can tell (all listed), or that are not of its shapes; reading throws ConfigError or NumericError.
 */
export function unmergedWeights(merged: BaseModel, adapter: Adapter, original: BaseModel | undefined): UnmergedWeights {
  checkMergeable(merged, adapter, "unmerged");
  const { head, attachment, params } = adapter;
  const { method, plan, config } = attachment;
  const headModules = head.base === true ? [] : headOf(merged, head).modules;
  const { weights } = survey(merged, head);
  const replaced = weights.filter(({ path }) => params.has(path));
  const fromOriginal = replaced.filter(({ path }) => original?.shape(path) !== undefined).map(({ path }) => path);
  const dropped = replaced.filter(({ path }) => !fromOriginal.includes(path)).map(({ path }) => path);
  const lost = original === undefined ? dropped.filter((path) => !isSaved(path, headModules)) : [];
  throwProblems(
    "the merged checkpoint does not tell what these weights were before the adapter replaced them",
    lost,
    "give the original base model, from which they can be taken",
  );
  const kept = weights.filter(({ path }) => !dropped.includes(path));
  throwProblems(
    "the original base model is of other sizes than the merged checkpoint",
    kept.flatMap(({ path, shape }) => {
      const there = original?.shape(path);
      if (original === undefined || String(there) === String(shape)) return [];
      return [`${path}: ${there === undefined ? "missing" : `[${there}]`}, merged [${shape}]`];
    }),
    "is it the base on which the adapter was trained?",
  );
  const read = (path: string, shape: readonly number[]): Promise<Tensor<"float32">> =>
    (fromOriginal.includes(path) ? original! : merged).read(path, shape);
  const source = computed(merged, adapter, kept, read, {
    async layer(site, weights) {
      const before = original === undefined ? undefined : await linearWeights(site, (path, shape) => original.read(path, shape));
      const own = method.unmerge!(site, weights, paramsAt(adapter, site), plan, config, before);
      const restored = (name: string): boolean => fromOriginal.includes(`${site.path}.${name}`);
      return { weight: restored("weight") ? weights.weight : own.weight, bias: restored("bias") ? weights.bias : own.bias };
    },
    async table(site, table) {
      const before = await original?.read(`${site.path}.weight`, table.shape);
      return method.unmergeTable!(site, table, paramsAt(adapter, site), plan, config, before);
    },
  });
  return { ...source, fromOriginal, dropped };
}

type Read = (path: string, shape: readonly number[]) => Promise<Tensor<"float32">>;

/** What becomes of the weights of the layers that an adapter touches. */
interface Change {
  layer(site: LinearSite, weights: LinearWeights): LinearWeights | Promise<LinearWeights>;
  table(site: TableSite, table: Tensor<"float32">): Tensor<"float32"> | Promise<Tensor<"float32">>;
}

/** The given weights, those of linear layers and tables that the adapter touches through `change`, all others through `read`. */
function computed(
  model: BaseModel,
  { head, attachment: { method }, params }: Adapter,
  weights: readonly { readonly path: string; readonly shape: readonly number[] }[],
  read: Read,
  change: Change,
): ComputedWeights {
  const shapes = new Map(weights.map(({ path, shape }) => [path, shape]));
  const { linears, tables, weights: all } = survey(model, head);
  const added = [...params.keys()].filter((param) => !all.some(({ path }) => path === param));
  const isTouched = ({ path }: { readonly path: string }): boolean => added.some((param) => param.startsWith(`${path}.`));
  const touched = method.merge === undefined ? [] : linears.filter(isTouched);
  const touchedTables = method.mergeTable === undefined ? [] : tables.filter(isTouched);
  const tableOf = new Map(touchedTables.map((site) => [`${site.path}.weight`, site]));
  const layerOf = new Map(touched.flatMap((site) => [`${site.path}.weight`, `${site.path}.bias`].map((path) => [path, site] as const)));
  let last: { readonly site: LinearSite; readonly result: Promise<LinearWeights> } | undefined; // weight and bias are read one after the other
  return {
    layers: [...touched, ...touchedTables].map(({ path }) => path),
    tensors: new Map(weights.map(({ path, shape }) => [path, { dtype: "F32", shape }])),
    async readFloat32(path) {
      const shape = shapes.get(path);
      if (shape === undefined) throw new WeightError(`there is no weight ${path}`);
      const site = layerOf.get(path);
      const table = tableOf.get(path);
      if (table !== undefined) return finite(path, await change.table(table, await read(path, shape)));
      if (site === undefined) return read(path, shape);
      if (last?.site !== site) last = { site, result: linearWeights(site, read).then((own) => change.layer(site, own)) };
      const { weight, bias } = await last.result;
      const stored = site.transposed === true ? transpose(weight) : weight;
      return finite(path, f32((path.endsWith(".weight") ? stored : bias!).data, shape));
    },
  };
}

function finite(path: string, tensor: Tensor<"float32">): Tensor<"float32"> {
  if (tensor.data.every(Number.isFinite)) return tensor;
  throw new NumericError(`${path} would hold numbers that are not finite`, {
    hint: "is the adapter damaged, or did its training diverge?",
  });
}

/** A layer's weights as methods see them, [out, in], whichever way the checkpoint has them. */
async function linearWeights({ path, inFeatures, outFeatures, bias, transposed }: LinearSite, read: Read): Promise<LinearWeights> {
  const weight = `${path}.weight`;
  return {
    weight: transposed === true ? transpose(await read(weight, [inFeatures, outFeatures])) : await read(weight, [outFeatures, inFeatures]),
    bias: bias ? await read(`${path}.bias`, [outFeatures]) : undefined,
  };
}

function paramsAt({ params }: Adapter, { path }: { readonly path: string }): (name: string) => Tensor<"float32"> {
  return (name) => {
    const tensor = params.get(`${path}.${name}`) ?? params.get(name);
    if (tensor === undefined) throw new WeightError(`the adapter lacks ${path}.${name}`);
    return tensor;
  };
}
