import type { Value } from "../core/graph.js";
import { kaimingUniform } from "../core/initializer.js";
import { linear } from "../ops/linear.js";
import type { ParamScope } from "./method.js";

/** A trained linear layer with bias that starts as torch's nn.Linear does: x [N, in] → [N, out], parameters `name.weight` and `name.bias`. */
export function dense(p: ParamScope, name: string, x: Value, out: number): Value {
  const from = Number(x.shape[1]);
  const init = kaimingUniform(from);
  return linear(x, p.param(`${name}.weight`, [out, from], init), p.param(`${name}.bias`, [out], init, { decay: false }));
}
