import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { parseOptions } from "../core/options.js";
import { AttachError, ConfigError } from "../errors.js";
import { bitfit } from "./bitfit.js";
import { methodOfType } from "./index.js";
import type { Sites } from "./method.js";
import { bertRoles, layerSites } from "./sublayer.fixture.js";

const layer = "bert.encoder.layer.0";
const weight = (path: string) => ({ path, shape: [4] });
const sites: Sites = {
  ...layerSites(1, 4),
  weights: [
    ...Object.keys(bertRoles).flatMap((name) => [weight(`${layer}.${name}.weight`), weight(`${layer}.${name}.bias`)]),
    ...["bert.embeddings.LayerNorm", `${layer}.output.LayerNorm`].flatMap((name) => [weight(`${name}.weight`), weight(`${name}.bias`)]),
  ],
};
const configOf = (fields: object) => parseOptions("bitfit option", bitfit.config, fields);
const trainedBy = (fields: object, on = sites): readonly string[] => {
  const config = configOf(fields);
  const plan = bitfit.plan(on, config, "user", []);
  return on.weights.filter((each) => bitfit.trains!(each, plan, config)).map(({ path }) => path);
};

describe("bitfit", () => {
  it("trains all biases, the norms' too, and no weight", () => {
    expect(trainedBy({})).toEqual([
      ...Object.keys(bertRoles).map((name) => `${layer}.${name}.bias`),
      "bert.embeddings.LayerNorm.bias",
      `${layer}.output.LayerNorm.bias`,
    ]);
  });

  it("trains the paper's half: of queries and of the first feed-forward layer", () => {
    expect(trainedBy({ biases: "query-and-up" })).toEqual([`${layer}.attention.self.query.bias`, `${layer}.intermediate.dense.bias`]);
  });

  it("trains the norms' weights instead where it is told so", () => {
    expect(trainedBy({ train: "norms" })).toEqual(["bert.embeddings.LayerNorm.weight", `${layer}.output.LayerNorm.weight`]);
    const llama = {
      ...sites,
      weights: [weight("model.layers.0.input_layernorm.weight"), weight("model.norm.weight"), weight("lm_head.weight")],
    };
    expect(trainedBy({ train: "norms" }, llama)).toEqual(["model.layers.0.input_layernorm.weight", "model.norm.weight"]);
  });

  it("refuses a model without biases, and says what could be trained instead", async () => {
    const bare = { ...sites, weights: sites.weights.filter(({ path }) => path.endsWith("weight")) };
    const error = await failure(() => trainedBy({}, bare));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toBe("this model has no biases to train");
    expect(error.hint).toMatch(/--set train=norms .*lora or ia3/);
    const nothing = await failure(() => trainedBy({ train: "norms" }, { ...sites, weights: [] }));
    expect(nothing.message).toBe("this model has no norms to train");
    expect(nothing.hint).toBe("choose lora or ia3");
  });

  it.each([
    [{ train: "all" }, "train"],
    [{ biases: "some" }, "biases"],
    [{ bias: "all" }, "bias"],
  ])("refuses %j by name", async (fields, name) => {
    const error = await failure(() => configOf(fields));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(`bitfit option "${name}"`);
  });

  it("publishes each bias under the base's own name", () => {
    expect(methodOfType("BITFIT")).toBe(bitfit);
    const plan = bitfit.plan(sites, configOf({}), "user", []);
    expect(bitfit.files.key(`${layer}.intermediate.dense.bias`, plan)).toBe(`${layer}.intermediate.dense.bias`);
    expect(bitfit.files.publish(configOf({}), plan, "base")).toEqual({ train: "biases", biases: "all", modules_to_save: null });
  });
});
