import * as z from "zod";
import { AttachError, ConfigError, nearest } from "../errors.js";
import type { ConfigOrigin, LinearSite, Sites, TableSite } from "./method.js";

const names = z.array(z.string());

/** The config fields of choosing layers that methods share, with their help. */
export const targetFields = {
  target_modules: z
    .union([names, z.string()])
    .nullable()
    .default(null)
    .describe(
      'layers to adapt: names (suffixes of paths), a regular expression for whole paths, "all-linear", or null for the method\'s own',
    ),
  exclude_modules: z.union([names, z.string()]).nullable().default(null).describe("layers to leave out, named in the same ways"),
  modules_to_save: names.nullable().default(null).describe("modules to train in full beside the task's head"),
};

/** The config fields of adapting some of a model's layers; a schema with them is refined by `checkLayers`. */
export const layerFields = {
  layers_to_transform: z
    .union([z.array(z.number().int().min(0)), z.number().int().min(0)])
    .nullable()
    .default(null)
    .describe("adapt only the layers with these numbers"),
  layers_pattern: z.union([names, z.string()]).nullable().default(null).describe("name of the layer list that layers_to_transform counts"),
};

/** Says what is wrong with `layerFields`, as PEFT's configs do. */
export function checkLayers(c: Omit<TargetConfig, "exclude_modules">, context: z.RefinementCtx): void {
  const refuse = (message: string): void => context.addIssue({ code: "custom", message });
  if (c.layers_to_transform !== null && typeof c.target_modules === "string")
    refuse("layers_to_transform needs target_modules to be a list");
  if (c.layers_pattern !== null && c.layers_pattern.length > 0 && c.layers_to_transform === null)
    refuse("layers_pattern needs layers_to_transform");
}

/** The fields by which Hugging Face PEFT chooses modules; a config may lack all but the first. */
export interface TargetConfig extends TargetFilters {
  /** Suffixes, a regular expression (full match), `"all-linear"`, or null for the method's default roles. */
  readonly target_modules: readonly string[] | string | null;
}

interface TargetFilters {
  readonly exclude_modules: readonly string[] | string | null;
  readonly layers_to_transform: readonly number[] | number | null;
  readonly layers_pattern: readonly string[] | string | null;
  readonly modules_to_save: readonly string[] | null;
}

const noFilters: TargetFilters = { exclude_modules: null, layers_to_transform: null, layers_pattern: null, modules_to_save: null };

/** A layer that may be adapted. */
type LayerSite = LinearSite | TableSite;

/**
 * The linear layers that a config targets, by PEFT's rules (tuners_utils.check_target_module_exists): excluded modules and modules_to_save
 * first, then a full match of the regular expression or a suffix match of the list at a dot boundary, then the layer filter.
 * Throws AttachError when nothing matches, and for a user's list also when one of its entries matches nothing.
 */
export function matchTargets(
  sites: Sites,
  given: Pick<TargetConfig, "target_modules"> & Partial<TargetFilters>,
  defaults: readonly LayerSite["role"][] | ((site: LinearSite) => boolean),
  origin: ConfigOrigin,
): readonly LinearSite[] {
  const isDefault = typeof defaults === "function" ? defaults : ({ role }: LinearSite) => defaults.includes(role);
  return matchSites(sites.linears, "linear layer", sites, given, isDefault, origin);
}

/** The linear layers and the embedding tables that a config targets, as `matchTargets`; tables are none of the defaults. */
export function matchLayersAndTables(
  sites: Sites,
  config: Pick<TargetConfig, "target_modules"> & Partial<TargetFilters>,
  defaults: readonly LayerSite["role"][],
  origin: ConfigOrigin,
): { readonly layers: readonly LinearSite[]; readonly tables: readonly TableSite[] } {
  const all: readonly LayerSite[] = [...sites.linears, ...sites.tables];
  const matched = matchSites(all, "linear layer or embedding table", sites, config, ({ role }) => defaults.includes(role), origin);
  return {
    layers: matched.filter((site) => site.role !== "embedding"),
    tables: matched.filter((site) => site.role === "embedding"),
  };
}

