import { batchInputs } from "../core/batch.js";
import { input, type ParamLeaf, topological, type Value } from "../core/graph.js";
import { type Feeds, f32, i32, type Tensor } from "../core/tensor.js";
import { ModelBuilder } from "../models/builder.js";
import { attentionMask } from "../ops/attention.js";
import { tanh } from "../ops/elementwise.js";
import { type At, reader, total } from "../ops/reference.fixture.js";
import { randomTensor, runGraph } from "../ops/run-graph.fixture.js";
import type { Runtime } from "../runtime/session.js";
import type { Attachment, Child, LinearRole, LinearSite, Method, Sites, SublayerSite } from "./method.js";

/** One row of a reference. */
export type Row = readonly number[];

/** What the linear layers in a layer of BERT do, by their paths in it. */
export const bertRoles: Readonly<Record<string, LinearRole>> = {
  "attention.self.query": "query",
  "attention.self.key": "key",
  "attention.self.value": "value",
  "attention.output.dense": "attention-output",
  "intermediate.dense": "up",
  "output.dense": "down",
};

/** The linear layers of BERT's layer `i`. */
export function bertLinears(i: number, inFeatures: number, outFeatures = inFeatures): readonly LinearSite[] {
  return Object.entries(bertRoles).map(([name, role]) => ({
    path: `bert.encoder.layer.${i}.${name}`,
    role,
    inFeatures,
    outFeatures,
    bias: true,
  }));
}

/** The sites of a model like BERT with `layers` layers. */
export function layerSites(layers: number, width: number): Sites {
  return {
    linears: Array.from({ length: layers }, (_, i) => bertLinears(i, width)).flat(),
    sublayers: Array.from({ length: layers }, (_, layer): SublayerSite[] => [
      { path: `bert.encoder.layer.${layer}.attention.output`, place: "attention", layer, width },
      { path: `bert.encoder.layer.${layer}.output`, place: "mlp", layer, width },
    ]).flat(),
    tables: [{ path: "bert.embeddings.word_embeddings", role: "embedding", inFeatures: 9, outFeatures: width }],
    outputTables: [],
    attentions: [{ path: "bert.encoder.layer.0.attention.self", layer: 0, heads: 1, queryHeads: 1, headDim: width }],
    tokens: [{ path: "bert.embeddings.word_embeddings", rows: 9, width }],
    embeddings: [{ path: "bert", width }],
    weights: [{ path: "bert.encoder.layer.0.attention.self.query.bias", shape: [width] }],
    headModules: ["classifier"],
  };
}

/** A method with these config fields, planned on the sites. */
export function attachmentOn(sites: Sites, method: Method, fields: object = {}, children: readonly Child[] = []): Attachment {
  const config: object = method.config.parse(fields);
  return { method, config, plan: method.plan(sites, config, "user", children), children };
}

/** What a graph with an attachment gives for random rows and random parameters. */
export interface AdapterRun {
  readonly output: Tensor;
  /** The parameters in the order in which they were made. */
  readonly leaves: readonly ParamLeaf[];
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** A parameter by its path. Throws where there is none. */
  param(path: string): At;
  readonly penalties: readonly number[];
}

/** Texts of 2 tokens and of 1. */
export const texts: readonly (readonly number[])[] = [[0, 1], [2]];

/** The rows that enter a run by these names, [3, width]. */
export function rowsNamed(name: string, width: number): readonly Row[] {
  const at = reader(randomTensor([3, width], name));
  return Array.from({ length: 3 }, (_, t) => Array.from({ length: width }, (_, i) => at(t, i)));
}

/** tanh stands for the norm after the sum: it is as little linear, and a reference needs no line for it. */
export type Finish = "tanh" | "none";

/** Runs an attachment at the end of the last layer's feed-forward part: the sub-layer's output is `rowsNamed("output")`, the residual `rowsNamed("residual")`. */
export function runSublayer(runtime: Runtime, sites: Sites, attachment: Attachment, finish: Finish = "tanh"): Promise<AdapterRun> {
  const { path, place, layer, width } = sites.sublayers.at(-1)!;
  const end = finish === "tanh" ? tanh : (sum: Value): Value => sum;
  return runBuilt(runtime, attachment, (m) => {
    const [output, residual] = [input("output", "float32", ["T", width]), input("residual", "float32", ["T", width])];
    return m.sublayer(path, place, layer, output, residual, end);
  });
}

