import type { Matrix } from "ml-matrix";
import * as z from "zod";
import { type InitialComputation, type Initializer, kaimingUniform, normal, zeros } from "../core/initializer.js";
import { rowNorms as norms, transpose } from "../core/matrix.js";
import { fillNormal, keyOf } from "../core/random.js";
import type { LinearSite } from "./method.js";

const pissaPattern = /^pissa(?:_niter_(\d+))?$/;

/** PEFT's `init_lora_weights`, as far as it is honoured here. */
export const initLoraWeights = z
  .union([z.boolean(), z.enum(["gaussian", "orthogonal", "pissa"]), z.string().regex(/^pissa_niter_\d+$/)])
  .default(true)
  .describe(
    'how the update starts: true (A as torch\'s linear layers, B zero), false (both so), "gaussian", "orthogonal", or from the weights\' largest singular values: "pissa", "pissa_niter_K" (approximate, in K iterations)',
  );

/** How LoRA's update starts. */
export type InitLoraWeights = z.infer<typeof initLoraWeights>;

/** Whether the update starts as a part of the base's weight, which is taken out of it. */
export function isResidual(init: InitLoraWeights): boolean {
  return typeof init === "string" && pissaPattern.test(init);
}

/** The sizes of an update at a site. */
export interface UpdateSizes {
  readonly r: number;
  readonly scaling: number;
}

/** First values of A [r, in], B [out, r] and B's bias [out]. */
export interface LoraStart {
  readonly A: Initializer;
  readonly B: Initializer;
  readonly bias: Initializer;
}

/** How an update starts: peft.tuners.lora.LoraLayer.update_layer. */
export function loraStart(init: InitLoraWeights, site: LinearSite, { r, scaling }: UpdateSizes): LoraStart {
  const A = kaimingUniform(site.inFeatures);
  if (init === true) return { A, B: zeros, bias: zeros };
  if (init === false) return { A, B: kaimingUniform(r), bias: kaimingUniform(r) };
  if (init === "gaussian") return { A: normal(1 / r), B: zeros, bias: zeros };
  const compute = init === "orthogonal" ? orthogonal(site, r) : pissa(site, r, scaling, pissaPattern.exec(init)?.[1]);
  return { A: { kind: "computed", compute, part: 0 }, B: { kind: "computed", compute, part: 1 }, bias: zeros };
}

/** What these starts alone need: matrix decompositions, loaded when they are asked for. */
const decompositions = (): Promise<typeof import("../core/factorize.js")> => import("../core/factorize.js");

/**
 * PiSSA (Meng et al. 2024, arXiv:2404.02948, §3): with W ≈ U·S·Vᵀ of rank r, A = √(S/s)·Vᵀ and B = U·√(S/s), so that s·BA is the part of W that is
 * taken out of it. `iterations`: by subspace iteration from noise instead of exactly.
 */
function pissa({ path, inFeatures, transposed = false }: LinearSite, r: number, scaling: number, iterations?: string): InitialComputation {
  return async ({ seed, weight }) => {
    const { matrixOf, randomSingular, rowsOf, topSingular } = await decompositions();
    const { data, shape } = await weight(`${path}.weight`);
    const stored = matrixOf(data, shape[0]!, shape[1]!);
    const W = transposed ? stored.transpose() : stored;
    const start = (): Matrix => matrixOf(noise(inFeatures, r, seed, path), inFeatures, r);
    const { left, values, right } = iterations === undefined ? topSingular(W, r) : randomSingular(W, start(), Number(iterations));
    const roots = values.map((value) => Math.sqrt(value / scaling));
    return [rowsOf(right.mulRowVector(roots).transpose()), rowsOf(left.mulRowVector(roots))];
  };
}

/** A = (N₁·Q₁)ᵀ/10 and B = N₂·Q₂/10 with noise N and Q's alternate rows Q₁ ⊥ Q₂: both are off zero though BA = 0. PEFT's `orthogonal_init`. */
function orthogonal({ path, inFeatures, outFeatures }: LinearSite, r: number): InitialComputation {
  return async ({ seed }) => {
    const { matrixOf, orthonormal, rowsOf } = await decompositions();
    const Q = orthonormal(matrixOf(noise(r, r, seed, `${path}.Q`), r, r));
    const alternate = (first: number): Matrix =>
      Q.selection(
        Array.from({ length: r / 2 }, (_, i) => 2 * i + first),
        Array.from({ length: r }, (_, i) => i),
      );
    const half = (rows: number, name: string, first: number): Matrix =>
      matrixOf(noise(rows, r / 2, seed, `${path}.${name}`), rows, r / 2).mmul(alternate(first));
    return [rowsOf(half(inFeatures, "A", 0).transpose().mul(0.1)), rowsOf(half(outFeatures, "B", 1).mul(0.1))];
  };
}

/** The Euclidean norm of each row of a layer's weight [out, in], [out]: where DoRA's magnitudes start. */
export function rowNorms(site: Pick<LinearSite, "path" | "transposed" | "tied">): Initializer {
  const { path, transposed = false, tied = `${path}.weight` } = site;
  const compute: InitialComputation = async ({ weight }) => {
    const W = await weight(tied);
    return [Float32Array.from(norms(transposed ? transpose(W) : W))];
  };
  return { kind: "computed", compute, part: 0 };
}

/** Standard normal numbers [rows, columns]. */
function noise(rows: number, columns: number, seed: number, name: string): Float32Array {
  const data = new Float32Array(rows * columns);
  fillNormal(data, keyOf(seed, "init", name), 0, 1);
  return data;
}
