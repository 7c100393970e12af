import type { Value } from "../core/graph.js";
import { normal, zeros } from "../core/initializer.js";
import { add, sub } from "../ops/elementwise.js";
import { linear } from "../ops/linear.js";
import { concat, slice } from "../ops/movement.js";
import { adapterActivation, type BottleneckConfig } from "./bottleneck-config.js";
import type { ParamScope } from "./method.js";

/**
 * A NICE coupling block: y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁) on the halves of x [T, D] (Dinh et al. 2015, arXiv:1410.8516; as MAD-X's invertible
 * adapter, Pfeiffer et al. 2020, arXiv:2005.00052, §4.3). `inverse` solves it for x.
 */
export function coupling(p: ParamScope, c: BottleneckConfig, x: Value, inverse = false): Value {
  const D = Number(x.shape[1]);
  const half = Math.floor(D / 2);
  const [a, b] = [slice(x, 1, 0, half), slice(x, 1, half, D)];
  if (inverse) {
    const second = sub(b, network(p, c, "G", a, D - half));
    return concat([sub(a, network(p, c, "F", second, half)), second], 1);
  }
  const first = add(a, network(p, c, "F", b, half));
  return concat([first, add(b, network(p, c, "G", first, D - half))], 1);
}

/** Linear, activation, Linear: x [T, in] → [T, out]. */
function network(p: ParamScope, c: BottleneckConfig, name: "F" | "G", x: Value, out: number): Value {
  const from = Number(x.shape[1]);
  const width = Math.floor(from / c.inv_adapter_reduction_factor!);
  const layer = (index: number, input: Value, size: number): Value => {
    const prefix = `invertible_adapters.${name}.${index}`;
    const weight = p.param(`${prefix}.weight`, [size, Number(input.shape[1])], normal(0.02));
    return linear(input, weight, p.param(`${prefix}.bias`, [size], zeros, { decay: false }));
  };
  return layer(2, adapterActivation(c.non_linearity)(layer(0, x, width)), out);
}
