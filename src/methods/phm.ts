import type { Value } from "../core/graph.js";
import { type Initializer, normal, uniform, zeros } from "../core/initializer.js";
import { add } from "../ops/elementwise.js";
import { gemm, matmul } from "../ops/linear.js";
import { reshape, transpose } from "../ops/movement.js";
import type { BottleneckConfig } from "./bottleneck-config.js";
import type { ParamScope } from "./method.js";

/** Where a projection stands. */
export interface PhmPlace {
  /** Its own name, for the parameters that it does not share. */
  readonly name: string;
  readonly position: "down" | "up";
  /** Path of the backbone, under which shared parameters stand. */
  readonly backbone: string;
}

/**
 * A parameterised hypercomplex projection: x·H + b with H = Σₖ Aₖ ⊗ Wₖ, n matrices A [n, n] and W [in/n, out/n] (Compacter: Karimi Mahabadi et
 * al. 2021, arXiv:2106.04647, §3.2). x [T, in] → [T, out].
 */
export function phmLinear(p: ParamScope, c: BottleneckConfig, { name, position, backbone }: PhmPlace, x: Value, out: number): Value {
  const n = c.phm_dim;
  const [rows, columns] = [Number(x.shape[1]) / n, out / n];
  const own = (field: string, shape: readonly number[], init: Initializer, trained = true): Value =>
    p.param(`${name}.${field}`, shape, init, { trained });
  const shared = (field: string, shape: readonly number[], init: Initializer, trained = true): Value =>
    p.shared().param(`${backbone}.shared_parameters.${field}`, shape, init, { trained });

  const matrices = c.shared_W_phm ? shared : own;
  const W = c.shared_W_phm ? `W_${position}` : "W";
  const second = c.factorized_phm_W
    ? matmul(
        matrices(`${W}_left`, [n, rows, c.phm_rank], xavier(rows, c.phm_rank)),
        matrices(`${W}_right`, [n, c.phm_rank, columns], xavier(c.phm_rank, columns)),
      )
    : matrices(W, [n, rows, columns], xavier(rows, columns));

  const rule = c.shared_phm_rule ? shared : own;
  const bound = c.shared_phm_rule ? 1 : 0.01;
  const start = c.phm_c_init === "uniform" ? uniform(bound) : normal(c.shared_phm_rule ? c.phm_init_range : 0.01);
  const first = c.factorized_phm_rule
    ? matmul(rule("phm_rule_left", [n, n, 1], start, c.learn_phm), rule("phm_rule_right", [n, 1, n], start, c.learn_phm))
    : rule("phm_rule", [n, n, n], start, c.learn_phm);

  // Σₖ Aₖ[a,b]·Wₖ[i,j] stands at row (a,i), column (b,j)
  const sum = gemm(reshape(first, [n, n * n]), reshape(second, [n, rows * columns]), { transA: true });
  const H = reshape(transpose(reshape(sum, [n, n, rows, columns]), [0, 2, 1, 3]), [n * rows, n * columns]);
  const y = gemm(x, H);
  // Trainer spares what is named "bias"; this is not
  return c.phm_bias ? add(y, p.param(`${name}.b`, [out], zeros)) : y;
}

/** torch's xavier_normal_ of one [from, to] slice. */
function xavier(from: number, to: number): Initializer {
  return normal(Math.sqrt(2 / (from + to)));
}
