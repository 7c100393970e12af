import * as z from "zod";
import { ConfigError } from "../errors.js";
import { add, scale } from "../ops/elementwise.js";
import {
  applyChild,
  type CompositionPlan,
  checkSamePlaces,
  compositionPlan,
  enterChild,
  hasLayer,
  leaves,
  sharedHandlers,
} from "./composition.js";
import type { Method } from "./method.js";

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
 * weights add up to 1, and the sum is then divided by the number of adapters once more.
 */
export const average: Method<AverageConfig, CompositionPlan> = {
  name: "average",
  config,
  learningRate: 1e-3,

  plan(sites, { weights }, _, children) {
    if (weights !== null && weights.length !== children.length) {
      throw new ConfigError(`average has ${weights.length} weights for ${children.length} adapters`);
    }
    if (weights !== null && !(Math.abs(sum(weights)) > 1e-12)) throw new ConfigError("average's weights add up to 0");
    const plan = compositionPlan("average", sites, children, ["stack"], true);
    checkSamePlaces("average", children, sites.sublayers);
    return plan;
  },

  ...sharedHandlers,

  sublayer: {
    has: (site, { children }) => children.some((child) => hasLayer(site, child)),
    enter: (site, state, { children }) => enterChild(site, state, children.flatMap(leaves).find((leaf) => hasLayer(site, leaf))!),
    apply(site, state, p, { children }, { weights }) {
      const ends = children.map((child) => applyChild(site, state, p, child));
      const n = ends.length;
      const shares = weights?.map((weight) => weight / sum(weights)) ?? ends.map(() => 1 / n);
      const h = ends.map((end, i) => scale(end.h, shares[i]! / n)).reduce(add);
      return { ...ends.at(-1)!, h, skip: ends[0]!.skip, up: ends[0]!.up };
    },
  },

  files: { setup: "Average", kwargs: ({ weights }: AverageConfig) => (weights === null ? {} : { weights }) },
};

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
