import { AttachError, ConfigError } from "../errors.js";
import { add } from "../ops/elementwise.js";
import { adapterActivation, type BottleneckConfig, bottleneckConfig, bottleneckPresets } from "./bottleneck-config.js";
import { bottleneckModule } from "./bottleneck-module.js";
import { coupling } from "./invertible.js";
import type { ConfigOrigin, Method, Sites, SublayerHandlers } from "./method.js";

interface BottleneckPlan {
  /** The bottleneck's width by the path of each adapter's place. */
  readonly widths: ReadonlyMap<string, number>;
  /** Path of the backbone (`bert`). */
  readonly backbone: string;
}

/** In parallel the adapter reads the residual; in sequence it reads the sub-layer's output, before or after the model's sum and norm. */
const sublayer: SublayerHandlers<BottleneckConfig, BottleneckPlan> = {
  has: ({ path }, { widths }) => widths.has(path),

  enter(_, state, __, c) {
    const { h, residual, finish } = state;
    if (c.is_parallel) return { ...state, before: residual, h: residual, skip: residual };
    if (!c.original_ln_before) return { ...state, before: h, skip: h };
    const sum = add(h, residual);
    const normed = finish(sum);
    const skip = c.residual_before_ln === true ? h : c.residual_before_ln === "post_add" ? sum : normed;
    return { ...state, before: h, h: normed, skip };
  },

  apply({ path }, state, p, { widths, backbone }, c) {
    const { output, residual, finish, textMean } = state;
    const place = { width: widths.get(path)!, backbone };
    const { h, up } = bottleneckModule(p, c, place, state.h, c.is_parallel ? undefined : state.skip, textMean);
    return {
      ...state,
      h,
      up,
      join: (last) => {
        const sum = c.is_parallel ? add(last, output) : last;
        return c.original_ln_after ? finish(add(sum, residual)) : sum;
      },
    };
  },
};

/** Adapter layers: small networks with a bottleneck after the sub-layers (Houlsby et al. 2019, arXiv:1902.00751), as AdapterHub defines them. */
export const bottleneck: Method<BottleneckConfig, BottleneckPlan> = {
  name: "bottleneck",
  config: bottleneckConfig,
  presets: bottleneckPresets,
  learningRate: 1e-3,

  plan(sites, c, origin) {
    if (origin === "user") refuseUntrainable(c);
    adapterActivation(c.non_linearity);
    const places = sites.sublayers.filter(
      ({ place, layer }) => (place === "attention" ? c.mh_adapter : c.output_adapter) && !c.leave_out.includes(layer),
    );
    checkLayers(sites, c, origin);
    if (places.length === 0) {
      throw new AttachError("this config attaches no adapter to any layer", {
        hint: "set mh_adapter or output_adapter, and leave_out fewer layers",
      });
    }
    const widths = new Map(
      places.map(({ path, layer, width }) => [path, Math.max(1, Math.floor(width / factorOf(c.reduction_factor, layer)))]),
    );
    if (c.inv_adapter !== null) checkInvertible(sites, c);
    if (c.phm_layer) checkDivisible(places[0]!.width, widths, c);
    return { widths, backbone: sites.embeddings[0]!.path };
  },

  wholeTexts: (c) => c.use_gating,
  sublayer,
  embedding: (_, h, p, __, c) => (c.inv_adapter === null ? h : coupling(p, c, h)),
  unembedding: (_, h, p, __, c) => (c.inv_adapter === null ? h : coupling(p, c, h, true)),

  files: {
    library: "adapters",
    // BnConfig's own defaults; the method's are those of seq_bn
    absent: { original_ln_before: false },
    required: ["mh_adapter", "output_adapter", "reduction_factor", "non_linearity"],
    publish: (c: BottleneckConfig) => c,
  },
};

/** What AdapterHub takes in training and this library does not. */
function refuseUntrainable(c: BottleneckConfig): void {
  const refused = [
    ...(c.stochastic_depth > 0 ? ["stochastic_depth: leave it 0, or use dropout"] : []),
    ...(c.init_weights_seed === null ? [] : ["init_weights_seed: the run's seed sets how adapters start"]),
    ...(c.phm_layer && c.init_weights !== "bert"
      ? [`init_weights "${c.init_weights}" with phm_layer, whose projections start in their own way`]
      : []),
    ...(c.cross_adapter ? ["cross_adapter: this model has no cross-attention"] : []),
  ];
  if (refused.length > 0) throw new ConfigError(`not supported in training:\n  ${refused.join("\n  ")}`);
}

function factorOf(factors: BottleneckConfig["reduction_factor"], layer: number): number {
  return typeof factors === "number" ? factors : (factors[String(layer)] ?? factors.default!);
}

/** Each layer that is given must be there, and each that has an adapter must have a factor. */
function checkLayers({ sublayers }: Sites, c: BottleneckConfig, origin: ConfigOrigin): void {
  const layers = [...new Set(sublayers.map(({ layer }) => layer))];
  const factors = c.reduction_factor;
  if (typeof factors !== "number" && factors.default === undefined) {
    const bare = layers.filter((layer) => factors[String(layer)] === undefined && !c.leave_out.includes(layer));
    if (bare.length > 0)
      throw new ConfigError(`reduction_factor says nothing of layer${bare.length === 1 ? "" : "s"} ${bare.join(", ")}`, {
        hint: 'add "default"',
      });
  }
  if (origin === "file") return;
  const named = [
    ...c.leave_out.map(String),
    ...(typeof factors === "number" ? [] : Object.keys(factors).filter((key) => key !== "default")),
  ];
  const unknown = named.filter((key) => !layers.map(String).includes(key));
  if (unknown.length > 0)
    throw new ConfigError(`the model has no layer ${[...new Set(unknown)].join(", ")}`, { hint: `its layers: 0 to ${layers.length - 1}` });
}

function checkInvertible({ embeddings }: Sites, { inv_adapter_reduction_factor: factor }: BottleneckConfig): void {
  const half = Math.floor(embeddings[0]!.width / 2);
  if (factor! <= half) return;
  throw new ConfigError(`inv_adapter_reduction_factor ${factor} leaves the invertible adapter no width`, {
    hint: `half of the embeddings is ${half} wide: choose ${half} or less`,
  });
}

function checkDivisible(modelWidth: number, widths: ReadonlyMap<string, number>, { phm_dim }: BottleneckConfig): void {
  const odd = [...new Set([modelWidth, ...widths.values()])].filter((width) => width % phm_dim !== 0);
  if (odd.length === 0) return;
  throw new ConfigError(`phm_dim ${phm_dim} does not divide the width${odd.length === 1 ? "" : "s"} ${odd.join(", ")}`, {
    hint: `the model is ${modelWidth} wide, its bottlenecks ${[...new Set(widths.values())].join(", ")}: choose reduction_factor and phm_dim so that phm_dim divides both`,
  });
}
