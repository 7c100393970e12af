import type { Value } from "../core/graph.js";
import { AttachError, ConfigError } from "../errors.js";
import type { Child, ConfigOrigin, EmbeddingSite, Method, ParamScope, Sites, SublayerSite, SublayerState } from "./method.js";

/** What a composition plans: the adapters that it holds. */
export interface CompositionPlan {
  readonly children: readonly Child[];
}

/** What a composition may hold. */
export interface CompositionRules {
  /** Compositions that may be its children. */
  readonly nested: readonly string[];
  readonly adapterLayersOnly: boolean;
}

/**
 * Checks what a composition is to hold. Throws ConfigError for too few, names that meet, or methods that cannot be used together. Files may
 * hold one adapter alone, as AdapterHub writes what is active there.
 */
export function compositionPlan(
  name: string,
  { weights }: Sites,
  children: readonly Child[],
  origin: ConfigOrigin,
  { nested, adapterLayersOnly }: CompositionRules,
): CompositionPlan {
  if (children.length < (origin === "file" ? 1 : 2)) {
    throw new ConfigError(`${name} needs two adapters or more, not ${children.length}`, { hint: "name each with --adapter name=folder" });
  }
  const names = children.flatMap(leaves).map((leaf) => leaf.name);
  const twice = names.filter((each, i) => names.indexOf(each) !== i);
  const unfit = children.flatMap((child) => {
    const { method, plan, config } = child.attachment;
    const inPlace = weights.some((weight) => method.trains?.(weight, plan, config) === true);
    if ("setup" in method.files)
      return nested.includes(method.name) ? [] : [`${method.name}: ${name} can hold ${nested.join(", ") || "no composition"}`];
    if (inPlace || method.tokens !== undefined || method.keyValue !== undefined)
      return [`${child.name}: ${method.name} changes ${inPlace ? "the base's own weights" : "what attention reads"}`];
    if (method.sublayer === undefined && (adapterLayersOnly || method.linear === undefined))
      return [`${child.name}: ${name} takes adapter layers, not ${method.name}`];
    return [];
  });
  const faults = [...twice.map((each) => `two adapters are named "${each}"`), ...unfit];
  if (faults.length > 0) {
    throw new ConfigError(`these adapters cannot be composed by ${name}:\n  ${faults.join("\n  ")}`, {
      hint: "compositions take adapter layers; a stack also lora and ia3",
    });
  }
  return { children };
}

/** The single adapters of a composition, in order. */
export function leaves(child: Child): readonly Child[] {
  const { children } = child.attachment;
  return children.length === 0 ? [child] : children.flatMap(leaves);
}

/** Whether an adapter layer of a child is at a site. */
export function hasLayer(site: SublayerSite, { attachment: { method, plan, config } }: Child): boolean {
  return method.sublayer?.has(site, plan, config) === true;
}

/** A child's first step at a site; see SublayerHandlers. */
export function enterChild(site: SublayerSite, state: SublayerState, { attachment: { method, plan, config } }: Child): SublayerState {
  return method.sublayer!.enter(site, state, plan, config);
}

/** A child's second step at a site. */
export function applyChild(site: SublayerSite, state: SublayerState, scope: ParamScope, child: Child): SublayerState {
  const { method, plan, config } = child.attachment;
  return method.sublayer!.apply(site, state, scope.child(child), plan, config);
}

/** What all compositions share: invertible adapters are the first one's only, as in AdapterHub. */
export const sharedHandlers = {
  wholeTexts: (_: object, children: readonly Child[]): boolean =>
    children.some(({ attachment: { method, config, children: own } }) => method.wholeTexts?.(config, own) === true),

  embedding(site: EmbeddingSite, h: Value, p: ParamScope, { children }: CompositionPlan): Value {
    const first = children[0]!;
    const { method, plan, config } = first.attachment;
    return method.embedding?.(site, h, p.child(first), plan, config) ?? h;
  },

  unembedding(site: EmbeddingSite, h: Value, p: ParamScope, { children }: CompositionPlan): Value {
    const first = children[0]!;
    const { method, plan, config } = first.attachment;
    return method.unembedding?.(site, h, p.child(first), plan, config) ?? h;
  },
} satisfies Partial<Method<object, CompositionPlan>>;

/**
 * Throws AttachError that lists the places where a composition that has a layer there cannot be computed. `fault` says what is wrong with a
 * place, if anything.
 */
export function checkPlaces(
  name: string,
  children: readonly Child[],
  places: readonly SublayerSite[],
  fault: (site: SublayerSite) => string | undefined,
): void {
  const faults = places
    .filter((site) => children.some((child) => hasLayer(site, child)))
    .flatMap((site) => {
      const found = fault(site);
      return found === undefined ? [] : [`${site.path}: ${found}`];
    });
  if (faults.length === 0) return;
  throw new AttachError(`${name} cannot be computed where these adapters have no layer:\n  ${faults.join("\n  ")}`, {
    hint: "leave_out and the places of the adapters' configs differ",
  });
}
