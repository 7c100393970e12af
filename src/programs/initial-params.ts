import type { Value } from "../core/graph.js";
import { type InitialComputation, type InitialSource, initialValues } from "../core/initializer.js";
import { f32, type Tensor } from "../core/tensor.js";
import { ModelError } from "../errors.js";
import type { BaseModel } from "./base-model.js";
import { type Params, paramsOf } from "./program.js";

/** The first values of all parameters in a graph: `known` ones, seeded noise, the base model's own weights, or what is computed from them. */
export async function initialParams(
  model: BaseModel,
  outputs: Readonly<Record<string, Value>>,
  seed: number,
  known: Params = new Map(),
): Promise<Params> {
  const base = sourceOf(model, seed);
  const computed = new Map<InitialComputation, Promise<readonly Float32Array[]>>();
  const params = new Map<string, Tensor<"float32">>();
  for (const { value, leaf } of paramsOf(outputs)) {
    const shape = value.shape.map(Number);
    const given = known.get(leaf.path);
    let { init } = leaf;
    if (given !== undefined || (init.kind === "base" && model.shape(leaf.path) !== undefined)) {
      params.set(leaf.path, given ?? (await model.read(leaf.path, shape)));
      continue;
    }
    while (init.kind === "base") {
      if (init.otherwise === undefined) throw new ModelError(`the checkpoint lacks ${leaf.path}, and nothing says how it starts`);
      init = init.otherwise;
    }
    if (init.kind !== "computed") {
      params.set(leaf.path, initialValues(init, shape, seed, leaf.path));
      continue;
    }
    const { compute, part } = init;
    if (!computed.has(compute)) computed.set(compute, compute(base));
    params.set(leaf.path, f32((await computed.get(compute)!)[part]!.slice(), shape));
  }
  return params;
}

function sourceOf(model: BaseModel, seed: number): InitialSource {
  return {
    seed,
    id: model.id,
    weight: (path) => model.read(path, model.shape(path) ?? []),
    tokenIds: (text) => model.tokenizer.encode(text).ids,
  };
}
