import type { Value } from "../core/graph.js";
import { type Initializer, kaimingUniform } from "../core/initializer.js";
import { linear } from "../ops/linear.js";
import type { ParamScope } from "./method.js";

/** A trained linear layer with bias: x [N, in] → [N, out], parameters `name.weight` and `name.bias`. Starts as torch's nn.Linear unless `init`. */
export function dense(p: ParamScope, name: string, x: Value, out: number, init: Initializer = kaimingUniform(Number(x.shape[1]))): Value {
  const from = Number(x.shape[1]);
  return linear(x, p.param(`${name}.weight`, [out, from], init), p.param(`${name}.bias`, [out], init, { decay: false }));
}
