import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { parseOptions } from "../core/options.js";
import { AttachError, ConfigError } from "../errors.js";
import { methodNamed, methodOfType } from "./index.js";
import { type LoraConfig, lora } from "./lora.js";
import type { LinearRole, Sites } from "./method.js";

const linear = (path: string, role: LinearRole) => ({ path, role, inFeatures: 4, outFeatures: 4, bias: true });
const sites: Sites = {
  linears: [0, 1].flatMap((i) => [
    linear(`bert.encoder.layer.${i}.attention.self.query`, "query"),
    linear(`bert.encoder.layer.${i}.attention.self.key`, "key"),
    linear(`bert.encoder.layer.${i}.attention.self.value`, "value"),
  ]),
  tables: [
    { path: "bert.embeddings.word_embeddings", role: "embedding", inFeatures: 9, outFeatures: 4 },
    { path: "bert.embeddings.position_embeddings", role: "embedding", inFeatures: 7, outFeatures: 4 },
  ],
  outputTables: [],
  sublayers: [],
  tokens: [],
  embeddings: [],
  attentions: [],
  weights: [],
  headModules: ["classifier"],
};
const [query0, value0, query1, value1] = [
  "0.attention.self.query",
  "0.attention.self.value",
  "1.attention.self.query",
  "1.attention.self.value",
].map((name) => `bert.encoder.layer.${name}`) as [string, string, string, string];

const configOf = (fields: object): LoraConfig => parseOptions("lora option", lora.config, fields);
const planOf = (fields: object) => lora.plan(sites, configOf(fields), "user", []);

