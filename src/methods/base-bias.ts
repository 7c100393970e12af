import type { AdapterFormat } from "./method.js";
import { tunerPrefix } from "./tuner-format.js";

/** The adapted layers by their paths: what a plan must hold for the config field `bias`. */
interface Targeted {
  readonly targets: { has(path: string): boolean };
  /** The adapted embedding tables, where the method adapts those. */
  readonly tables?: { has(path: string): boolean };
}

/** Whether PEFT's config field `bias` has a weight of the base trained: no bias, `all` biases, or those of the adapted layers (`lora_only`). */
export function trainsBias({ path }: { readonly path: string }, plan: Targeted, { bias }: { readonly bias: string }): boolean {
  return isTargetBias(path, plan) ? bias !== "none" : bias === "all" && path.endsWith(".bias");
}

/** Weights of adapted layers in PEFT's files: they are within a `base_layer`. PEFT up to 0.20 wrote no biases for `lora_only` and the like. */
export const biasFiles = {
  key: (path: string, plan: Targeted): string =>
    `${tunerPrefix}${isTargetBias(path, plan) || isTargetWeight(path, plan) ? path.replace(/(bias|weight)$/, "base_layer.$1") : path}`,
  optional: isTargetBias,
} satisfies Partial<AdapterFormat<object, Targeted>>;

function isTargetBias(path: string, { targets }: Targeted): boolean {
  return path.endsWith(".bias") && targets.has(path.slice(0, -".bias".length));
}

function isTargetWeight(path: string, { targets, tables }: Targeted): boolean {
  const layer = path.replace(/\.weight$/, "");
  return layer !== path && (targets.has(layer) || tables?.has(layer) === true);
}
