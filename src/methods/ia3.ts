import * as z from "zod";
import { ones } from "../core/initializer.js";
import { scaleColumns, scaleRows } from "../core/matrix.js";
import { ConfigError } from "../errors.js";
import { add, mul } from "../ops/elementwise.js";
import { reshape } from "../ops/movement.js";
import type { LinearSite, LinearWeights, PeftMethod } from "./method.js";
import { compactTargets, isTransposed, matchTargets, regex, targetFields } from "./targets.js";
import { tunerFormat } from "./tuner-format.js";

const config = z.strictObject({
  target_modules: targetFields.target_modules.describe(
    "layers to rescale; null for keys (on Qwen queries), values and what goes into the feed-forward output",
  ),
  feedforward_modules: z
    .union([z.array(z.string()), z.string()])
    .nullable()
    .default(null)
    .describe("those of the targets whose input is rescaled instead of their output"),
  exclude_modules: targetFields.exclude_modules,
  modules_to_save: targetFields.modules_to_save,
});

/** IA3's config: the fields of `adapter_config.json`. */
export type Ia3Config = z.infer<typeof config>;

interface Ia3Plan {
  /** Whether the input is rescaled (feed-forward), by the path of each target. */
  readonly targets: ReadonlyMap<string, boolean>;
  readonly names: readonly string[];
  readonly feedforwardNames: readonly string[];
  readonly transposed: boolean;
}

/** Layers that are rescaled where nothing is said, unless their family's recipe differs. */
const rescaledRoles: readonly LinearSite["role"][] = ["key", "value", "query-key-value", "down", "attention-output"];

/** Layers whose input is rescaled where nothing is said, in the order in which PEFT's defaults for encoders and decoders have them. */
const feedforwardRoles: readonly LinearSite["role"][] = ["down", "attention-output"];

/** (IA)³: y = l ⊙ (W·x + b) for keys and values, y = W·(l ⊙ x) + b in the feed-forward part (Liu et al. 2022, arXiv:2205.05638, §3.3). */
export const ia3: PeftMethod<Ia3Config, Ia3Plan> = {
  name: "ia3",
  config,
  learningRate: 1e-2,

  plan(sites, c, origin) {
    if ((c.target_modules === null) !== (c.feedforward_modules === null)) {
      throw new ConfigError("ia3 needs target_modules and feedforward_modules both, or neither", { hint: "feedforward_modules may be []" });
    }
    const matched = matchTargets(sites, c, ({ role, rescaled }) => rescaled ?? rescaledRoles.includes(role), origin);
    const isFeedforward = ({ path, role }: LinearSite): boolean => {
      if (c.feedforward_modules === null) return feedforwardRoles.includes(role);
      // PEFT compares the end of the path without a dot boundary
      return typeof c.feedforward_modules === "string"
        ? regex(c.feedforward_modules, c.feedforward_modules).test(path)
        : c.feedforward_modules.some((name) => path.endsWith(name));
    };
    const feedforward = matched.filter(isFeedforward);
    return {
      targets: new Map(matched.map((site) => [site.path, isFeedforward(site)])),
      names: compactTargets(matched, sites),
      transposed: isTransposed(matched),
      feedforwardNames: feedforward.length === 0 ? [] : compactTargets(feedforward, sites),
    };
  },

  linear(site, { x, y, matmul, bias }, p, { targets }) {
    const feedforward = targets.get(site.path);
    if (feedforward === undefined) return y;
    if (!feedforward) return mul(y, reshape(p.param("ia3_l", [site.outFeatures, 1], ones), [1, site.outFeatures]));
    const product = matmul(mul(x, p.param("ia3_l", [1, site.inFeatures], ones)));
    return bias === undefined ? product : add(product, bias);
  },

  merge: (site, weights, p, { targets }) =>
    targets.has(site.path) ? scaled(weights, p("ia3_l").data, targets.get(site.path) === true) : weights,

  unmerge(site, merged, p, { targets }) {
    if (!targets.has(site.path)) return merged;
    const l = p("ia3_l").data;
    const lost = l.filter((value) => value === 0).length;
    if (lost > 0) throw new ConfigError(`${site.path}: ${lost} of ${l.length} factors are 0: what they were multiplied with is lost`);
    return scaled(
      merged,
      Float64Array.from(l, (value) => 1 / value),
      targets.get(site.path) === true,
    );
  },

  files: {
    ...tunerFormat("IA3"),
    inert: ["fan_in_fan_out", "init_ia3_weights"],
    publish: (c, { names, feedforwardNames, transposed }) => ({
      ...c,
      target_modules: names,
      feedforward_modules: feedforwardNames,
      fan_in_fan_out: transposed,
      init_ia3_weights: true,
    }),
  },
};

/** W·diag(l) for a rescaled input, diag(l)·W and l ⊙ b for a rescaled output. */
function scaled({ weight, bias }: LinearWeights, l: ArrayLike<number>, input: boolean): LinearWeights {
  if (input) return { weight: scaleColumns(weight, l), bias };
  return { weight: scaleRows(weight, l), bias: bias === undefined ? undefined : scaleRows(bias, l) };
}
