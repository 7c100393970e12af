import type { Value } from "../core/graph.js";
import { initialValues } from "../core/initializer.js";
import { rowNorms } from "../core/matrix.js";
import { f32, type Tensor } from "../core/tensor.js";
import { ModelError } from "../errors.js";
import type { BaseModel } from "./base-model.js";
import { type Params, paramsOf } from "./program.js";

/** The first values of all parameters in a graph: seeded noise, or the base model's own weights. */
export async function initialParams(model: BaseModel, outputs: Readonly<Record<string, Value>>, seed: number): Promise<Params> {
  const params = new Map<string, Tensor<"float32">>();
  for (const { value, leaf } of paramsOf(outputs)) {
    const shape = value.shape.map(Number);
    let { init } = leaf;
    if (init.kind === "base" && model.shape(leaf.path) !== undefined) {
      params.set(leaf.path, await model.read(leaf.path, shape));
      continue;
    }
    while (init.kind === "base") {
      if (init.otherwise === undefined) throw new ModelError(`the checkpoint lacks ${leaf.path}, and nothing says how it starts`);
      init = init.otherwise;
    }
    params.set(leaf.path, init.kind === "row-norms" ? await normsOf(model, init.path) : initialValues(init, shape, seed, leaf.path));
  }
  return params;
}

/** Parameters with the values that are known already in place of their first ones. */
export function overlaid(params: Params, known: Params): Params {
  return new Map([...params].map(([path, tensor]) => [path, known.get(path) ?? tensor]));
}

async function normsOf(model: BaseModel, path: string): Promise<Tensor<"float32">> {
  return f32(Float32Array.from(rowNorms(await model.read(path, model.shape(path) ?? [0, 0]))));
}
