import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel, overlay, tinyFamilies, tinyModelFiles } from "../../test/tiny-model.fixture.js";
import { batchInputs } from "../core/batch.js";
import { f32 } from "../core/tensor.js";
import { type EncodedText, packTexts } from "../data/collate.js";
import { ConfigError, ModelError, WeightError } from "../errors.js";
import { directory } from "../io/directory.js";
import { memoryFiles } from "../io/memory-files.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import { forwardGraph, newModules, survey, type TaskHead } from "../programs/adapted-model.js";
import { type BaseModel, openBaseModel } from "../programs/base-model.js";
import { initialParams } from "../programs/initial-params.js";
import { loadProgram, type Params, paramsOf } from "../programs/program.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import { bert } from "./bert.js";
import { ModelBuilder } from "./builder.js";
import { familyOf } from "./index.js";

const golden = fileURLToPath(new URL("../../test/golden/bert/", import.meta.url));
const runtimes = [nodeRuntime({ threads: 1 })];
afterAll(() => Promise.all(runtimes.map((runtime) => runtime.close())));

interface Case {
  readonly class: string;
  readonly rows: readonly {
    readonly ids: number[];
    readonly token_type_ids: number[];
    readonly logits?: number[];
    readonly pooler_output?: number[];
  }[];
  readonly hidden: { readonly row: number; readonly last_hidden_state: number[][] };
}

/** The cases have no tokenizer: their rows are ids. */
const tokenizer = jsonBytes({ model: { type: "WordPiece", unk_token: "[UNK]", vocab: { "[UNK]": 0 } } });

function classes(count: number): TaskHead {
  const labels = Array.from({ length: count }, (_, i) => `LABEL_${i}`);
  return { task: textClassification, target: count === 1 ? { kind: "number" } : { kind: "classes", labels } };
}

async function open(files: ReturnType<typeof directory>): Promise<BaseModel> {
  const runtime = nodeRuntime({ threads: 1 }); // weights are kept by name: one runtime a model
  runtimes.push(runtime);
  return openBaseModel(overlay(files, { "tokenizer.json": tokenizer }), { id: "golden", runtime });
}

/** The encoder and, where there is a head, the whole model: outputs of the head for each text of a packed batch, hidden states of each token. */
async function load(model: BaseModel, head: TaskHead | undefined, params: Params) {
  const m = new ModelBuilder({
    batch: batchInputs(false),
    has: (path) => model.shape(path) !== undefined,
    headModules: [],
    attachments: [],
  });
  const encoder = await loadProgram(model, { hidden: bert.encode(m, bert.parse(model.json)) });
  const classifier = head === undefined ? undefined : await loadProgram(model, forwardGraph(model, head, []));
  return async (texts: readonly EncodedText[]): Promise<{ readonly outputs: number[][]; readonly hidden: number[][] }> => {
    const packed = packTexts(texts);
    const hidden = rowsOf((await encoder.run({ batch: packed.feeds, params })).hidden!);
    if (classifier === undefined) return { outputs: [], hidden };
    const examples = texts.map((text) => ({ ...text, labels: undefined, truncated: false }));
    const batch = { ...packed.feeds, ...textClassification.feeds(packed, examples, head!.target) };
    return { outputs: rowsOf((await classifier.run({ batch, params })).logits!), hidden };
  };
}

function rowsOf({ data, shape }: { readonly data: ArrayLike<number | bigint>; readonly shape: readonly number[] }): number[][] {
  const width = shape.at(-1)!;
  return Array.from({ length: data.length / width }, (_, i) => Array.from({ length: width }, (_, j) => Number(data[i * width + j])));
}

function gap(actual: readonly (readonly number[])[], expected: readonly (readonly number[])[]): number {
  expect(actual.map((row) => row.length)).toEqual(expected.map((row) => row.length));
  return Math.max(...actual.flatMap((row, i) => row.map((value, j) => Math.abs(value - expected[i]![j]!))));
}

