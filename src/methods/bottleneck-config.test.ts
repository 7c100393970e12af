import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { parseOptions } from "../core/options.js";
import { ConfigError } from "../errors.js";
import { adapterActivation, type BottleneckConfig, bottleneckConfig, bottleneckPresets } from "./bottleneck-config.js";
import { methodChoice } from "./index.js";

const configOf = (fields: object): BottleneckConfig => parseOptions("bottleneck option", bottleneckConfig, fields);

/** SeqBnConfig of Python's `adapters`. */
const seqBn: BottleneckConfig = {
  mh_adapter: false,
  output_adapter: true,
  reduction_factor: 16,
  non_linearity: "relu",
  original_ln_before: true,
  original_ln_after: true,
  ln_before: false,
  ln_after: false,
  init_weights: "bert",
  init_weights_seed: null,
  is_parallel: false,
  scaling: 1,
  use_gating: false,
  residual_before_ln: true,
  adapter_residual_before_ln: false,
  inv_adapter: null,
  inv_adapter_reduction_factor: null,
  cross_adapter: false,
  leave_out: [],
  dropout: 0,
  stochastic_depth: 0,
  phm_layer: false,
  phm_dim: 4,
  phm_rank: 1,
  phm_bias: true,
  learn_phm: true,
  shared_phm_rule: true,
  factorized_phm_rule: false,
  shared_W_phm: false,
  factorized_phm_W: true,
  phm_c_init: "normal",
  phm_init_range: 0.0001,
  hypercomplex_nonlinearity: "glorot-uniform",
};
const doubleSeqBn = { ...seqBn, mh_adapter: true, original_ln_before: false, non_linearity: "swish" };
const parBn = { ...seqBn, is_parallel: true, original_ln_before: false, reduction_factor: 2, init_weights: "mam_adapter", scaling: 4 };
const compacterPlusPlus = { ...seqBn, phm_layer: true, reduction_factor: 32, non_linearity: "gelu" };
const nice = { inv_adapter: "nice", inv_adapter_reduction_factor: 2 };

describe("the config", () => {
  it("has all fields of BnConfig, with the values of seq_bn", () => {
    expect(configOf({})).toEqual(seqBn);
  });

  it.each([
    [["seq_bn", "pfeiffer"], seqBn],
    [["double_seq_bn", "houlsby"], doubleSeqBn],
    [["par_bn", "parallel"], parBn],
    [["scaled_par_bn", "scaled_parallel"], { ...parBn, scaling: "learned" }],
    [["seq_bn_inv", "pfeiffer+inv"], { ...seqBn, ...nice }],
    [["double_seq_bn_inv", "houlsby+inv"], { ...doubleSeqBn, ...nice }],
    [["compacter++"], compacterPlusPlus],
    [["compacter"], { ...compacterPlusPlus, mh_adapter: true, original_ln_before: false }],
  ])("has AdapterHub's preset %j, which --method takes", (names, fields) => {
    for (const name of names) {
      const { method, preset } = methodChoice(name);
      expect(method.name).toBe("bottleneck");
      expect(configOf(preset), name).toEqual(fields);
    }
  });

  it("has no other presets", () => {
    expect(Object.keys(bottleneckPresets)).toHaveLength(14);
  });

  it.each([
    [{ reduction_factor: 0 }, "reduction_factor"],
    [{ reduction_factor: { "0": -1 } }, "reduction_factor"],
    [{ scaling: "some" }, "scaling"],
    [{ init_weights: "xavier" }, "init_weights"],
    [{ residual_before_ln: "pre_add" }, "residual_before_ln"],
    [{ inv_adapter: "realnvp" }, "inv_adapter"],
    [{ leave_out: [-1] }, "leave_out"],
    [{ leave_out: null }, "leave_out"],
    [{ dropout: 1 }, "dropout"],
    [{ phm_dim: 0 }, "phm_dim"],
    [{ phm_c_init: "xavier" }, "phm_c_init"],
    [{ lora_alpha: 8 }, "lora_alpha"],
  ])("refuses %j by name", async (fields, name) => {
    const error = await failure(() => configOf(fields));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(`bottleneck option "${name}`);
  });

  it("refuses what contradicts itself, or cannot be computed", () => {
    expect(() => configOf({ residual_before_ln: "post_add", original_ln_before: false })).toThrow(/"post_add" needs original_ln_before/);
    expect(() => configOf({ inv_adapter: "nice" })).toThrow(/inv_adapter needs inv_adapter_reduction_factor/);
    expect(() => configOf({ inv_adapter: "glow", inv_adapter_reduction_factor: 2 })).toThrow(/"glow" is not supported.*Use "nice"/);
  });
});

describe("an activation", () => {
  it.each(["relu", "ReLU", "LeakyReLU", "leakyrelu", "gelu", "gelu_new", "swish", "SiLU", "tanh"])(
    "%s is one of AdapterHub's names",
    (name) => {
      expect(adapterActivation(name)).toBeTypeOf("function");
    },
  );

  it("that is none is refused by name", () => {
    expect(() => adapterActivation("Softmax")).toThrow(/softmax/);
  });
});
