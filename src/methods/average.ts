import * as z from "zod";
import { ConfigError } from "../errors.js";
import { add, scale } from "../ops/elementwise.js";
import {
  applyChild,
  type CompositionPlan,
  checkPlaces,
  compositionPlan,
  enterChild,
  hasLayer,
  leaves,
  sharedHandlers,
} from "./composition.js";
import type { Child, Method, SublayerSite } from "./method.js";

const config = z.strictObject({
  weights: z
    .array(z.number())
    .nullable()
    .default(null)
    .describe("weight of each adapter's output; they are divided by their sum. Equal by default"),
});

type AverageConfig = z.infer<typeof config>;

/**
 * The weighted mean of several adapters' outputs. As AdapterHub 1.3.0 computes its Average, so that files give the same outputs in both: the
 * weights add up to 1, and the sum is then divided by the number of adapters once more. Where only the first has a layer, it is divided so too.
 */
export const average: Method<AverageConfig, CompositionPlan> = {
  name: "average",
  config,
  learningRate: 1e-3,

  plan(sites, { weights }, origin, children) {
    if (weights !== null && weights.length !== children.length) {
      throw new ConfigError(`average has ${weights.length} weights for ${children.length} adapters`);
    }
    if (weights !== null && !(Math.abs(sum(weights)) > 1e-12)) throw new ConfigError("average's weights add up to 0");
    const plan = compositionPlan("average", sites, children, origin, { nested: ["stack"], adapterLayersOnly: true });
    const first = children.flatMap(leaves)[0]!;
    checkPlaces("average", children, sites.sublayers, (site) => {
      if (!hasLayer(site, first)) return `${first.name}, the first adapter, whose input all of them read, has none`;
      const present = presentAt(site, children).length;
      if (present === 1 || present === children.length) return undefined;
      return `${present} of ${children.length} have one; it must be all of them or the first alone`;
    });
    return plan;
  },

  ...sharedHandlers,

  sublayer: {
    has: (site, { children }) => children.some((child) => hasLayer(site, child)),
    enter: (site, state, { children }) => enterChild(site, state, children.flatMap(leaves)[0]!),
    apply(site, state, p, { children }, { weights }) {
      const ends = presentAt(site, children).map((child) => applyChild(site, state, p, child));
      const n = children.length;
      const shares = ends.length === 1 ? [1] : (weights?.map((weight) => weight / sum(weights)) ?? ends.map(() => 1 / n));
      const h = ends.map((end, i) => scale(end.h, shares[i]! / n)).reduce(add);
      return { ...ends.at(-1)!, h, skip: ends[0]!.skip, up: ends[0]!.up };
    },
  },

  files: { setup: "Average", kwargs: ({ weights }: AverageConfig) => (weights === null ? {} : { weights }) },
};

/** The children that are averaged at a place: a stack without a layer there gives what it reads. */
function presentAt(site: SublayerSite, children: readonly Child[]): readonly Child[] {
  return children.filter((child) => child.attachment.children.length > 0 || hasLayer(site, child));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
