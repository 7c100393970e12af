import { expect, it } from "vitest";
import { tinyFamilies } from "../../test/tiny-model.fixture.js";
import { gpt2 } from "./gpt2.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";

it.each([
  [
    gpt2,
    { scale_attn_weights: false, scale_attn_by_inverse_layer_idx: true },
    /scale_attn_weights: false, scale_attn_by_inverse_layer_idx: true/,
  ],
  [gpt2, { n_head: 3 }, /n_embd 16 is not a multiple of n_head 3/],
  [gpt2, { activation_function: "gelo" }, /activation "gelo" is not supported/],
  [llama, { num_key_value_heads: 3 }, /num_attention_heads 4 is not a multiple of num_key_value_heads 3/],
  [llama, { head_dim: 5 }, /head_dim 5 is odd/],
  [llama, { rope_scaling: { rope_type: "longrope" } }, /rope_type "longrope"/],
  [llama, { vocab_size: "many" }, /config.json of this Llama model does not fit:\n {2}vocab_size/],
] as const)("%o with %j is refused by name", (family, fields, error) => {
  const type = family.model_types[0] as "gpt2" | "llama";
  expect(() => family.parse({ ...tinyFamilies[type].config, ...fields })).toThrow(error);
});

it("windows are those of transformers", () => {
  const own = { use_sliding_window: true, sliding_window: 6 };
  const windows = (family: typeof qwen2, fields: object): readonly (number | null)[] => {
    const config = family.parse({ ...tinyFamilies.qwen2.config, num_hidden_layers: 3, ...fields });
    return [0, 1, 2].map((layer) => config.window(layer));
  };
  expect(windows(qwen2, { sliding_window: 6 })).toEqual([null, null, null]);
  expect(windows(qwen2, { ...own, max_window_layers: 1 })).toEqual([null, 6, 6]);
  const layer_types = ["sliding_attention", "full_attention", "sliding_attention"];
  expect(windows(qwen3, { ...own, layer_types })).toEqual([6, null, 6]);
  expect(windows(mistral, {})).toEqual([4096, 4096, 4096]);
  expect(windows(mistral, { sliding_window: null })).toEqual([null, null, null]);
  expect(windows(llama, own)).toEqual([null, null, null]);
});
