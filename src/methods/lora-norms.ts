import type { Value } from "../core/graph.js";
import { ConfigError } from "../errors.js";
import { add, mul, scale } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { transpose } from "../ops/movement.js";
import { sum } from "../ops/reduce.js";
import type { LinearCall } from "./method.js";

/** The squared norm of each row of W + sBA, [out, 1], without that matrix: ‖W‖² + 2s·rowsum((W·Aᵀ) ∘ B) + s²·rowsum((B·(A·Aᵀ)) ∘ B). */
export function squaredNorms(call: Pick<LinearCall, "matmul" | "squaredNorms">, A: Value, B: Value, s: number): Value {
  const cross = sum(mul(transpose(call.matmul(A), [1, 0]), B), [1]);
  const own = sum(mul(gemm(B, gemm(A, A, { transB: true })), B), [1]);
  return add(call.squaredNorms(), add(scale(cross, 2 * s), scale(own, s * s)));
}

/** One list of numbers over another, one by one. */
export function quotients(numerators: ArrayLike<number>, denominators: ArrayLike<number>): Float64Array {
  return Float64Array.from(numerators, (value, i) => value / denominators[i]!);
}

/** Why DoRA cannot be unmerged without the original weights. */
export function lostNorms(): ConfigError {
  return new ConfigError("DoRA divides the rows of W + sBA by their norms, which the merged weights no longer tell", {
    hint: "give the original base model, from which the norms can be computed",
  });
}
