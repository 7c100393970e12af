import * as z from "zod";
import type { Value } from "../core/graph.js";
import { filled, type Initializer, normal, ones, zeros } from "../core/initializer.js";
import { addProduct, corner, scaleRows } from "../core/matrix.js";
import { fillTorchUniform } from "../core/torch-random.js";
import { add, mul } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { slice } from "../ops/movement.js";
import { biasFiles, trainsBias } from "./base-bias.js";
import type { LinearSite, LinearWeights, PeftMethod, SiteParams } from "./method.js";
import { checkLayers, compactTargets, isTransposed, layerFields, matchTargets, publishedTargets, targetFields } from "./targets.js";
import { tunerFormat } from "./tuner-format.js";

const config = z
  .strictObject({
    r: z.number().int().positive().default(256).describe("rank of the update; higher than LoRA's, as a rank costs one number a layer"),
    target_modules: targetFields.target_modules,
    projection_prng_key: z.number().int().default(0).describe("seed of the frozen matrices A and B, as torch draws them"),
    save_projection: z.boolean().default(true).describe("write A and B to the file; without them a reader draws them again from the seed"),
    vera_dropout: z.number().min(0).lt(1).default(0).describe("dropout on the update's input while training"),
    d_initial: z.number().default(0.1).describe("what lambda_d starts at"),
    init_weights: z.boolean().default(true).describe("start as the base model; otherwise lambda_b starts at one, lambda_d as normal noise"),
    bias: z.enum(["none", "all", "vera_only"]).default("none").describe("which of the base model's biases are trained too"),
    ...layerFields,
    modules_to_save: targetFields.modules_to_save,
  })
  .superRefine(checkLayers);

/** VeRA's config: the fields of `adapter_config.json`. */
export type VeraConfig = z.infer<typeof config>;

interface VeraPlan {
  /** Paths of the adapted layers. */
  readonly targets: ReadonlySet<string>;
  /** The targets as a list to publish. */
  readonly names: readonly string[];
  /** The largest sizes of adapted layers: A is [r, in], B is [out, r]. */
  readonly in: number;
  readonly out: number;
  /** Whether files hold A and B. */
  readonly saved: boolean;
  readonly transposed: boolean;
}

/** Paths of the frozen matrices A and B. */
const projections = ["vera_A", "vera_B"];

/** VeRA: y + λ_b ⊙ (λ_d ⊙ x·Aᵀ)·Bᵀ with frozen random A and B that all layers share (Kopiczko et al. 2024, arXiv:2310.11454, §3.1). */
export const vera: PeftMethod<VeraConfig, VeraPlan> = {
  name: "vera",
  config,
  learningRate: 3e-2,

  plan(sites, c, origin) {
    const matched = matchTargets(sites, c, ["query", "value", "query-key-value"], origin);
    return {
      targets: new Set(matched.map(({ path }) => path)),
      names: compactTargets(matched, sites),
      in: Math.max(...matched.map(({ inFeatures }) => inFeatures)),
      out: Math.max(...matched.map(({ outFeatures }) => outFeatures)),
      saved: c.save_projection,
      transposed: isTransposed(matched),
    };
  },

  linear(site, call, p, plan, c) {
    if (!plan.targets.has(site.path)) return call.y;
    const frozen = (name: string, shape: readonly number[], init: Initializer): Value =>
      p.shared().param(name, shape, init, { trained: false });
    const A = slice(frozen("vera_A", [c.r, plan.in], torchKaiming(plan.in, c.projection_prng_key, 0)), 1, 0, site.inFeatures);
    const B = slice(frozen("vera_B", [plan.out, c.r], torchKaiming(c.r, c.projection_prng_key, c.r * plan.in)), 0, 0, site.outFeatures);
    const d = p.param("vera_lambda_d", [c.r], c.init_weights ? { kind: "constant", value: c.d_initial } : normal(1));
    const b = p.param("vera_lambda_b", [site.outFeatures], c.init_weights ? zeros : ones);
    const x = p.dropout(call.x, c.vera_dropout);
    return add(call.y, mul(b, gemm(mul(d, gemm(x, A, { transB: true })), B, { transB: true })));
  },

  merge: (site, weights, p, plan) => moved(site, weights, p, plan, 1),
  unmerge: (site, weights, p, plan) => moved(site, weights, p, plan, -1),

  trains: trainsBias,

  files: {
    ...tunerFormat("VERA"),
    ...biasFiles,
    publish: (c, { names, transposed }) => ({ ...c, target_modules: publishedTargets(c, names), fan_in_fan_out: transposed }),
    key: (path, plan) => (projections.includes(path) ? `base_model.${path}` : biasFiles.key(path, plan)),
    omits: (path, { saved }) => !saved && projections.includes(path),
  },
};

/** W + s·diag(λ_b)·B·diag(λ_d)·A as numbers. */
function moved(site: LinearSite, { weight, bias }: LinearWeights, p: SiteParams, { targets }: VeraPlan, s: number): LinearWeights {
  if (!targets.has(site.path)) return { weight, bias };
  const A = scaleRows(corner(p("vera_A"), [p("vera_A").shape[0]!, site.inFeatures]), p("vera_lambda_d").data);
  const B = scaleRows(corner(p("vera_B"), [site.outFeatures, p("vera_B").shape[1]!]), p("vera_lambda_b").data);
  return { weight: addProduct(weight, B, A, s), bias };
}

/** torch's `kaiming_uniform_` for ReLU: uniform in ±√(6/fan_in), after `skip` earlier draws from the generator. */
function torchKaiming(fanIn: number, seed: number, skip: number): Initializer {
  const bound = Math.sqrt(3) * (Math.sqrt(2) / Math.sqrt(fanIn));
  return filled((out) => fillTorchUniform(out, seed, skip, -bound, bound));
}