function matchSites<S extends LayerSite>(
  candidates: readonly S[],
  what: string,
  sites: Sites,
  given: Pick<TargetConfig, "target_modules"> & Partial<TargetFilters>,
  isDefault: (site: S) => boolean,
  origin: ConfigOrigin,
): readonly S[] {
  const config: TargetConfig = { ...noFilters, ...given };
  const { target_modules: targets } = config;
  const free = candidates.filter(
    ({ path }) => !isExcluded(path, config.exclude_modules) && !isSaved(path, [...sites.headModules, ...(config.modules_to_save ?? [])]),
  );
  const matched = free.filter((site) => matches(site, targets, isDefault) && inLayers(site.path, config));
  if (matched.length === 0)
    throw new AttachError(`target_modules ${JSON.stringify(targets)} match no ${what} of this model`, { hint: overview(free, what) });
  if (origin === "user" && Array.isArray(targets)) {
    const idle = (targets as readonly string[]).filter((target) => !free.some(({ path }) => hasSuffix(path, target)));
    if (idle.length > 0) {
      const names = new Set(free.flatMap(({ path }) => [path, path.split(".").at(-1)!]));
      const guesses = idle.flatMap((target) => nearest(target, names) ?? []);
      throw new AttachError(`target_modules: ${idle.map((each) => `"${each}"`).join(", ")} match no ${what} of this model`, {
        hint: `${guesses.length > 0 ? `did you mean ${guesses.map((each) => `"${each}"`).join(", ")}? ` : ""}${overview(free, what)}`,
      });
    }
  }
  return matched;
}

/** A config's `modules_to_save`; none where it has no such field. */
export function savedModules(config: object): readonly string[] {
  return "modules_to_save" in config ? ((config.modules_to_save as readonly string[] | null) ?? []) : [];
}

/** Whether PEFT would say `fan_in_fan_out` of these layers: the checkpoint holds their weights as [in, out]. */
export function isTransposed(matched: readonly LinearSite[]): boolean {
  return matched.some(({ transposed }) => transposed === true);
}

/** Whether a module path is under one of `modules_to_save`: PEFT compares the end of each of the path's parents, without a dot boundary. */
export function isSaved(path: string, entries: readonly string[]): boolean {
  return withParents(path).some((module) => entries.some((entry) => module.endsWith(entry)));
}

/**
 * Entries of `modules_to_save` that PEFT can read back, given the paths of a model's modules. Where one of the modules meant lies within another,
 * PEFT saves both and then fails on its own file: those are named by the outer ones' whole paths.
 */
export function separateModules(entries: readonly string[], modules: readonly string[]): readonly string[] {
  const meant = [...new Set(modules.flatMap(withParents))].filter((module) => entries.some((entry) => module.endsWith(entry)));
  const outer = meant.filter((module) => !meant.some((other) => module.startsWith(`${other}.`)));
  return outer.length === meant.length ? entries : outer;
}

/** A module's path and those of the modules that it lies in, outermost first. */
function withParents(path: string): readonly string[] {
  const parts = path.split(".");
  return parts.map((_, i) => parts.slice(0, i + 1).join("."));
}

/** The modules that hold weights, their own or another module's. */
export function modulesOf({ weights, linears }: Sites): readonly string[] {
  return [...new Set([...weights.map(({ path }) => path.slice(0, path.lastIndexOf("."))), ...linears.map(({ path }) => path)])];
}

/** What PEFT's `rank_pattern` or `alpha_pattern` has for a module: the first key that matches it. */
export function patternValue(path: string, pattern: Readonly<Record<string, number>>, otherwise: number): number {
  return Object.entries(pattern).find(([key]) => matchesPattern(path, key))?.[1] ?? otherwise;
}

