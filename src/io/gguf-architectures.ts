/** How an architecture's tensors and config fields are called in GGUF and in Hugging Face's checkpoints. */
export interface GgufArchitecture {
  /** `model_type` of config.json, and transformers' class for language modelling. */
  readonly modelType: string;
  readonly className: string;
  /** Modules beside the layers. */
  readonly modules: Readonly<Record<string, string>>;
  /** Where the layers stand: `model.layers`. */
  readonly layers: string;
  /** Modules of a layer. */
  readonly layer: Readonly<Record<string, string>>;
  /** Modules of a layer whose matrices Hugging Face stores as [in, out]. */
  readonly transposed: readonly string[];
  /**
   * Modules of a layer whose rows llama.cpp reorders, with the field that counts their heads: it turns neighbours (2i, 2i + 1) in each head
   * where Hugging Face turns (i, i + K/2).
   */
  readonly reordered: Readonly<Record<string, "head_count" | "head_count_kv">>;
  /** Names of config.json's fields. */
  readonly fields: Readonly<Record<GgufField, string>>;
  /** Fields of config.json that the file does not state. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Rotary positions: the file must say how they are scaled. */
  readonly rotary: boolean;
  /** A tensor of the first layer that only files of models with biases have, where config.json has a field for it. */
  readonly biases?: string;
}

/** The metadata fields that are read, after `<architecture>.`. */
export type GgufField =
  | "context_length"
  | "block_count"
  | "embedding_length"
  | "feed_forward_length"
  | "head_count"
  | "head_count_kv"
  | "epsilon";

const llamaLayer = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

const llama: GgufArchitecture = {
  modelType: "llama",
  className: "LlamaForCausalLM",
  modules: { token_embd: "model.embed_tokens", output_norm: "model.norm", output: "lm_head" },
  layers: "model.layers",
  layer: llamaLayer,
  transposed: [],
  reordered: { attn_q: "head_count", attn_k: "head_count_kv" },
  fields: {
    context_length: "max_position_embeddings",
    block_count: "num_hidden_layers",
    embedding_length: "hidden_size",
    feed_forward_length: "intermediate_size",
    head_count: "num_attention_heads",
    head_count_kv: "num_key_value_heads",
    epsilon: "rms_norm_eps",
  },
  config: { hidden_act: "silu" },
  rotary: true,
  biases: "attn_q.bias",
};

/** Qwen's are Llama's, their rows in Hugging Face's order. */
const { biases: _, ...unbiased } = llama;
const qwen2: GgufArchitecture = {
  ...unbiased,
  modelType: "qwen2",
  className: "Qwen2ForCausalLM",
  reordered: {},
  config: { hidden_act: "silu", use_sliding_window: false },
};

const qwen3: GgufArchitecture = {
  ...qwen2,
  modelType: "qwen3",
  className: "Qwen3ForCausalLM",
  layer: { ...llamaLayer, attn_q_norm: "self_attn.q_norm", attn_k_norm: "self_attn.k_norm" },
  config: { ...qwen2.config, attention_bias: false },
};

const gpt2: GgufArchitecture = {
  modelType: "gpt2",
  className: "GPT2LMHeadModel",
  modules: { token_embd: "transformer.wte", position_embd: "transformer.wpe", output_norm: "transformer.ln_f", output: "lm_head" },
  layers: "transformer.h",
  layer: {
    attn_norm: "ln_1",
    attn_qkv: "attn.c_attn",
    attn_output: "attn.c_proj",
    ffn_norm: "ln_2",
    ffn_up: "mlp.c_fc",
    ffn_down: "mlp.c_proj",
  },
  transposed: ["attn_qkv", "attn_output", "ffn_up", "ffn_down"],
  reordered: {},
  fields: {
    context_length: "n_positions",
    block_count: "n_layer",
    embedding_length: "n_embd",
    feed_forward_length: "n_inner",
    head_count: "n_head",
    head_count_kv: "", // one of its own for each head
    epsilon: "layer_norm_epsilon",
  },
  config: { activation_function: "gelu_new" },
  rotary: false,
};

/** The architectures that are read, by `general.architecture`. Mistral's files say llama. A new one is a record here. */
export const ggufArchitectures: Readonly<Record<string, GgufArchitecture>> = { llama, mistral: llama, qwen2, qwen3, gpt2 };

/** Hugging Face's path of a GGUF tensor, and how its numbers stand; undefined for one that the architecture does not have. */
export function ggufPath(
  { modules, layers, layer, transposed, reordered }: GgufArchitecture,
  name: string,
): { readonly path: string; readonly transposed: boolean; readonly heads: "head_count" | "head_count_kv" | undefined } | undefined {
  const match = /^(?:blk\.(?<block>\d+)\.)?(?<module>\w+)\.(?<kind>weight|bias)$/.exec(name)?.groups;
  const { block, module = "", kind } = match ?? {};
  const names = block === undefined ? modules : layer;
  if (match === undefined || !Object.hasOwn(names, module)) return undefined;
  const own = block === undefined ? [] : transposed;
  return {
    path: `${block === undefined ? "" : `${layers}.${block}.`}${names[module]}.${kind}`,
    transposed: kind === "weight" && own.includes(module),
    heads: block === undefined ? undefined : reordered[module],
  };
}

/** The GGUF tensor of one of Hugging Face's paths, and the heads by which its rows are reordered; undefined for a path that the architecture does not have. */
export function ggufName(
  { modules, layers, layer, reordered }: GgufArchitecture,
  path: string,
): { readonly name: string; readonly heads: "head_count" | "head_count_kv" | undefined } | undefined {
  const match = /^(?<module>.+)\.(?<kind>weight|bias)$/.exec(path)?.groups;
  const inLayer = path.startsWith(`${layers}.`)
    ? /^(?<block>\d+)\.(?<module>.+)$/.exec(match?.module?.slice(layers.length + 1) ?? "")?.groups
    : undefined;
  const wanted = inLayer?.module ?? match?.module;
  const found = Object.entries(inLayer === undefined ? modules : layer).find(([, each]) => each === wanted)?.[0];
  if (found === undefined) return undefined;
  const name = `${inLayer === undefined ? "" : `blk.${inLayer.block}.`}${found}.${match!.kind}`;
  return { name, heads: inLayer === undefined ? undefined : reordered[found] };
}