describe("the config", () => {
  it("has PEFT's defaults", () => {
    expect(configOf({})).toEqual({
      r: 8,
      lora_alpha: 8,
      lora_dropout: 0,
      target_modules: null,
      exclude_modules: null,
      use_rslora: false,
      init_lora_weights: true,
      lora_bias: false,
      use_dora: false,
      rank_pattern: {},
      alpha_pattern: {},
      bias: "none",
      layers_to_transform: null,
      layers_pattern: null,
      modules_to_save: null,
      loraplus_lr_ratio: 1,
    });
  });

  it("names unknown fields with the nearest known one", async () => {
    const error = await failure(() => configOf({ lora_alhpa: 16, rank: 4 }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain('lora option "lora_alhpa" is not known');
    expect(error.message).toContain('lora option "rank" is not known');
    expect(error.hint).toContain('did you mean "lora_alpha"');
  });

  it.each([
    [{ r: 0 }, "r"],
    [{ r: 2.5 }, "r"],
    [{ lora_alpha: 0 }, "lora_alpha"],
    [{ lora_dropout: 1 }, "lora_dropout"],
    [{ lora_dropout: -0.1 }, "lora_dropout"],
    [{ bias: "some" }, "bias"],
    [{ rank_pattern: { query: 0 } }, "rank_pattern"],
    [{ layers_to_transform: [-1] }, "layers_to_transform"],
    [{ target_modules: 3 }, "target_modules"],
    [{ init_lora_weights: "olora" }, "init_lora_weights"],
    [{ init_lora_weights: "pissa_niter_" }, "init_lora_weights"],
    [{ loraplus_lr_ratio: 0 }, "loraplus_lr_ratio"],
  ])("refuses %j", async (fields, name) => {
    const error = await failure(() => configOf(fields));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(`lora option "${name}`);
  });

  it("names the starts there are", async () => {
    const error = await failure(() => configOf({ init_lora_weights: "eva" }));
    for (const name of ["true", "false", "gaussian", "orthogonal", "pissa", "pissa_niter_K"]) expect(error.hint).toContain(name);
  });

  it("refuses lora_bias where PEFT does", () => {
    expect(() => configOf({ lora_bias: true, use_dora: true })).toThrow(/lora_bias does not go with use_dora/);
    expect(() => configOf({ lora_bias: true, init_lora_weights: "gaussian" })).toThrow(
      /lora_bias needs init_lora_weights to be true or false/,
    );
  });

  it("refuses layer fields that contradict each other, as PEFT", () => {
    expect(() => configOf({ layers_to_transform: 1, target_modules: ".*query" })).toThrow(
      /layers_to_transform needs target_modules to be a list/,
    );
    expect(() => configOf({ layers_pattern: "layer" })).toThrow(/layers_pattern needs layers_to_transform/);
    expect(configOf({ layers_to_transform: 1 }).layers_to_transform).toBe(1);
    expect(configOf({ layers_pattern: [] }).layers_pattern).toEqual([]); // older files have it
  });
});

describe("the plan", () => {
  it("scales by alpha / r", () => {
    expect([...planOf({ r: 4, lora_alpha: 6 }).targets]).toEqual(
      [query0, value0, query1, value1].map((path) => [path, { r: 4, scaling: 1.5 }]),
    );
  });

  it("scales by alpha / √r with use_rslora", () => {
    expect(planOf({ r: 16, lora_alpha: 6, use_rslora: true }).targets.get(query0)).toEqual({ r: 16, scaling: 1.5 });
  });

  it("follows rank_pattern and alpha_pattern, each by itself", () => {
    const fields = { r: 4, lora_alpha: 8, rank_pattern: { query: 2 }, alpha_pattern: { "layer.1.*": 12 } };
    expect(Object.fromEntries(planOf(fields).targets)).toEqual({
      [query0]: { r: 2, scaling: 4 },
      [value0]: { r: 4, scaling: 2 },
      [query1]: { r: 2, scaling: 6 },
      [value1]: { r: 4, scaling: 3 },
    });
    expect(planOf({ ...fields, use_rslora: true }).targets.get(query1)!.scaling).toBeCloseTo(12 / Math.sqrt(2), 12);
  });

  it("refuses targets that match nothing", () => {
    expect(() => planOf({ target_modules: ["q_proj"] })).toThrow(AttachError);
  });

  it("refuses patterns that match no target, which files may have", () => {
    expect(() => planOf({ rank_pattern: { key: 2, query: 3 } })).toThrow(/rank_pattern: "key" match none of the adapted layers/);
    expect(() => planOf({ alpha_pattern: { "layer.0": 2 } })).toThrow(/alpha_pattern: "layer.0"/);
    expect(lora.plan(sites, configOf({ rank_pattern: { key: 2 } }), "file", []).targets.size).toBe(4);
  });

  it("refuses ranks from which a start cannot be made, all at once", async () => {
    const odd = await failure(() => planOf({ init_lora_weights: "orthogonal", r: 3, rank_pattern: { value: 2 } }));
    expect(odd).toBeInstanceOf(ConfigError);
    expect(odd.message).toContain(`${query0}: orthogonal needs an even rank, not 3`);
    expect(odd.message).toContain(query1);
    expect(odd.message).not.toContain(value0);
    expect(() => planOf({ init_lora_weights: "pissa", r: 5 })).toThrow(/rank 5, but its weight has 4/);
    const tied: Sites = { ...sites, linears: [{ ...linear("lm_head", "head"), tied: "model.embed_tokens.weight" }] };
    expect(() => lora.plan(tied, configOf({ init_lora_weights: "pissa", target_modules: ["lm_head"], r: 2 }), "file", [])).toThrow(
      /does not go with lm_head, which shares its weight with the embeddings/,
    );
    expect(() => planOf({ init_lora_weights: false, use_dora: true })).toThrow(/use_dora needs init_lora_weights other than false/);
  });
});

describe("embedding tables", () => {
  const words = "bert.embeddings.word_embeddings";

  it("are adapted where they are named, and by nothing else", () => {
    const plan = planOf({ target_modules: ["word_embeddings", "query"], r: 4, lora_alpha: 6, rank_pattern: { word_embeddings: 2 } });
    expect([...plan.tables]).toEqual([[words, { r: 2, scaling: 3 }]]);
    expect([...plan.targets.keys()]).toEqual([query0, query1]);
    expect(plan.names).toEqual(["query", "word_embeddings"]);
    for (const fields of [
      {},
      { target_modules: "all-linear" },
      { target_modules: ".*embeddings|.*query", exclude_modules: ["word_embeddings", "position_embeddings"] },
    ])
      expect(planOf(fields).tables.size).toBe(0);
    expect(planOf({ target_modules: ".*_embeddings" }).tables.size).toBe(2);
    expect(planOf({ target_modules: ["word_embeddings", "query"], layers_to_transform: 1 }).tables.size).toBe(0); // as in PEFT: it is in no layer
    expect(planOf({ target_modules: [words, "query"], layers_to_transform: 1 }).tables.size).toBe(1);
  });

  it("have no biases, as in PEFT", () => {
    expect(() => planOf({ target_modules: ["word_embeddings"], lora_bias: true })).toThrow(
      /lora_bias does not go with embedding tables: bert/,
    );
  });

  it("are among the names that a message offers", async () => {
    const error = await failure(() => planOf({ target_modules: ["word_embedding"] }));
    expect(error.message).toContain("match no linear layer or embedding table");
    expect(error.hint).toContain(`${words} (embedding)`);
  });

  it("keep the base's weights, where a file holds them, within the wrapped layer", () => {
    const plan = planOf({ target_modules: ["word_embeddings"] });
    expect(lora.files.key(`${words}.weight`, plan)).toBe(`base_model.model.${words}.base_layer.weight`);
    expect(lora.files.key(`${words}.lora_embedding_A`, plan)).toBe(`base_model.model.${words}.lora_embedding_A`);
  });
});

describe("LoRA+", () => {
  it("speeds up B, biases and norms, as create_loraplus_optimizer does", () => {
    const scaleOf = (path: string, shape: readonly number[]) => lora.lrScale!({ path, shape }, configOf({ loraplus_lr_ratio: 16 }));
    expect(scaleOf(`${query0}.lora_B.weight`, [4, 8])).toBe(16);
    expect(scaleOf("classifier.bias", [3])).toBe(16);
    expect(scaleOf(`${query0}.lora_A.weight`, [8, 4])).toBe(1);
    expect(scaleOf("classifier.weight", [3, 4])).toBe(1);
    for (const part of ["A", "B"]) expect(scaleOf(`bert.embeddings.word_embeddings.lora_embedding_${part}`, [4, 8])).toBe(1);
  });
});

describe("biases", () => {
  const trained = (bias: string, path: string): boolean => lora.trains!({ path, shape: [4] }, planOf({ bias }), configOf({ bias }));

  it.each([
    ["none", false, false, false],
    ["lora_only", true, false, false],
    ["all", true, true, true],
  ])("%s", (bias, adapted, other, norm) => {
    expect(trained(bias, `${query0}.bias`)).toBe(adapted);
    expect(trained(bias, "bert.encoder.layer.0.attention.self.key.bias")).toBe(other);
    expect(trained(bias, "bert.embeddings.LayerNorm.bias")).toBe(norm);
    expect(trained(bias, `${query0}.weight`)).toBe(false);
  });

  it("of adapted layers are published under the wrapped layer", () => {
    const plan = planOf({ bias: "all" });
    const wrapped = (path: string): string => `base_model.model.${path}`;
    expect(lora.files.key(`${query0}.bias`, plan)).toBe(wrapped(`${query0}.base_layer.bias`));
    for (const path of ["bert.encoder.layer.0.attention.self.key.bias", `${query0}.lora_A.weight`, "classifier.weight"])
      expect(lora.files.key(path, plan)).toBe(wrapped(path));
  });
});

describe("the published config", () => {
  const publish = (fields: object) => lora.files.publish(configOf(fields), planOf(fields), "org/base");

  it("names the targets", () => {
    expect(publish({ r: 3 })).toMatchObject({ r: 3, target_modules: ["query", "value"], fan_in_fan_out: false, init_lora_weights: true });
    expect(publish({ target_modules: "all-linear" }).target_modules).toEqual(["key", "query", "value"]);
    expect(publish({ target_modules: "ALL-linear" }).target_modules).toEqual(["key", "query", "value"]);
    expect(publish({ layers_to_transform: [1] }).target_modules).toEqual([query1, value1]);
  });

  it("is plain LoRA of twice the rank for an update that was taken out of the base", () => {
    const fields = { init_lora_weights: "pissa", r: 4, lora_alpha: 6, rank_pattern: { query: 2 }, alpha_pattern: { value: 3 } };
    const plain = { init_lora_weights: true, r: 8, rank_pattern: { query: 4 } };
    expect(publish(fields)).toMatchObject({ ...plain, lora_alpha: 12, alpha_pattern: { value: 6 } });
    const rooted = publish({ ...fields, use_rslora: true }) as unknown as LoraConfig;
    expect(rooted).toMatchObject(plain);
    expect(rooted.lora_alpha / Math.sqrt(8)).toBeCloseTo(6 / Math.sqrt(4), 12);
    expect(rooted.alpha_pattern.value! / Math.sqrt(8)).toBeCloseTo(3 / Math.sqrt(4), 12);
  });

  it("says how the update began otherwise, and nothing of how it was trained", () => {
    expect(publish({ init_lora_weights: "gaussian", loraplus_lr_ratio: 4 })).toMatchObject({ init_lora_weights: "gaussian" });
    expect(publish({ loraplus_lr_ratio: 4 })).not.toHaveProperty("loraplus_lr_ratio");
    expect(publish({})).not.toHaveProperty("lora_bias");
    expect(publish({ lora_bias: true })).toHaveProperty("lora_bias", true);
  });

  it("keeps a regular expression", () => {
    expect(publish({ target_modules: ".*query" }).target_modules).toBe(".*query");
  });
});

describe("the registry", () => {
  it("finds it by name and by peft_type", () => {
    expect(methodNamed("lora")).toBe(lora);
    expect(methodOfType("LORA")).toBe(lora);
  });

  it("lists what there is", async () => {
    const error = await failure(() => methodNamed("lroa"));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('method "lroa" is not supported');
    expect(error.hint).toContain('did you mean "lora"');
    expect((await failure(() => methodOfType("OFT"))).hint).toContain("LORA");
  });
});