const cases = readdirSync(golden);

it("has all golden cases", () => {
  expect(cases.length).toBeGreaterThanOrEqual(20);
});

describe.each(cases)("golden case %s", (name) => {
  const folder = join(golden, name);
  const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8")) as Case;
  const texts = expected.rows.map(({ ids, token_type_ids }) => ({ ids: Int32Array.from(ids), typeIds: Int32Array.from(token_type_ids) }));
  const wanted = expected.rows.flatMap(({ logits, pooler_output }) => (logits ? [logits] : pooler_output ? [pooler_output] : []));

  it("equals transformers within 1e-4, packed and one by one", async () => {
    const model = await open(directory(folder));
    expect(existsSync(join(folder, "model.safetensors.index.json"))).toBe(name === "sharded");
    // A BertModel has no classifier: an identity in its place shows the pooler's output.
    const width = wanted[0]?.length ?? 0;
    const identity: Params = new Map([
      [
        "classifier.weight",
        f32(
          Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0)),
          [width, width],
        ),
      ],
      ["classifier.bias", f32(new Float32Array(width))],
    ]);
    const head = wanted.length === 0 ? undefined : classes(width);
    const params: Params = expected.class === "BertForSequenceClassification" ? new Map() : identity;

    const run = await load(model, head, params);
    const together = await run(texts);
    expect(gap(together.outputs, wanted)).toBeLessThan(1e-4);
    const start = texts.slice(0, expected.hidden.row).reduce((sum, { ids }) => sum + ids.length, 0);
    const states = expected.hidden.last_hidden_state;
    expect(gap(together.hidden.slice(start, start + states.length), states)).toBeLessThan(1e-4);

    for (const [i, text] of texts.entries()) {
      const alone = await run([text]);
      if (head !== undefined) expect(gap(alone.outputs, [wanted[i]!])).toBeLessThan(1e-4);
      if (i === expected.hidden.row) expect(gap(alone.hidden, states)).toBeLessThan(1e-4);
    }
  });
});

describe("a checkpoint without parts", () => {
  it("starts a missing pooler and classifier from the initial distribution", async () => {
    const model = await open(directory(join(golden, "no-pooler")));
    const head = classes(3);
    expect(newModules(model, head)).toEqual(["bert.pooler.dense"]);
    const graph = forwardGraph(model, head, []);
    expect(paramsOf(graph).map(({ leaf }) => leaf.path)).toEqual([
      "bert.pooler.dense.weight",
      "bert.pooler.dense.bias",
      "classifier.weight",
      "classifier.bias",
    ]);
    const params = await initialParams(model, graph, 0);
    expect(params.get("classifier.bias")!.data.every((value) => value === 0)).toBe(true);
    const weights = params.get("bert.pooler.dense.weight")!.data;
    const deviation = Math.sqrt(weights.reduce((sum, value) => sum + value * value, 0) / weights.length);
    const { initializer_range } = bert.parse(model.json) as { initializer_range: number };
    expect(deviation / initializer_range).toBeGreaterThan(0.85);
    expect(deviation / initializer_range).toBeLessThan(1.15);
  });

  it("lists all missing weights at once", async () => {
    const files = tinyModelFiles();
    const source = await openSafetensors(memoryFiles("tiny", files), "model.safetensors");
    const gone = ["bert.encoder.layer.1.attention.self.key.bias", "bert.embeddings.LayerNorm.weight"];
    const model = await open(memoryFiles("tiny", { ...files, "model.safetensors": await without(source, gone) }));
    const error = await failure(() => survey(model, classes(3)));
    expect(error).toBeInstanceOf(WeightError);
    expect(error.message).toContain("lacks 2 weights");
    for (const path of gone) expect(error.message).toContain(path);
  });

  it("lists all weights of another shape at once", async () => {
    const model = await open(
      memoryFiles("tiny", { ...tinyModelFiles(), "config.json": jsonBytes({ ...tinyFamilies.bert.config, intermediate_size: 20 }) }),
    );
    const error = await failure(() => loadProgram(model, forwardGraph(model, classes(3), [])));
    expect(error).toBeInstanceOf(WeightError);
    expect(error.message).toContain("6 weights differ");
    for (const i of [0, 1]) {
      expect(error.message).toContain(`bert.encoder.layer.${i}.intermediate.dense.weight: [24,16], expected [20,16]`);
      expect(error.message).toContain(`bert.encoder.layer.${i}.intermediate.dense.bias: [24], expected [20]`);
      expect(error.message).toContain(`bert.encoder.layer.${i}.output.dense.weight: [16,24], expected [16,20]`);
    }
  });
});