/** Throws AttachError for keys of a pattern that match none of the targets. */
export function checkPattern(name: string, pattern: Readonly<Record<string, number>>, targets: readonly LayerSite[]): void {
  const idle = Object.keys(pattern).filter((key) => !targets.some(({ path }) => matchesPattern(path, key)));
  if (idle.length === 0) return;
  throw new AttachError(`${name}: ${idle.map((each) => `"${each}"`).join(", ")} match none of the adapted layers`, {
    hint: `a key matches the end of a path: ${targets[0]!.path}`,
  });
}

/** Keys match at the path's end, starting at a dot boundary; "." matches anything. */
function matchesPattern(path: string, key: string): boolean {
  return regex(`(.*\\.)?(${key})`, key).test(path);
}

/** A short list of names that, matched as suffixes, gives exactly these sites; full paths where no short one does. */
export function compactTargets(matched: readonly LayerSite[], sites: Sites): readonly string[] {
  const names = [...new Set(matched.map(({ path }) => path.split(".").at(-1)!))].sort();
  const hits = [...sites.linears, ...sites.tables].filter(
    ({ path }) => names.some((name) => hasSuffix(path, name)) && !isSaved(path, sites.headModules),
  );
  return hits.length === matched.length ? names : matched.map(({ path }) => path).sort();
}

/** `target_modules` as a file states it: a regular expression stays; all else becomes the list of `names` that matched. */
export function publishedTargets(
  { target_modules: targets }: Pick<TargetConfig, "target_modules">,
  names: readonly string[],
): string | readonly string[] {
  return typeof targets === "string" && targets.toLowerCase() !== "all-linear" ? targets : names;
}

function matches<S extends LayerSite>(site: S, targets: TargetConfig["target_modules"], isDefault: (site: S) => boolean): boolean {
  if (targets === null) return isDefault(site);
  if (typeof targets !== "string") return targets.some((target) => hasSuffix(site.path, target));
  return targets.toLowerCase() === "all-linear"
    ? site.role !== "head" && site.role !== "embedding"
    : regex(targets, targets).test(site.path);
}

function isExcluded(path: string, excluded: TargetConfig["exclude_modules"]): boolean {
  if (excluded === null) return false;
  return typeof excluded === "string" ? regex(excluded, excluded).test(path) : excluded.some((each) => hasSuffix(path, each));
}

/** `layers_to_transform`: the index after the pattern's name, or the first number in the path. Exact full paths are not filtered, as in PEFT. */
function inLayers(path: string, { target_modules: targets, layers_to_transform: layers, layers_pattern: pattern }: TargetConfig): boolean {
  if (layers === null || (Array.isArray(targets) && targets.includes(path))) return true;
  const wanted = typeof layers === "number" ? [layers] : layers;
  if (wanted.length === 0) return true; // PEFT takes an empty list for no filter
  const patterns = pattern === null || pattern.length === 0 ? ["[^.]*"] : typeof pattern === "string" ? [pattern] : pattern;
  for (const each of patterns) {
    const index = regex(`(?:.*?\\.)?${each}\\.(\\d+)\\..*`, each).exec(path)?.[1];
    if (index !== undefined) return wanted.includes(Number(index));
  }
  return false;
}

function hasSuffix(path: string, suffix: string): boolean {
  return path === suffix || path.endsWith(`.${suffix}`);
}

/** A Python full match as a JavaScript expression. Throws ConfigError for one that does not parse. */
export function regex(source: string, shown: string): RegExp {
  try {
    return new RegExp(`^(?:${source})$`);
  } catch (cause) {
    throw new ConfigError(`"${shown}" is not a regular expression: ${(cause as Error).message}`, { cause });
  }
}

/** The roles there are, with an example path each, for messages. */
function overview(sites: readonly LayerSite[], what: string): string {
  const examples = new Map(sites.map((site) => [site.role, site.path] as const).reverse());
  return `${what.replace(" or", "s or")}s here: ${[...examples].map(([role, path]) => `${path} (${role})`).join(", ")}; or "all-linear"`;
}
