import * as z from "zod";
import { constant, type Value } from "../core/graph.js";
import { type Initializer, normal, zeros } from "../core/initializer.js";
import { f32 } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import { add, mul, scale, sub } from "../ops/elementwise.js";
import { linear } from "../ops/linear.js";
import { concat, reshape, slice } from "../ops/movement.js";
import { softmax, sum } from "../ops/reduce.js";
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
import type { Method, ParamScope, SublayerState } from "./method.js";

const flag = z.boolean();

const config = z
  .strictObject({
    query: flag.default(true).describe("a learned projection of what asks"),
    key: flag.default(true).describe("a learned projection of the adapters' outputs for comparing"),
    value: flag.default(true).describe("a learned projection of the adapters' outputs for adding up"),
    query_before_ln: flag.default(false).describe("ask with the sub-layer's output before the model's norm"),
    value_before_softmax: flag.default(true).describe("project each adapter's output, not their weighted sum"),
    value_initialized: flag.default(true).describe("let the value projection start as the identity"),
    residual_before: flag.default(false).describe("add the residual to each adapter's output, not to their weighted sum"),
    regularization: flag.default(true).describe("keep the value projection near the identity: 0.01·Σ(I - W)²"),
    dropout_prob: z.number().min(0).lt(1).nullable().default(null).describe("dropout on the scores while training; none by default"),
    temperature: flag.default(false).describe("a softmax that sharpens from pass to pass; not supported"),
  })
  .refine((c) => !c.temperature, "temperature is not supported: in AdapterHub outputs then depend on how many passes came before");

type FuseConfig = z.infer<typeof config>;

/** AdapterFusion: each token attends over the outputs of several frozen adapters (Pfeiffer et al. 2021, arXiv:2005.00247, §3.2). AdapterHub's Fuse. */
export const fuse: Method<FuseConfig, CompositionPlan> = {
  name: "fuse",
  config,
  learningRate: 5e-5,

  plan(sites, c, origin, children) {
    if (children.some(({ trained }) => trained)) throw new ConfigError("fuse keeps its adapters frozen");
    if (origin === "user" && !c.query && !c.key && !c.value)
      throw new ConfigError("query, key and value are all off: nothing could be learned");
    const plan = compositionPlan("fuse", sites, children, origin, { nested: ["stack"], adapterLayersOnly: true });
    const last = children.flatMap(leaves).at(-1)!;
    checkPlaces("fuse", children, sites.sublayers, (site) => {
      if (!hasLayer(site, last)) return `${last.name}, the last adapter, whose input all of them read, has none`;
      const empty = children.filter((child) => child.attachment.children.length > 0 && !hasLayer(site, child));
      return empty.length === 0 ? undefined : `the stack ${empty.map(({ name }) => name).join(", ")} has none`;
    });
    return plan;
  },

  ...sharedHandlers,

  sublayer: {
    has: (site, { children }) => children.some((child) => hasLayer(site, child)),
    enter: (site, state, { children }) => enterChild(site, state, children.flatMap(leaves).at(-1)!),
    apply(site, state, p, { children }, c) {
      const ends = children.filter((child) => hasLayer(site, child)).map((child) => applyChild(site, state, p, child));
      return {
        ...ends.at(-1)!,
        skip: state.skip,
        h: fusion(
          p,
          c,
          state,
          ends.map(({ up }) => up),
        ),
      };
    },
  },

  files: { setup: "Fuse", fusion: true },
};

/** softmaxᵢ(q(x)·k(upᵢ)) over the adapters, times their values, plus the residual: no scaling by the width. [T, D] */
function fusion(p: ParamScope, c: FuseConfig, state: SublayerState, ups: readonly Value[]): Value {
  const D = Number(state.h.shape[1]);
  const project = (name: "query" | "key" | "value", init: Initializer): ((x: Value) => Value) => {
    if (!c[name]) return (x) => x;
    const weight = p.param(`adapter_fusion_layer.${name}.weight`, [D, D], init);
    if (name === "value" && c.regularization) p.penalize(distanceFromIdentity(weight, D));
    const b = name !== "value" ? p.param(`adapter_fusion_layer.${name}.bias`, [D], zeros, { decay: false }) : undefined;
    return (x) => linear(x, weight, b);
  };
  const toQuery = project("query", normal(0.02));
  const toKey = project("key", normal(0.02));
  const toValue = project("value", c.value_initialized ? { kind: "diagonal", on: 1, off: 1e-6 } : normal(0.02));
  const read = c.residual_before ? ups.map((up) => add(up, state.skip)) : ups;
  const query = toQuery(c.query_before_ln ? state.before : state.h);
  const scores = concat(
    read.map((up) => sum(mul(query, toKey(up)), [1])),
    1,
  );
  const shares = softmax(p.dropout(scores, c.dropout_prob ?? 0), 1);
  const valued = c.value_before_softmax ? read.map(toValue) : read;
  const mixed = valued.map((value, i) => mul(value, slice(shares, 1, i, i + 1))).reduce(add);
  const context = c.value_before_softmax ? mixed : toValue(mixed);
  return c.residual_before ? context : add(context, state.skip);
}

/** 0.01·Σ(I - W)², a scalar. */
function distanceFromIdentity(W: Value, D: number): Value {
  const identity = constant(
    f32(
      Float32Array.from({ length: D * D }, (_, i) => (i % (D + 1) === 0 ? 1 : 0)),
      [D, D],
    ),
  );
  const off = sub(identity, W);
  return scale(reshape(sum(mul(off, off), [0, 1]), []), 0.01);
}