describe("config.json", () => {
  const parse = (fields: object) => bert.parse({ ...tinyFamilies.bert.config, ...fields });

  it("needs no more than the model type: defaults are BertConfig's", () => {
    expect(bert.parse({ model_type: "bert" })).toMatchObject({
      vocab_size: 30522,
      hidden_size: 768,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      intermediate_size: 3072,
      hidden_act: "gelu",
      hidden_dropout_prob: 0.1,
      attention_probs_dropout_prob: 0.1,
      classifier_dropout: null,
      max_position_embeddings: 512,
      type_vocab_size: 2,
      initializer_range: 0.02,
      layer_norm_eps: 1e-12,
    });
  });

  it("gives the norms their eps", () => {
    expect(parse({ layer_norm_eps: 0.01 })).toMatchObject({ layer_norm_eps: 0.01 }); // its effect: golden case eps-1e-2
  });

  it("refuses a decoder", () => {
    expect(() => parse({ is_decoder: true })).toThrow(ModelError);
    expect(() => parse({ is_decoder: true })).toThrow(/is_decoder/);
  });

  it("refuses relative positions", () => {
    expect(() => parse({ position_embedding_type: "relative_key" })).toThrow(ModelError);
    expect(() => parse({ position_embedding_type: "relative_key" })).toThrow(/position_embedding_type "relative_key"/);
    expect(() => parse({ position_embedding_type: "absolute" })).not.toThrow();
  });

  it("suggests the nearest activation", async () => {
    const error = await failure(() => parse({ hidden_act: "gelu_neww" }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("gelu_neww");
    expect(error.hint).toContain("gelu_new");
  });

  it("refuses heads that do not divide the width", () => {
    expect(() => parse({ num_attention_heads: 3 })).toThrow(/hidden_size 16 is not a multiple of num_attention_heads 3/);
  });

  it("lists all fields of a wrong type", async () => {
    const error = await failure(() => parse({ hidden_size: "16", num_hidden_layers: 1.5, layer_norm_eps: null }));
    expect(error).toBeInstanceOf(ConfigError);
    for (const field of ["hidden_size", "num_hidden_layers", "layer_norm_eps"]) expect(error.message).toContain(`${field}: `);
  });

  it("of another type lists the supported ones", async () => {
    const error = await failure(() => familyOf({ model_type: "brt" }));
    expect(error.message).toContain('"brt"');
    expect(error.hint).toContain("bert");
    expect((await failure(() => familyOf({}))).hint).toContain("bert");
  });

  it("must fit the tokenizer", async () => {
    const runtime = runtimes[0]!;
    const error = await failure(() => openTinyModel(runtime, { config: { vocab_size: 100 } }));
    expect(error).toBeInstanceOf(ModelError);
    expect(error.message).toContain("the tokenizer has 282 tokens, the model's embeddings have 100");
  });
});

async function without(source: Awaited<ReturnType<typeof openSafetensors>>, gone: readonly string[]): Promise<Uint8Array> {
  const names = [...source.tensors.keys()].filter((name) => !gone.includes(name));
  return writeSafetensors(await Promise.all(names.map(async (name) => [name, await source.readFloat32(name)] as const)));
}
