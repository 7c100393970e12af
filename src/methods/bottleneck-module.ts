import type { Value } from "../core/graph.js";
import { type Initializer, kaimingUniform, normal, ones, truncatedNormal, zeros } from "../core/initializer.js";
import { add, mul, scale, sigmoid } from "../ops/elementwise.js";
import { linear } from "../ops/linear.js";
import { layerNorm } from "../ops/norm.js";
import { adapterActivation, type BottleneckConfig } from "./bottleneck-config.js";
import type { ParamScope } from "./method.js";
import { phmLinear } from "./phm.js";

/** torch's default for a new LayerNorm; the model's own may have another. */
const newNormEps = 1e-5;

/** How the adapter's linear layers start, by `init_weights`: the down projection [d, D], the up projection [D, d], the gate. */
const starts: Readonly<
  Record<BottleneckConfig["init_weights"], { readonly down: (fanIn: number) => Initializer; readonly up: Initializer }>
> = {
  bert: { down: () => normal(0.02), up: normal(0.02) },
  mam_adapter: { down: kaimingUniform, up: zeros },
  houlsby: { down: () => truncatedNormal(0.01, 0.02), up: truncatedNormal(0.01, 0.02) },
};

/** What an adapter is told of its place. */
export interface ModulePlace {
  /** Width of the bottleneck. */
  readonly width: number;
  /** Path of the backbone, where parameters stand that adapters share. */
  readonly backbone: string;
}

/** What an adapter gives, [T, D] each. */
export interface ModuleOutput {
  /** The scaled up projection. */
  readonly up: Value;
  /** With dropout, gate, norm and skip. */
  readonly h: Value;
}

/**
 * One adapter: up(σ(down(x))), scaled, gated and added to `skip` (Houlsby et al. 2019, arXiv:1902.00751, §2.1; He et al. 2022,
 * arXiv:2110.04366). AdapterHub's Adapter and ParallelAdapter, of which the latter adds no skip. x [T, D].
 */
export function bottleneckModule(
  p: ParamScope,
  c: BottleneckConfig,
  { width, backbone }: ModulePlace,
  x: Value,
  skip: Value | undefined,
  textMean: (x: Value) => Value,
): ModuleOutput {
  const D = Number(x.shape[1]);
  const project = (name: string, position: "down" | "up", from: Value, out: number, init: Initializer): Value =>
    c.phm_layer ? phmLinear(p, c, { name, position, backbone }, from, out) : linearOf(p, name, from, out, init);
  const entered = c.ln_before ? norm(p, "adapters.adapter_norm_before", x) : x;
  const start = starts[c.init_weights];
  const down = project(`adapters.adapter_down.${c.ln_before ? 1 : 0}`, "down", entered, width, start.down(D));
  const raw = project("adapters.adapter_up", "up", adapterActivation(c.non_linearity)(down), D, start.up);
  const up = scaledBy(p, c.scaling, raw);
  let u = p.dropout(up, c.dropout);
  if (c.use_gating) {
    const init = c.init_weights === "houlsby" ? kaimingUniform(D) : normal(0.02);
    u = mul(u, textMean(sigmoid(linearOf(p, "adapters.gate", x, 1, init, c.init_weights === "houlsby" ? init : zeros))));
  }
  if (skip !== undefined && c.adapter_residual_before_ln) u = add(u, skip);
  if (c.ln_after) u = norm(p, "adapters.adapter_norm_after", u);
  if (skip !== undefined && !c.adapter_residual_before_ln) u = add(u, skip);
  return { up, h: u };
}

function scaledBy(p: ParamScope, scaling: BottleneckConfig["scaling"], x: Value): Value {
  if (typeof scaling === "number") return scale(x, scaling);
  return mul(x, p.param("adapters.scaling", [scaling === "learned" ? 1 : Number(x.shape[1])], ones));
}

function linearOf(p: ParamScope, name: string, x: Value, out: number, init: Initializer, biasInit: Initializer = zeros): Value {
  const weight = p.param(`${name}.weight`, [out, Number(x.shape[1])], init);
  return linear(x, weight, p.param(`${name}.bias`, [out], biasInit, { decay: false }));
}

function norm(p: ParamScope, name: string, x: Value): Value {
  const shape = [Number(x.shape[1])];
  const weight = p.param(`${name}.weight`, shape, ones, { decay: false });
  return layerNorm(x, weight, p.param(`${name}.bias`, shape, zeros, { decay: false }), newNormEps);
}
