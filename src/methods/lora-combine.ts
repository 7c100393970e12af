import { scaleRows, transpose, weightedSum } from "../core/matrix.js";
import { f32, type Tensor } from "../core/tensor.js";
import type { LoraConfig, LoraPlan } from "./lora.js";
import { isResidual } from "./lora-init.js";

/** One of several LoRA adapters that are to become one, with its weight. */
export interface WeightedLora {
  readonly name: string;
  readonly weight: number;
  readonly config: LoraConfig;
  readonly plan: LoraPlan;
  readonly params: ReadonlyMap<string, Tensor<"float32">>;
}

/** The parameters of one LoRA made of several, whose update is B·A without a further scaling. */
export interface CombinedLora {
  readonly r: number;
  /** Paths of the adapted layers, of all the adapters together. */
  readonly paths: readonly string[];
  readonly params: ReadonlyMap<string, Tensor<"float32">>;
}

/** What keeps LoRA adapters from being combined, a line each. */
export function combineFaults(loras: readonly WeightedLora[]): readonly string[] {
  return loras.flatMap(({ name, config: c }) => [
    ...(c.use_dora ? [`${name}: DoRA's magnitudes belong to its own update only`] : []),
    ...(c.lora_bias ? [`${name}: lora_bias adds biases, which have no weight`] : []),
    ...(isResidual(c.init_lora_weights)
      ? [`${name}: ${c.init_lora_weights} took a part out of the base; write its files and combine those`]
      : []),
    ...(c.bias === "none" ? [] : [`${name}: bias "${c.bias}" trains biases in place, which have no weight`]),
  ]);
}

/** What else keeps them from being combined by `linear`: A's and B's are added up, so they must be of one rank. */
export function rankFaults(loras: readonly WeightedLora[]): readonly string[] {
  return pathsOf(loras).flatMap((path) => {
    const ranks = at(loras, path).map(({ name, r }) => `${name} ${r}`);
    return new Set(at(loras, path).map(({ r }) => r)).size > 1 ? [`${path}: ranks ${ranks.join(", ")}`] : [];
  });
}

/**
 * A = Σ sgn(w̃ᵢ)·√|w̃ᵢ|·Aᵢ and B = Σ √|w̃ᵢ|·Bᵢ with w̃ᵢ = wᵢ·sᵢ: PEFT's combination_type "linear". B·A has products of different adapters in it, so
 * it is not the weighted sum of the updates.
 */
export function linearLora(loras: readonly WeightedLora[]): CombinedLora {
  return combined(loras, Math.max(...loras.map(largestRank)), (parts, r) => {
    const roots = parts.map(({ weight }) => Math.sqrt(Math.abs(weight)));
    return {
      A: padded(
        weightedSum(
          parts.map(({ A }) => A),
          roots.map((root, i) => Math.sign(parts[i]!.weight) * root),
        ),
        r,
        0,
      ),
      B: padded(
        weightedSum(
          parts.map(({ B }) => B),
          roots,
        ),
        r,
        1,
      ),
    };
  });
}

/** A = [w̃₁·A₁; w̃₂·A₂; …] and B = [B₁, B₂, …]: exactly the weighted sum of the updates, at the sum of the ranks. PEFT's "cat". */
export function catLora(loras: readonly WeightedLora[]): CombinedLora {
  const total = loras.reduce((sum, lora) => sum + largestRank(lora), 0);
  return combined(loras, total, (parts, r) => ({
    A: padded(joined(parts.map(({ A, weight }) => scaleRows(A, new Float64Array(A.shape[0]!).fill(weight)))), r, 0),
    B: padded(transpose(joined(parts.map(({ B }) => transpose(B)))), r, 1),
  }));
}

/** An adapter's matrices at a layer, and its weight times its scaling. */
interface Part {
  readonly name: string;
  readonly r: number;
  readonly weight: number;
  readonly A: Tensor<"float32">;
  readonly B: Tensor<"float32">;
}

function combined(
  loras: readonly WeightedLora[],
  r: number,
  mix: (parts: readonly Part[], r: number) => { readonly A: Tensor<"float32">; readonly B: Tensor<"float32"> },
): CombinedLora {
  const paths = pathsOf(loras);
  const params = new Map<string, Tensor<"float32">>();
  for (const path of paths) {
    const { A, B } = mix(at(loras, path), r);
    const names = namesAt(loras, path);
    params.set(names.A, A);
    params.set(names.B, B);
  }
  return { r, paths, params };
}

function pathsOf(loras: readonly WeightedLora[]): readonly string[] {
  return [...new Set(loras.flatMap(({ plan }) => [...plan.targets.keys(), ...plan.tables.keys()]))];
}

/** The paths of a layer's matrices; those of embedding tables have names of their own. */
function namesAt(loras: readonly WeightedLora[], path: string): { readonly A: string; readonly B: string } {
  return loras.some(({ plan }) => plan.tables.has(path))
    ? { A: `${path}.lora_embedding_A`, B: `${path}.lora_embedding_B` }
    : { A: `${path}.lora_A.weight`, B: `${path}.lora_B.weight` };
}

function at(loras: readonly WeightedLora[], path: string): readonly Part[] {
  return loras.flatMap(({ name, weight, plan, params }) => {
    const target = plan.targets.get(path) ?? plan.tables.get(path);
    const names = namesAt(loras, path);
    const [A, B] = [params.get(names.A), params.get(names.B)];
    if (target === undefined || A === undefined || B === undefined) return [];
    return [{ name, r: target.r, weight: weight * target.scaling, A, B }];
  });
}

/** PEFT makes room for the largest rank of a config, used or not. */
function largestRank({ config: { r, rank_pattern } }: WeightedLora): number {
  return Math.max(r, ...Object.values(rank_pattern));
}

/** Rows of all matrices, one below the other. */
function joined(matrices: readonly Tensor<"float32">[]): Tensor<"float32"> {
  const rows = matrices.reduce((total, { shape }) => total + shape[0]!, 0);
  const data = new Float32Array(matrices.reduce((total, matrix) => total + matrix.data.length, 0));
  let offset = 0;
  for (const matrix of matrices) {
    data.set(matrix.data, offset);
    offset += matrix.data.length;
  }
  return f32(data, [rows, matrices[0]!.shape[1]!]);
}

/** The matrix with zeros up to the rank, which add nothing: A in rows (axis 0), B in columns (axis 1). */
function padded(matrix: Tensor<"float32">, r: number, axis: 0 | 1): Tensor<"float32"> {
  if (matrix.shape[axis] === r) return matrix;
  if (axis === 1) return transpose(padded(transpose(matrix), r, 0));
  const data = new Float32Array(r * matrix.shape[1]!);
  data.set(matrix.data);
  return f32(data, [r, matrix.shape[1]!]);
}
