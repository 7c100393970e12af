import * as z from "zod";
import type { Value } from "../core/graph.js";
import { addProduct, rowNorms as normsOf, scaleRows, weightedSum } from "../core/matrix.js";
import { ConfigError } from "../errors.js";
import { add, detach, div, mul, scalar, scale, sqrt, sub } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { concat, reshape } from "../ops/movement.js";
import { biasFiles, trainsBias } from "./base-bias.js";
import { initLoraWeights, isResidual, type LoraStart, loraStart, rowNorms, type UpdateSizes } from "./lora-init.js";
import { lostNorms, quotients, squaredNorms } from "./lora-norms.js";
import { loraTable, mergedTable, unmergedTable } from "./lora-table.js";
import type { LinearCall, LinearSite, LinearWeights, ParamScope, PeftMethod, SiteParams } from "./method.js";
import {
  checkLayers,
  checkPattern,
  compactTargets,
  isTransposed,
  layerFields,
  matchLayersAndTables,
  patternValue,
  publishedTargets,
  targetFields,
} from "./targets.js";
import { tunerFormat } from "./tuner-format.js";

const positive = z.number().int().positive();

const config = z
  .strictObject({
    r: positive.default(8).describe("rank of the update"),
    lora_alpha: z.number().positive().default(8).describe("the update is scaled by lora_alpha / r"),
    lora_dropout: z.number().min(0).lt(1).default(0).describe("dropout on the update's input while training"),
    target_modules: targetFields.target_modules.describe(
      'layers and embedding tables to adapt: names (suffixes of paths), a regular expression for whole paths, "all-linear", or null for query and value',
    ),
    exclude_modules: targetFields.exclude_modules,
    use_rslora: z.boolean().default(false).describe("scale by lora_alpha / √r instead (arXiv:2312.03732)"),
    init_lora_weights: initLoraWeights,
    lora_bias: z.boolean().default(false).describe("give the update a bias of its own, which starts at zero"),
    use_dora: z.boolean().default(false).describe("train the weights' row norms apart from their directions (arXiv:2402.09353)"),
    rank_pattern: z.record(z.string(), positive).default({}).describe("ranks that differ from r, by the end of a layer's path"),
    alpha_pattern: z
      .record(z.string(), z.number().positive())
      .default({})
      .describe("alphas that differ from lora_alpha, by the end of a layer's path"),
    bias: z.enum(["none", "all", "lora_only"]).default("none").describe("which of the base model's biases are trained too"),
    ...layerFields,
    modules_to_save: targetFields.modules_to_save,
    loraplus_lr_ratio: z
      .number()
      .positive()
      .default(1)
      .describe(
        "LoRA+: factor on the learning rate of B, biases and norms (arXiv:2402.12354); how to train, not part of the published config",
      ),
  })
  .superRefine(checkLayers)
  .refine((c) => !c.lora_bias || !c.use_dora, "lora_bias does not go with use_dora")
  .refine((c) => !c.lora_bias || typeof c.init_lora_weights === "boolean", "lora_bias needs init_lora_weights to be true or false");

/** LoRA's config: the fields of `adapter_config.json`. */
export type LoraConfig = z.infer<typeof config>;

/** W + s·B·A as numbers, less s·B₀·A₀ where that was taken out of W; the opposite for -s. */
function updated(W: LinearWeights["weight"], p: SiteParams, s: number, c: LoraConfig): LinearWeights["weight"] {
  const V = addProduct(W, p("lora_B.weight"), p("lora_A.weight"), s);
  return isResidual(c.init_lora_weights) ? addProduct(V, p("lora_B.initial"), p("lora_A.initial"), -s) : V;
}

/** A layer's bias with s times the update's own. Throws ConfigError for a layer without one. */
function moved({ path }: LinearSite, bias: LinearWeights["bias"], p: SiteParams, s: number): LinearWeights["bias"] {
  if (bias !== undefined) return weightedSum([bias, p("lora_B.bias")], [1, s]);
  throw new ConfigError(`${path} has no bias that could take up the update's (lora_bias)`, { hint: "use the adapter beside its base" });
}

/** The layer as if its weight were W − s·B₀A₀. */
function withoutPart(call: LinearCall, A0: Value, B0: Value, s: number): LinearCall {
  const less = (x: Value, y: Value): Value => gemm(gemm(x, A0, { transB: true }), B0, { transB: true, alpha: -s }, y);
  return {
    ...call,
    y: less(call.x, call.y),
    matmul: (x) => less(x, call.matmul(x)),
    squaredNorms: () => squaredNorms(call, A0, B0, -s),
  };
}

/** Values of `init_lora_weights` in files whose adapters are plain LoRA once they are trained. */
const plainInits = ["eva", "lora_ga", "mica"];

