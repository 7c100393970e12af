import * as z from "zod";
import type { Value } from "../core/graph.js";
import { kaimingUniform, zeros } from "../core/initializer.js";
import { addProduct, rowNorms, scaleRows } from "../core/matrix.js";
import { ConfigError } from "../errors.js";
import { add, detach, div, mul, scalar, scale, sqrt, sub } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { reshape, transpose } from "../ops/movement.js";
import { sum } from "../ops/reduce.js";
import type { LinearCall, PeftMethod } from "./method.js";
import { compactTargets, matchTargets, patternValue, targetFields } from "./targets.js";

const names = z.array(z.string());
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
    layers_to_transform: z
      .union([z.array(z.number().int().min(0)), z.number().int().min(0)])
      .nullable()
      .default(null)
      .describe("adapt only the layers with these numbers"),
    layers_pattern: z
      .union([names, z.string()])
      .nullable()
      .default(null)
      .describe("name of the layer list that layers_to_transform counts"),
    modules_to_save: targetFields.modules_to_save,
  })
  .refine(
    (c) => c.layers_to_transform === null || Array.isArray(c.target_modules) || c.target_modules === null,
    "layers_to_transform needs target_modules to be a list",
  )
  .refine(
    (c) => c.layers_pattern === null || c.layers_pattern.length === 0 || c.layers_to_transform !== null,
    "layers_pattern needs layers_to_transform",
  );

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

function quotients(numerators: ArrayLike<number>, denominators: ArrayLike<number>): Float64Array {
  return Float64Array.from(numerators, (value, i) => value / denominators[i]!);
}

/** Published `init_lora_weights` for which the base model's own weights were changed. */
const mutatingInits = ["pissa", "olora", "corda", "loftq"];

/** What LoRA does where: rank and scaling by the path of each adapted layer. */
export interface LoraPlan {
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

  /** W + s·B·A; with DoRA its rows at the lengths m: m ⊙ (W + s·B·A) / ‖W + s·B·A‖. */
  merge(site, { weight: W, bias }, p, { targets }, c) {
    const target = targets.get(site.path);
    if (target === undefined) return { weight: W, bias };
    const V = addProduct(W, p("lora_B.weight"), p("lora_A.weight"), target.scaling);
    return { weight: c.use_dora ? scaleRows(V, quotients(p("lora_magnitude_vector").data, rowNorms(V))) : V, bias };
  },

  unmerge(site, { weight: merged, bias }, p, { targets }, c, original) {
    const target = targets.get(site.path);
    if (target === undefined) return { weight: merged, bias };
    const [A, B] = [p("lora_A.weight"), p("lora_B.weight")];
    if (!c.use_dora) return { weight: addProduct(merged, B, A, -target.scaling), bias };
    if (original === undefined) {
      throw new ConfigError("DoRA divides the rows of W + sBA by their norms, which the merged weights no longer tell", {
        hint: "give the original base model, from which the norms can be computed",
      });
    }
    const V = addProduct(original.weight, B, A, target.scaling);
    return { weight: addProduct(scaleRows(merged, quotients(rowNorms(V), p("lora_magnitude_vector").data)), B, A, -target.scaling), bias };
  },

  trains({ path }, { targets }, c) {
    if (c.bias === "none" || !path.endsWith(".bias")) return false;
    return c.bias === "all" || targets.has(path.slice(0, -".bias".length));
  },

  files: {
    peft_type: "LORA",
    prefix: "base_model.model.",
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
      target_modules: typeof c.target_modules === "string" && c.target_modules.toLowerCase() !== "all-linear" ? c.target_modules : names,
      fan_in_fan_out: false,
      init_lora_weights: true,
    }),
    key: (path, { targets }) => {
      const module = path.replace(/\.bias$/, "");
      return `base_model.model.${module !== path && targets.has(module) ? `${module}.base_layer.bias` : path}`;
    },
    optional: (path, { targets }) => path.endsWith(".bias") && targets.has(path.slice(0, -".bias".length)),
  },
};
