import * as z from "zod";
import type { Value } from "../core/graph.js";
import { kaimingUniform, zeros } from "../core/initializer.js";
import { ConfigError } from "../errors.js";
import { add, detach, div, mul, scalar, scale, sqrt, sub } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { reshape, transpose } from "../ops/movement.js";
import { sum } from "../ops/reduce.js";
import { biasFiles, trainsBias } from "./base-bias.js";
import type { LinearCall, PeftMethod } from "./method.js";
import { checkLayers, compactTargets, layerFields, matchTargets, patternValue, publishedTargets, targetFields } from "./targets.js";
import { tunerFormat } from "./tuner-format.js";

const positive = z.number().int().positive();

const config = z
  .strictObject({
    r: positive.default(8).describe("rank of the update"),
    lora_alpha: z.number().positive().default(8).describe("the update is scaled by lora_alpha / r"),
    lora_dropout: z.number().min(0).lt(1).default(0).describe("dropout on the update's input while training"),
    target_modules: targetFields.target_modules.describe(
      'layers to adapt: names (suffixes of paths), a regular expression for whole paths, "all-linear", or null for query and value',
    ),
    exclude_modules: targetFields.exclude_modules,
    use_rslora: z.boolean().default(false).describe("scale by lora_alpha / √r instead (arXiv:2312.03732)"),
    use_dora: z.boolean().default(false).describe("train the weights' row norms apart from their directions (arXiv:2402.09353)"),
    rank_pattern: z.record(z.string(), positive).default({}).describe("ranks that differ from r, by the end of a layer's path"),
    alpha_pattern: z
      .record(z.string(), z.number().positive())
      .default({})
      .describe("alphas that differ from lora_alpha, by the end of a layer's path"),
    bias: z.enum(["none", "all", "lora_only"]).default("none").describe("which of the base model's biases are trained too"),
    ...layerFields,
    modules_to_save: targetFields.modules_to_save,
  })
  .superRefine(checkLayers);

/** LoRA's config: the fields of `adapter_config.json`. */
export type LoraConfig = z.infer<typeof config>;

/**
 * The norm of each row of W + sBA, [out, 1], without that matrix: ‖W‖² + 2s·rowsum((W·Aᵀ) ∘ B) + s²·rowsum((B·(A·Aᵀ)) ∘ B). DoRA (Liu et al.
 * 2024, arXiv:2402.09353, §4.3) treats it as a constant.
 */
function norms({ matmul, squaredNorms }: LinearCall, A: Value, B: Value, s: number): Value {
  const cross = sum(mul(transpose(matmul(A), [1, 0]), B), [1]);
  const own = sum(mul(gemm(B, gemm(A, A, { transB: true })), B), [1]);
  return sqrt(add(squaredNorms(), add(scale(cross, 2 * s), scale(own, s * s))));
}

/** Published `init_lora_weights` for which the base model's own weights were changed. */
const mutatingInits = ["pissa", "olora", "corda", "loftq"];

/** What LoRA does where: rank and scaling by the path of each adapted layer. */
interface LoraPlan {
  readonly targets: ReadonlyMap<string, { readonly r: number; readonly scaling: number }>;
  /** The targets as a list to publish. */
  readonly names: readonly string[];
}

/** LoRA: y + (alpha/r)·x·Aᵀ·Bᵀ with A [r, in] and B [out, r] (Hu et al. 2021, arXiv:2106.09685, §4.1). */
export const lora: PeftMethod<LoraConfig, LoraPlan> = {
  name: "lora",
  config,
  presets: { dora: { use_dora: true } },
  learningRate: 1e-3,

  plan(sites, c, origin) {
    const matched = matchTargets(sites, c, ["query", "value"], origin);
    const targets = matched.map(({ path }) => {
      const r = patternValue(path, c.rank_pattern, c.r);
      const alpha = patternValue(path, c.alpha_pattern, c.lora_alpha);
      return [path, { r, scaling: alpha / (c.use_rslora ? Math.sqrt(r) : r) }] as const;
    });
    return { targets: new Map(targets), names: compactTargets(matched, sites) };
  },

  linear(site, call, p, { targets }, c) {
    const target = targets.get(site.path);
    if (target === undefined) return call.y;
    const A = p.param("lora_A.weight", [target.r, site.inFeatures], kaimingUniform(site.inFeatures));
    const B = p.param("lora_B.weight", [site.outFeatures, target.r], zeros);
    const x = p.dropout(call.x, c.lora_dropout);
    const low = gemm(x, A, { transB: true });
    const up = (addend?: Value): Value => gemm(low, B, { transB: true, alpha: target.scaling }, addend);
    if (!c.use_dora) return up(call.y);
    const m = p.param("lora_magnitude_vector", [site.outFeatures], { kind: "row-norms", path: `${site.path}.weight` }, { decay: false });
    const ratio = div(m, reshape(detach(norms(call, A, B, target.scaling)), [site.outFeatures]));
    if (x !== call.x) return add(call.y, add(mul(call.matmul(x), sub(ratio, scalar(1))), mul(up(), ratio)));
    const scaled = mul(up(call.matmul(x)), ratio);
    return call.bias === undefined ? scaled : add(scaled, call.bias);
  },

  trains: trainsBias,

  files: {
    ...tunerFormat("LORA"),
    ...biasFiles,
    refuse({ init_lora_weights: init }) {
      if (typeof init !== "string" || !mutatingInits.some((each) => init.startsWith(each))) return;
      throw new ConfigError(`init_lora_weights "${init}" changes the base model's weights when the adapter is loaded`, {
        hint: "in Python, save the adapter again with path_initial_model_for_weight_conversion, which makes it a plain LoRA",
      });
    },
    inert: [
      "fan_in_fan_out",
      "megatron_core",
      "qalora_group_size",
      "init_lora_weights",
      "runtime_config",
      "ensure_weight_tying",
      "eva_config",
      "lora_ga_config",
      "velora_config",
    ],
    publish: (c, { names }) => ({
      ...c,
      target_modules: publishedTargets(c, names),
      fan_in_fan_out: false,
      init_lora_weights: true,
    }),
  },
};
