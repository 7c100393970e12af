import { afterAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { parseOptions } from "../core/options.js";
import { ConfigError } from "../errors.js";
import { tabulate } from "../ops/reference.fixture.js";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { methodChoice, methodOfType } from "./index.js";
import type { Method } from "./method.js";
import { pTuning } from "./p-tuning.js";
import { prefixTuning } from "./prefix-tuning.js";
import { promptSites, runTokens } from "./prompt-methods.fixture.js";
import { promptTuning } from "./prompt-tuning.js";

const runtime = testRuntime();
afterAll(() => runtime.close());
const planOf = (method: Method, fields: object) => {
  const config = parseOptions(`${method.name} option`, method.config, fields);
  return { config, plan: method.plan(promptSites, config, "user", []) };
};

describe.each([
  [promptTuning, "PROMPT_TUNING", { virtualTokens: 7, positionOffset: 0 }],
  [pTuning, "P_TUNING", { virtualTokens: 7, positionOffset: 0 }],
  [prefixTuning, "PREFIX_TUNING", { virtualTokens: 0, positionOffset: 7 }],
])("$name", (method, type, layout) => {
  it("is found by its peft_type, and tells the collator where the texts begin", () => {
    expect(methodOfType(type)).toBe(method);
    expect(method.layout!(planOf(method, { num_virtual_tokens: 7 }).config)).toEqual(layout);
  });

  it("fills in the model's sizes for the published config", () => {
    const { config, plan } = planOf(method, {});
    expect(method.files.publish(config, plan, "base")).toMatchObject({
      num_virtual_tokens: 20,
      num_layers: 2,
      num_attention_heads: 2,
      token_dim: 4,
      num_transformer_submodules: 1,
    });
  });

  it("takes them where they agree, and lists those that do not", async () => {
    expect(() => planOf(method, { num_layers: 2, num_attention_heads: 2, token_dim: 4 })).not.toThrow();
    const error = await failure(() => planOf(method, { num_layers: 12, num_attention_heads: 2, token_dim: 768 }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe("num_layers is 12, this model has 2; token_dim is 768, this model has 4");
    expect(error.hint).toContain("leave these fields out");
  });

  it.each([{ num_virtual_tokens: 0 }, { num_virtual_tokens: 2.5 }, { target_modules: ["query"] }, { r: 8 }])(
    "refuses %j by name",
    async (fields) => {
      const error = await failure(() => planOf(method, fields));
      expect(error).toBeInstanceOf(ConfigError);
      expect(error.message).toContain(`${method.name} option "${Object.keys(fields)[0]}"`);
    },
  );

  it("names its tensor without a prefix, and the head's with PEFT's", () => {
    const { plan } = planOf(method, {});
    expect(method.files.key("prompt_embeddings", plan)).toBe("prompt_embeddings");
    expect(method.files.key("classifier.weight", plan)).toBe("base_model.classifier.weight");
  });
});

it("prompt tuning trains the virtual tokens themselves", async () => {
  const { output, shapes, param, published } = await runTokens(runtime, promptTuning, {});
  expect(shapes).toEqual({ prompt_embeddings: [2, 4] });
  expectClose(output, tabulate([2, 4], param("prompt_embeddings")), 0);
  expect(published).toEqual([]);
});

it("are chosen by PEFT's short names too", () => {
  expect(methodChoice("prompt").method).toBe(promptTuning);
  expect(methodChoice("prefix").method).toBe(prefixTuning);
});
