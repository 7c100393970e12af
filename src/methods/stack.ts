import * as z from "zod";
import { applyChild, type CompositionPlan, compositionPlan, enterChild, hasLayer, sharedHandlers } from "./composition.js";
import type { Method } from "./method.js";

const config = z.strictObject({});

/** Adapters one after the other: each works on what the one before it gives (MAD-X: Pfeiffer et al. 2020, arXiv:2005.00052). AdapterHub's Stack. */
export const stack: Method<object, CompositionPlan> = {
  name: "stack",
  config,
  learningRate: 1e-3,
  plan: (sites, _, origin, children) =>
    compositionPlan("stack", sites, children, origin, { nested: ["fuse", "average"], adapterLayersOnly: false }),
  ...sharedHandlers,

  linear: (site, call, p, { children }) =>
    children.reduce((y, child) => {
      const { method, plan, config } = child.attachment;
      return method.linear?.(site, { ...call, y }, p.child(child), plan, config) ?? y;
    }, call.y),

  sublayer: {
    has: (site, { children }) => children.some((child) => hasLayer(site, child)),
    enter: (_, state) => state,
    apply: (site, state, p, { children }) =>
      children
        .filter((child) => hasLayer(site, child))
        .reduce((before, child) => applyChild(site, enterChild(site, before, child), p, child), state),
  },

  files: { setup: "Stack" },
};
