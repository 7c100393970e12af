/** A model of BERT-base's shape with random weights, and rows that fill a batch to its last place: what speed depends on, without a download. */
import { copyFile, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { built } from "./built.js";

/** What BERT-base measures. */
const base = { hidden: 768, layers: 12, heads: 12, inner: 3072, positions: 512 };
/** Rows that are made: more than the steps of a few rounds use. */
const rows = 320;

/** @typedef {typeof base} Shape */

/**
 * Writes `model/`, with the tokenizer of another BERT, and `rows/` with train.jsonl and test.jsonl into a folder.
 * @param {string} folder
 * @param {string} tokenizerFrom folder of a BERT
 * @param {Shape} [shape] a smaller one in tests
 */
export async function writeBertBase(folder, tokenizerFrom, shape = base) {
  const { fillNormal, keyOf } = /** @type {typeof import("../src/core/random.js")} */ (await built("core/random.js"));
  const { f32, sizeOf } = /** @type {typeof import("../src/core/tensor.js")} */ (await built("core/tensor.js"));
  const { streamSafetensors } = /** @type {typeof import("../src/io/safetensors.js")} */ (await built("io/safetensors.js"));
  const model = join(folder, "model");
  await mkdir(model);
  for (const name of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"])
    if (await stat(join(tokenizerFrom, name)).catch(() => undefined)) await copyFile(join(tokenizerFrom, name), join(model, name));
  const tokens = Object.keys(JSON.parse(await readFile(join(tokenizerFrom, "tokenizer.json"), "utf8")).model.vocab);
  await writeFile(join(model, "config.json"), JSON.stringify(config(tokens.length, shape)));

  const shapes = new Map(
    Object.entries(weights(tokens.length, shape)).map(([name, shape]) => [name, /** @type {const} */ ({ dtype: "F32", shape })]),
  );
  const read = async (/** @type {string} */ name) => {
    const { data } = f32(new Float32Array(sizeOf(shapes.get(name)?.shape ?? [])));
    if (name.endsWith("LayerNorm.weight")) data.fill(1);
    else if (name.endsWith(".weight")) {
      fillNormal(data.subarray(0, block), keyOf(0, "bert-base", name), 0, 0.02);
      for (let at = block; at < data.length; at += block) data.copyWithin(at, 0, Math.min(block, data.length - at));
    }
    return new Uint8Array(data.buffer);
  };
  await writeFile(join(model, "model.safetensors"), streamSafetensors(shapes, read));
  await writeRows(join(folder, "rows"), tokens, rows, shape.positions);
}

/** Numbers that are drawn for a matrix, and then repeated. */
const block = 2 ** 16;

/**
 * @param {number} vocabulary
 * @param {Shape} shape
 */
const config = (vocabulary, { hidden, layers, heads, inner, positions }) => ({
  ...{ model_type: "bert", architectures: ["BertModel"], vocab_size: vocabulary, type_vocab_size: 2, pad_token_id: 0 },
  ...{ hidden_size: hidden, num_hidden_layers: layers, num_attention_heads: heads, intermediate_size: inner },
  ...{ hidden_act: "gelu", layer_norm_eps: 1e-12, max_position_embeddings: positions, initializer_range: 0.02 },
  ...{ hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1 },
});

/**
 * The tensors of a BertModel by name.
 * @param {number} vocabulary
 * @param {Shape} shape
 * @returns {Record<string, readonly number[]>}
 */
function weights(vocabulary, { hidden, layers, inner, positions }) {
  const dense = (/** @type {string} */ name, /** @type {number} */ to, /** @type {number} */ from) => ({
    [`${name}.weight`]: [to, from],
    [`${name}.bias`]: [to],
  });
  const norm = (/** @type {string} */ name) => ({ [`${name}.LayerNorm.weight`]: [hidden], [`${name}.LayerNorm.bias`]: [hidden] });
  const all = Array.from({ length: layers }, (_, i) => `encoder.layer.${i}`).flatMap((layer) => [
    ...["query", "key", "value"].map((name) => dense(`${layer}.attention.self.${name}`, hidden, hidden)),
    { ...dense(`${layer}.attention.output.dense`, hidden, hidden), ...norm(`${layer}.attention.output`) },
    {
      ...dense(`${layer}.intermediate.dense`, inner, hidden),
      ...dense(`${layer}.output.dense`, hidden, inner),
      ...norm(`${layer}.output`),
    },
  ]);
  return Object.assign(
    {
      "embeddings.word_embeddings.weight": [vocabulary, hidden],
      "embeddings.position_embeddings.weight": [positions, hidden],
      "embeddings.token_type_embeddings.weight": [2, hidden],
      ...norm("embeddings"),
      ...dense("pooler.dense", hidden, hidden),
    },
    ...all,
  );
}

/**
 * Writes rows of so many words, each of them one token, with two labels in turn; cut at a length, all have exactly that length.
 * @param {string} folder
 * @param {readonly string[]} tokens of a BERT's vocabulary
 * @param {number} rows
 * @param {number} words
 */
export async function writeRows(folder, tokens, rows, words) {
  const whole = tokens.filter((token) => /^[a-z]{2,}$/.test(token));
  const row = (/** @type {number} */ i) => ({
    text: Array.from({ length: words }, (_, j) => whole[(i * 7919 + j * 104729) % whole.length]).join(" "),
    label: i % 2 === 0 ? "even" : "odd",
  });
  await mkdir(folder, { recursive: true });
  const lines = Array.from({ length: rows }, (_, i) => `${JSON.stringify(row(i))}\n`);
  await writeFile(join(folder, "train.jsonl"), lines.join(""));
  await writeFile(join(folder, "test.jsonl"), lines.slice(0, 32).join(""));
}
