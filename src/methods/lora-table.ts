import type { Value } from "../core/graph.js";
import { normal, zeros } from "../core/initializer.js";
import { addProduct, rowNorms as normsOf, scaleColumns, transpose } from "../core/matrix.js";
import type { Tensor } from "../core/tensor.js";
import { detach, div, mul, scale, sqrt } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { concat, reshape, transpose as transposed } from "../ops/movement.js";
import { sum } from "../ops/reduce.js";
import { type InitLoraWeights, isResidual, rowNorms, type UpdateSizes } from "./lora-init.js";
import { lostNorms, quotients, squaredNorms } from "./lora-norms.js";
import type { ParamScope, SiteParams, TableCall, TableSite } from "./method.js";

/** What LoRA's update of a table reads of its config. */
interface TableConfig {
  readonly init_lora_weights: InitLoraWeights;
  readonly use_dora: boolean;
}

/**
 * y + s·A[:, i]ᵀ·Bᵀ for the rows i that are looked up, with A [r, rows] and B [width, r]: PEFT's lora.Embedding. The table E [rows, width] is a linear
 * layer of weight W = Eᵀ whose inputs are rows of ones and zeros; dropout does not reach those, and A starts at zero instead of B. With DoRA it
 * is the table's columns that have their lengths m.
 */
export function loraTable(site: TableSite, call: TableCall, p: ParamScope, { r, scaling }: UpdateSizes, c: TableConfig): Value {
  const A = p.param("lora_embedding_A", [r, site.inFeatures], c.init_lora_weights === false ? normal(1) : zeros);
  const B = p.param("lora_embedding_B", [site.outFeatures, r], normal(1));
  if (isResidual(c.init_lora_weights)) {
    // PiSSA starts linear layers only, but its file is one of twice the rank
    p.publish("lora_embedding_A", concat([A, scale(A, 0)], 0));
    p.publish("lora_embedding_B", concat([B, scale(B, 0)], 1));
  }
  const up = (addend: Value): Value => gemm(call.lookUp(transposed(A, [1, 0])), B, { transB: true, alpha: scaling }, addend);
  if (!c.use_dora) return up(call.y);
  const m = p.param("lora_magnitude_vector", [site.outFeatures], rowNorms({ path: site.path, transposed: true }));
  const { table } = call;
  const layer = {
    matmul: (x: Value): Value => gemm(x, table),
    squaredNorms: (): Value => reshape(sum(mul(table, table), [0]), [site.outFeatures, 1]),
  };
  return mul(up(call.y), div(m, reshape(detach(sqrt(squaredNorms(layer, A, B, scaling))), [site.outFeatures])));
}

/** The table with its update: E + s·(B·A)ᵀ, with DoRA its columns at the lengths m. */
export function mergedTable(table: Tensor<"float32">, p: SiteParams, { scaling }: UpdateSizes, c: TableConfig): Tensor<"float32"> {
  const V = updated(table, p, scaling);
  return c.use_dora ? scaleColumns(V, quotients(p("lora_magnitude_vector").data, normsOf(transpose(V)))) : V;
}

/** The table before `mergedTable`. Throws ConfigError for DoRA's without the original. */
export function unmergedTable(
  merged: Tensor<"float32">,
  p: SiteParams,
  { scaling }: UpdateSizes,
  c: TableConfig,
  original: Tensor<"float32"> | undefined,
): Tensor<"float32"> {
  if (!c.use_dora) return updated(merged, p, -scaling);
  if (original === undefined) throw lostNorms();
  const lengths = quotients(normsOf(transpose(updated(original, p, scaling))), p("lora_magnitude_vector").data);
  return updated(scaleColumns(merged, lengths), p, -scaling);
}

function updated(table: Tensor<"float32">, p: SiteParams, s: number): Tensor<"float32"> {
  return addProduct(table, transpose(p("lora_embedding_A")), transpose(p("lora_embedding_B")), s);
}
