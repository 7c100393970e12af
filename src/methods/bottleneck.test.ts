import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { AttachError, ConfigError } from "../errors.js";
import { bottleneck } from "./bottleneck.js";
import type { ConfigOrigin } from "./method.js";
import { layerSites } from "./sublayer.fixture.js";

const sites = layerSites(3, 12);
const planOf = (fields: object, origin: ConfigOrigin = "user") => bottleneck.plan(sites, bottleneck.config.parse(fields), origin, []);
const widthsOf = (fields: object, origin?: ConfigOrigin): object => Object.fromEntries(planOf(fields, origin).widths);
const attention = (layer: number): string => `bert.encoder.layer.${layer}.attention.output`;
const mlp = (layer: number): string => `bert.encoder.layer.${layer}.output`;

describe("the plan of adapter layers", () => {
  it("takes the places that the config names", () => {
    expect(widthsOf({ reduction_factor: 4 })).toEqual({ [mlp(0)]: 3, [mlp(1)]: 3, [mlp(2)]: 3 });
    expect(widthsOf({ reduction_factor: 4, mh_adapter: true, output_adapter: false, leave_out: [1] })).toEqual({
      [attention(0)]: 3,
      [attention(2)]: 3,
    });
    expect(planOf({ reduction_factor: 4 }).backbone).toBe("bert");
  });

  it("rounds the width down, but not to 0; a factor below 1 widens", () => {
    const width = (reduction_factor: number): unknown => Object.values(widthsOf({ reduction_factor }))[0];
    expect([width(5), width(7), width(100), width(0.5)]).toEqual([2, 1, 1, 24]);
  });

  it("takes a factor for each layer", () => {
    expect(widthsOf({ reduction_factor: { "1": 2, default: 6 } })).toEqual({ [mlp(0)]: 2, [mlp(1)]: 6, [mlp(2)]: 2 });
    expect(widthsOf({ reduction_factor: { "0": 2, "1": 3 }, leave_out: [2] })).toEqual({ [mlp(0)]: 6, [mlp(1)]: 4 });
  });

  it.each<[what: string, fields: object, message: RegExp, hint: RegExp]>([
    ["layers without a factor", { reduction_factor: { "1": 2 } }, /reduction_factor says nothing of layers 0, 2/, /"default"/],
    ["a factor for no layer", { reduction_factor: { "7": 2, default: 4 } }, /the model has no layer 7/, /0 to 2/],
    ["a layer to leave out that is not there", { leave_out: [0, 3, 4] }, /the model has no layer 3, 4/, /0 to 2/],
    ["an activation that nobody knows", { non_linearity: "swoosh" }, /swoosh/, /gelu/],
    [
      "widths that phm_dim does not divide",
      { phm_layer: true, phm_dim: 4, reduction_factor: 2 },
      /phm_dim 4 does not divide the width 6/,
      /12 wide/,
    ],
  ])("refuses %s", async (_, fields, message, hint) => {
    const error = await failure(() => planOf(fields));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toMatch(message);
    expect(error.hint).toMatch(hint);
  });

  it("refuses an invertible adapter without width", async () => {
    const plan = (inv_adapter_reduction_factor: number) => planOf({ inv_adapter: "nice", inv_adapter_reduction_factor });
    expect(plan(6).widths.size).toBe(3);
    const error = await failure(() => plan(7));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe("inv_adapter_reduction_factor 7 leaves the invertible adapter no width");
    expect(error.hint).toContain("choose 6 or less");
  });

  it("refuses a start that hypercomplex projections do not have", () => {
    const fields = { phm_layer: true, phm_dim: 2, reduction_factor: 2 };
    expect(() => planOf({ ...fields, init_weights: "mam_adapter" })).toThrow(/init_weights "mam_adapter" with phm_layer/);
    expect(planOf(fields).widths.size).toBe(3);
  });

  it("refuses to attach nowhere", async () => {
    for (const fields of [{ output_adapter: false }, { leave_out: [0, 1, 2] }]) {
      const error = await failure(() => planOf(fields));
      expect(error).toBeInstanceOf(AttachError);
      expect(error.hint).toContain("mh_adapter or output_adapter");
    }
  });

  it("refuses in training what it cannot do there, all at once, and reads it from a file", async () => {
    const fields = { stochastic_depth: 0.1, init_weights_seed: 7, cross_adapter: true };
    const error = await failure(() => planOf(fields));
    expect(error).toBeInstanceOf(ConfigError);
    for (const name of Object.keys(fields)) expect(error.message).toContain(`\n  ${name}: `);
    expect(widthsOf(fields, "file")).toEqual(widthsOf({}));
  });

  it("passes over layers in a file that the model lacks, as Python", () => {
    expect(widthsOf({ leave_out: [0, 11], reduction_factor: { "11": 2, default: 4 } }, "file")).toEqual({ [mlp(1)]: 3, [mlp(2)]: 3 });
    expect(() => planOf({ reduction_factor: { "1": 2 } }, "file")).toThrow(/layers 0, 2/);
  });

  it("asks for whole texts only with a gate", () => {
    const asks = (fields: object) => bottleneck.wholeTexts!(bottleneck.config.parse(fields), []);
    expect([asks({}), asks({ use_gating: true })]).toEqual([false, true]);
  });
});
