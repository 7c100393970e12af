import { batchInputs } from "../core/batch.js";
import { input, type Value } from "../core/graph.js";
import { type Feeds, f32, i32, type Tensor } from "../core/tensor.js";
import { ModelBuilder } from "../models/builder.js";
import { attentionMask } from "../ops/attention.js";
import { type At, reader } from "../ops/reference.fixture.js";
import { randomTensor, runGraph } from "../ops/run-graph.fixture.js";
import { paramsOf } from "../programs/program.js";
import type { Runtime } from "../runtime/session.js";
import type { ConfigOrigin, Method, Sites } from "./method.js";

/** Two layers of two heads of size 2, and three words of width 4. */
export const promptSites: Sites = {
  linears: [],
  tables: [],
  outputTables: [],
  sublayers: [],
  attentions: [0, 1].map((layer) => ({ path: `bert.encoder.layer.${layer}.attention.self`, layer, heads: 2, queryHeads: 2, headDim: 2 })),
  tokens: [{ path: "bert.embeddings.word_embeddings", rows: 3, width: 4 }],
  embeddings: [{ path: "bert", width: 4 }],
  weights: [],
  headModules: [],
};

/** What a graph with a prompt gives for random rows and parameters. */
export interface PromptRun {
  readonly output: Tensor;
  /** The prompt's own parameters. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  param(path: string): At;
  /** The names under which values stand for parameters in the file. */
  readonly published: readonly string[];
}

/** The two virtual tokens that a method puts in front of a text. */
export function runTokens(runtime: Runtime, method: Method, fields: object, origin: ConfigOrigin = "user"): Promise<PromptRun> {
  const [{ path, rows, width }] = promptSites.tokens as readonly [Sites["tokens"][number]];
  return run(runtime, method, { num_virtual_tokens: 2, ...fields }, origin, (m) => m.tokens(path, rows, width));
}

/** A text of two tokens that attends in layer 1, with `randomTensor([2, 4], …)` by the names q, k and v. */
export function runAttention(runtime: Runtime, method: Method, fields: object, origin: ConfigOrigin = "user"): Promise<PromptRun> {
  const { path, layer, heads } = promptSites.attentions[1]!;
  const rows = (name: string): Value => input(name, "float32", ["T", 4]);
  return run(runtime, method, fields, origin, (m) => m.attention(path, layer, rows("q"), rows("k"), rows("v"), { heads, dropout: 0 }));
}

async function run(
  runtime: Runtime,
  method: Method,
  fields: object,
  origin: ConfigOrigin,
  build: (m: ModelBuilder) => Value,
): Promise<PromptRun> {
  const config: object = method.config.parse(fields);
  const attachment = { method, config, plan: method.plan(promptSites, config, origin, []), children: [] };
  const batch = batchInputs(true, method.layout!(config));
  const m = new ModelBuilder({ batch, has: () => false, headModules: [], attachments: [attachment] });
  const graph = { output: build(m), mask: attentionMask(batch, { causal: false, window: null, ahead: 0 }) };
  const params = new Map(paramsOf(graph).map(({ leaf: { path }, value }) => [path, randomTensor(value.shape.map(Number), path)]));
  const feeds: Feeds = {
    ...Object.fromEntries([...params].map(([path, tensor]) => [`param:${path}`, tensor])),
    ...Object.fromEntries(["q", "k", "v"].map((name) => [name, randomTensor([2, 4], name)])),
    ids: i32([0, 1]),
    joinIndex: i32([2, 3]),
    padIndex: i32([0, 1]),
    tokenIndex: i32([0, 1]),
    lengths: i32([2]),
    slots: i32([0, 1]),
    rowMask: f32([1, 1], [2, 1]),
  };
  const { output } = await runGraph(runtime, graph, feeds);
  return {
    output: output!,
    shapes: Object.fromEntries([...params].flatMap(([path, { shape }]) => (path.includes("word_embeddings") ? [] : [[path, shape]]))),
    param: (path) => reader(params.get(path)!),
    published: [...m.published().keys()],
  };
}