/** What LoRA does where: rank and scaling by the path of each adapted layer. */
export interface LoraPlan {
  /** Linear layers. */
  readonly targets: ReadonlyMap<string, UpdateSizes>;
  /** Embedding tables. */
  readonly tables: ReadonlyMap<string, UpdateSizes>;
  /** The targets as a list to publish. */
  readonly names: readonly string[];
  readonly transposed: boolean;
}

/** LoRA: y + (alpha/r)·x·Aᵀ·Bᵀ with A [r, in] and B [out, r] (Hu et al. 2021, arXiv:2106.09685, §4.1). */
export const lora: PeftMethod<LoraConfig, LoraPlan> = {
  name: "lora",
  config,
  presets: { dora: { use_dora: true } },
  learningRate: 1e-3,

  plan(sites, c, origin) {
    const { layers, tables } = matchLayersAndTables(sites, c, ["query", "value", "query-key-value"], origin);
    const matched = [...layers, ...tables];
    const sizes = ({ path }: { readonly path: string }): readonly [string, UpdateSizes] => {
      const r = patternValue(path, c.rank_pattern, c.r);
      const alpha = patternValue(path, c.alpha_pattern, c.lora_alpha);
      return [path, { r, scaling: alpha / (c.use_rslora ? Math.sqrt(r) : r) }];
    };
    const targets = new Map(layers.map(sizes));
    if (c.lora_bias && tables.length > 0)
      throw new ConfigError(`lora_bias does not go with embedding tables: ${tables.map(({ path }) => path).join(", ")}`);
    const shared = layers.find(({ tied }) => tied !== undefined);
    if (isResidual(c.init_lora_weights) && shared !== undefined)
      throw new ConfigError(
        `init_lora_weights "${c.init_lora_weights}" does not go with ${shared.path}, which shares its weight with the embeddings`,
      );
    if (origin === "user") {
      checkPattern("rank_pattern", c.rank_pattern, matched);
      checkPattern("alpha_pattern", c.alpha_pattern, matched);
      checkStart(c, layers, targets);
    }
    const names = compactTargets(matched, sites);
    return { targets, tables: new Map(tables.map(sizes)), names, transposed: isTransposed(layers) };
  },

  linear(site, whole, p, { targets }, c) {
    const target = targets.get(site.path);
    if (target === undefined) return whole.y;
    const { r, scaling } = target;
    const start = loraStart(c.init_lora_weights, site, target);
    const A = p.param("lora_A.weight", [r, site.inFeatures], start.A);
    const B = p.param("lora_B.weight", [site.outFeatures, r], start.B);
    const call = isResidual(c.init_lora_weights) ? residual(whole, p, A, B, start, scaling) : whole;
    const x = p.dropout(call.x, c.lora_dropout);
    const low = gemm(x, A, { transB: true });
    const up = (addend?: Value): Value => gemm(low, B, { transB: true, alpha: scaling }, addend);
    if (c.lora_bias) return add(up(call.y), scale(p.param("lora_B.bias", [site.outFeatures], start.bias, { decay: false }), scaling));
    if (!c.use_dora) return up(call.y);
    const m = p.param("lora_magnitude_vector", [site.outFeatures], rowNorms(site));
    // a constant for the gradient: DoRA (Liu et al. 2024, arXiv:2402.09353, §4.3)
    const ratio = div(m, reshape(detach(sqrt(squaredNorms(call, A, B, scaling))), [site.outFeatures]));
    if (x !== call.x) return add(call.y, add(mul(call.matmul(x), sub(ratio, scalar(1))), mul(up(), ratio)));
    const scaled = mul(up(call.matmul(x)), ratio);
    return call.bias === undefined ? scaled : add(scaled, call.bias);
  },

  table(site, call, p, { tables }, c) {
    const target = tables.get(site.path);
    return target === undefined ? call.y : loraTable(site, call, p, target, c);
  },

  lrScale: ({ path, shape }, c) => (path.includes("lora_B") || shape.length === 1 ? c.loraplus_lr_ratio : 1),

  /** W + s·B·A, less s·B₀·A₀ where that was taken out of W; with DoRA its rows at the lengths m: m ⊙ V / ‖V‖. */
  merge(site, { weight: W, bias }, p, { targets }, c) {
    const target = targets.get(site.path);
    if (target === undefined) return { weight: W, bias };
    const V = updated(W, p, target.scaling, c);
    return {
      weight: c.use_dora ? scaleRows(V, quotients(p("lora_magnitude_vector").data, normsOf(V))) : V,
      bias: c.lora_bias ? moved(site, bias, p, target.scaling) : bias,
    };
  },

  unmerge(site, { weight: merged, bias: mergedBias }, p, { targets }, c, original) {
    const target = targets.get(site.path);
    if (target === undefined) return { weight: merged, bias: mergedBias };
    const bias = c.lora_bias ? moved(site, mergedBias, p, -target.scaling) : mergedBias;
    if (!c.use_dora) return { weight: updated(merged, p, -target.scaling, c), bias };
    if (original === undefined) throw lostNorms();
    const V = updated(original.weight, p, target.scaling, c);
    const lengths = quotients(normsOf(V), p("lora_magnitude_vector").data);
    return { weight: updated(scaleRows(merged, lengths), p, -target.scaling, c), bias };
  },

  mergeTable: ({ path }, table, p, { tables }, c) => mergedTable(table, p, tables.get(path)!, c),
  unmergeTable: ({ path }, merged, p, { tables }, c, original) => unmergedTable(merged, p, tables.get(path)!, c, original),

  trains: trainsBias,

  files: {
    ...tunerFormat("LORA"),
    ...biasFiles,
    read(published) {
      const { init_lora_weights: init } = published;
      if (typeof init !== "string") return published;
      if (plainInits.includes(init)) return { ...published, init_lora_weights: true };
      if (initLoraWeights.safeParse(init).success && !init.startsWith("pissa_niter")) return published;
      const known = `plain LoRA, gaussian, orthogonal, pissa, ${plainInits.join(", ")}`;
      throw new ConfigError(
        `init_lora_weights "${init}" changes the base model's weights when the adapter is loaded; known here: ${known}`,
        {
          hint: "in Python, save the adapter again with path_initial_model_for_weight_conversion, which makes it a plain LoRA",
        },
      );
    },
    passesOver: (path, { targets }, c) => isResidual(c.init_lora_weights) && targets.has(path.replace(/\.weight$/, "")),
    inert: ["fan_in_fan_out", "megatron_core", "qalora_group_size", "runtime_config", "eva_config", "lora_ga_config", "velora_config"],
    publish: ({ loraplus_lr_ratio: _, lora_bias, ...c }, { names, transposed }) => ({
      ...c,
      ...(lora_bias ? { lora_bias } : {}), // a field that old readers do not know
      target_modules: publishedTargets(c, names),
      fan_in_fan_out: transposed,
      ...(isResidual(c.init_lora_weights) ? doubled(c) : {}),
    }),
  },
};