/** Runs an attachment on the embeddings `rowsNamed("embeddings")`. */
export function runEmbedding(runtime: Runtime, sites: Sites, attachment: Attachment): Promise<AdapterRun> {
  const { path, width } = sites.embeddings[0]!;
  return runBuilt(runtime, attachment, (m) => m.embedded(path, input("embeddings", "float32", ["T", width])));
}

async function runBuilt(runtime: Runtime, attachment: Attachment, build: (m: ModelBuilder) => Value): Promise<AdapterRun> {
  const m = new ModelBuilder({ batch: batchInputs(true), has: () => true, headModules: [], attachments: [attachment] });
  // the mask brings in the sizes B and S, as in any model
  const graph = {
    output: build(m),
    mask: attentionMask(m.batch, { causal: false, window: null, ahead: 0 }),
    ...Object.fromEntries(m.penalties().map((penalty, i) => [`penalty${i}`, penalty])),
  };
  const leaves = new Map<ParamLeaf, Value>();
  for (const value of topological(Object.values(graph))) if (value.source.kind === "param") leaves.set(value.source, value);
  const shapes = Object.fromEntries([...leaves].map(([{ path }, value]) => [path, value.shape.map(Number)]));
  const params = new Map(Object.entries(shapes).map(([path, shape]) => [path, randomTensor(shape, path)]));
  const width = Number(graph.output.shape[1]);
  const feeds: Feeds = {
    ...Object.fromEntries(["output", "residual", "embeddings"].map((name) => [name, randomTensor([3, width], name)])),
    ...Object.fromEntries([...params].map(([path, tensor]) => [`param:${path}`, tensor])),
    padIndex: i32([0, 1, 2, 2]),
    tokenIndex: i32([0, 1, 2]),
    slots: i32([0, 1]),
    lengths: i32([2, 1]),
    rowMask: f32([1, 1, 1, 0], [4, 1]),
  };
  const { output, mask: _, ...others } = await runGraph(runtime, graph, feeds);
  return {
    output: output!,
    leaves: [...leaves.keys()],
    shapes,
    param(path) {
      const tensor = params.get(path);
      if (tensor === undefined) throw new Error(`no parameter ${path}; there are: ${[...params.keys()].join(", ")}`);
      return reader(tensor);
    },
    penalties: Object.keys(others).map((name) => Number(others[name]!.data[0])),
  };
}

/** W·x + b of a run's parameters `name.weight` and `name.bias`, `out` long. */
export function affine({ param }: AdapterRun, name: string, out: number, x: Row): Row {
  const [W, b] = [param(`${name}.weight`), param(`${name}.bias`)];
  return Array.from({ length: out }, (_, i) => total(x.length, (j) => W(i, j) * x[j]!) + b(i));
}

/** The sum of rows. */
export function plus(...rows: readonly Row[]): Row {
  return rows[0]!.map((_, i) => total(rows.length, (k) => rows[k]![i]!));
}

/** A row times a number. */
export function times(factor: number, x: Row): Row {
  return x.map((value) => factor * value);
}

/** torch's LayerNorm with the parameters `name.weight` and `name.bias` and its default eps. */
export function newNorm({ param }: AdapterRun, name: string, x: Row): Row {
  const [weight, bias] = [param(`${name}.weight`), param(`${name}.bias`)];
  const mean = total(x.length, (i) => x[i]!) / x.length;
  const variance = total(x.length, (i) => (x[i]! - mean) ** 2) / x.length;
  return x.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight(i) + bias(i));
}

/** Rows as a tensor to compare with. */
export function matrix(rows: readonly Row[]): { readonly shape: readonly number[]; readonly data: readonly number[] } {
  return { shape: [rows.length, rows[0]!.length], data: rows.flat() };
}
