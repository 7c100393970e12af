/**
 * What is measured: each method on each data set, with batches of similar and of random lengths; and a language model on prompts with
 * completions, its layers' values kept and recomputed; a model of BERT-base's shape on full rows. On our side also with frozen matrices in 8 bits,
 * against the peer in float32 or in bfloat16 autocast. Otherwise both programs get the same settings.
 *
 * @typedef {object} Case
 * @property {string} name data/method/batching
 * @property {"encoder" | "decoder" | "bert-base"} kind which model it is run on; the last one is made for the bench, with its rows
 * @property {string} data name of a folder with train.jsonl and test.jsonl
 * @property {Sizes} sizes unless flags say otherwise
 * @property {"peft" | "adapters"} library the Python library that has the method
 * @property {readonly string[]} ours flags of `peft train`
 * @property {readonly string[]} peer flags of hf_peft.py
 *
 * @typedef {object} Sizes
 * @property {number} batch rows in a batch
 * @property {number} maxLength longest text in tokens
 * @property {number} steps optimiser steps of a run that is only timed
 */

const virtual = "num_virtual_tokens=20";
const lora = "r=8,lora_alpha=16,lora_dropout=0";

/** Methods, with the learning rate that suits each on a small encoder. */
const methods = [
  { method: "lora", peer: "lora", rate: "2e-3", set: `${lora},target_modules=query,value` },
  { method: "dora", peer: "dora", rate: "2e-3", set: `${lora},target_modules=query,value` },
  { method: "seq_bn", peer: "seq_bn", rate: "2e-3" },
  { method: "double_seq_bn", peer: "double_seq_bn", rate: "2e-3" },
  { method: "par_bn", peer: "par_bn", rate: "2e-3" },
  { method: "prefix", peer: "prefix", rate: "1e-2", set: virtual },
  { method: "prompt", peer: "prompt", rate: "3e-2", set: virtual },
  { method: "p-tuning", peer: "ptuning", rate: "5e-3", set: `${virtual},encoder_hidden_size=128` },
  { method: "ia3", peer: "ia3", rate: "1e-2" },
  { method: "bitfit", peer: "bitfit", rate: "3e-3" },
  { method: "head", peer: "head", rate: "1e-2" },
  { method: "full", peer: "full", rate: "1e-4" },
];

const batching = {
  grouped: { ours: [], peer: ["--group-by-length"] },
  random: { ours: ["--no-group-by-length"], peer: [] },
};

const q8 = ["--base-dtype", "q8"];

/** Frozen matrices as the checkpoint has them, and in 8 bits; the peer's stay in float32, and are cast for its products in the last one. */
const storing = {
  "": { ours: [], peer: [] },
  "-q8": { ours: q8, peer: [] },
  "-q8-bf16": { ours: q8, peer: ["--bf16"] },
};

const lora8 = ["--method", "lora", "--learning-rate", "2e-3", "--set", `${lora},target_modules=query,value`];

/** @type {readonly Case[]} */
const encoderCases = ["banking77", "sst2", "clinc150"].flatMap((data) =>
  methods.flatMap(({ method, peer, rate, set }) =>
    Object.entries(batching).flatMap(([name, flags]) =>
      Object.entries(storing)
        .filter(([form]) => form === "" || (method !== "full" && (form === "-q8" || method === "lora")))
        .map(([form, stored]) => ({
          name: `${data}/${method}/${name}${form}`,
          kind: /** @type {const} */ ("encoder"),
          data,
          sizes: { batch: 32, maxLength: 128, steps: 40 },
          library: peer.endsWith("_bn") ? /** @type {const} */ ("adapters") : /** @type {const} */ ("peft"),
          ours: ["--method", method, "--learning-rate", rate, ...(set === undefined ? [] : ["--set", set]), ...flags.ours, ...stored.ours],
          peer: ["--method", peer, "--lr", rate, ...flags.peer, ...stored.peer],
        })),
    ),
  ),
);

/** Layers that LoRA adapts in a decoder. */
const targets = {
  "lora-qv": { ours: `${lora},target_modules=q_proj,v_proj`, peer: "lora" },
  "lora-all": { ours: `${lora},target_modules=all-linear`, peer: "lora-all" },
};

const memory = {
  kept: { ours: [], peer: [] },
  recomputed: { ours: ["--recompute"], peer: ["--checkpointing"] },
  "kept-q8": { ours: q8, peer: [] },
  "recomputed-q8": { ours: ["--recompute", ...q8], peer: ["--checkpointing"] },
};

/** @type {readonly Case[]} */
const decoderCases = ["wikisql_mini", "gsm8k"].flatMap((data) =>
  Object.entries(targets).flatMap(([method, { ours, peer }]) =>
    Object.entries(memory).map(([name, flags]) => ({
      name: `${data}/${method}/${name}`,
      kind: /** @type {const} */ ("decoder"),
      data,
      sizes: { batch: 8, maxLength: 256, steps: 8 },
      library: /** @type {const} */ ("peft"),
      ours: ["--task", "text-generation", "--learning-rate", "1e-3", "--set", ours, ...batching.random.ours, ...flags.ours],
      peer: ["--task", "causal-lm", "--method", peer, "--lr", "1e-3", ...batching.random.peer, ...flags.peer],
    })),
  ),
);

/** @type {readonly Case[]} */
const baseCases = Object.entries(storing).map(([form, { ours, peer }]) => ({
  name: `bert-base/lora/full-rows${form}`,
  kind: "bert-base",
  data: "rows",
  sizes: { batch: 8, maxLength: 128, steps: 10 },
  library: "peft",
  ours: [...lora8, ...batching.random.ours, ...ours],
  peer: ["--method", "lora", "--lr", "2e-3", ...peer],
}));

/** @type {readonly Case[]} */
export const cases = [...encoderCases, ...decoderCases, ...baseCases];