/**
 * The layer without the part that A and B start as. In files, the update is then plain LoRA of twice the rank, [A; A₀] and [B, −B₀], which needs
 * no change of the base: PEFT's `subtract_mutated_init`.
 */
function residual(call: LinearCall, p: ParamScope, A: Value, B: Value, start: LoraStart, scaling: number): LinearCall {
  const A0 = p.param("lora_A.initial", A.shape.map(Number), start.A, { derived: true });
  const B0 = p.param("lora_B.initial", B.shape.map(Number), start.B, { derived: true });
  p.publish("lora_A.weight", concat([A, A0], 0));
  p.publish("lora_B.weight", concat([B, scale(B0, -1)], 1));
  return withoutPart(call, A0, B0, scaling);
}

type RankFields = Pick<LoraConfig, "r" | "lora_alpha" | "rank_pattern" | "alpha_pattern" | "use_rslora">;

/** The config of an update of twice the rank and the same scaling. */
function doubled({ r, lora_alpha, rank_pattern, alpha_pattern, use_rslora }: RankFields): Partial<LoraConfig> {
  const times = (pattern: Readonly<Record<string, number>>, factor: number): Record<string, number> =>
    Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * factor]));
  const more = use_rslora ? Math.SQRT2 : 2;
  return {
    r: 2 * r,
    lora_alpha: more * lora_alpha,
    rank_pattern: times(rank_pattern, 2),
    alpha_pattern: times(alpha_pattern, more),
    init_lora_weights: true,
  };
}

/** Throws ConfigError for ranks that an update cannot start from, and for starts that do not go together. */
function checkStart({ init_lora_weights: init, use_dora }: LoraConfig, matched: readonly LinearSite[], targets: LoraPlan["targets"]): void {
  if (use_dora && init === false)
    throw new ConfigError("use_dora needs init_lora_weights other than false: its magnitudes start from the base's");
  const faults = matched.flatMap(({ path, inFeatures, outFeatures }) => {
    const { r } = targets.get(path)!;
    if (init === "orthogonal" && r % 2 !== 0) return [`${path}: orthogonal needs an even rank, not ${r}`];
    const most = Math.min(inFeatures, outFeatures);
    return isResidual(init) && r > most ? [`${path}: rank ${r}, but its weight has ${most}`] : [];
  });
  if (faults.length > 0) throw new ConfigError(`init_lora_weights "${init}" does not fit:\n  ${faults.join("\n  ")}`);
}
