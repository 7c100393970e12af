import { apply, apply1, type OpDef, type Value } from "../core/graph.js";
import { f32, i64 } from "../core/tensor.js";
import { neg } from "./elementwise.js";
import { sameShape, shapeError } from "./shapes.js";

/** Cosines and sines of each token's rotation angles, [T, K/2] each. */
export interface Angles {
  readonly cos: Value;
  readonly sin: Value;
}

/** Positions int32 [T] times frequencies (radians a position, K/2 of them) → cosines and sines [T, K/2], both times `scale`. No gradient. */
export const rotaryAnglesOp: OpDef<{ readonly frequencies: readonly number[]; readonly scale: number }> = {
  name: "rotary_angles",
  infer: (inputs, { frequencies }) => {
    const [positions] = inputs;
    if (inputs.length !== 1 || positions!.dtype !== "int32" || positions!.shape.length !== 1) {
      throw shapeError("rotary_angles", inputs, "int32 positions [T]");
    }
    const type = { dtype: "float32" as const, shape: [positions!.shape[0]!, frequencies.length] };
    return [type, type];
  },
  vjp: "stop",
  emit: (e, [positions], { frequencies, scale }) => {
    const [numbers] = e.node("Cast", [positions!], { to: 1 });
    const [column] = e.node("Unsqueeze", [numbers!, e.constant(i64([1]))]);
    const [angles] = e.node("Mul", [column!, e.constant(f32(frequencies, [1, frequencies.length]))]);
    return ["Cos", "Sin"].map((op) => {
      const [value] = e.node(op, [angles!]);
      return scale === 1 ? value! : e.node("Mul", [value!, e.constant(f32([scale], []))])[0]!;
    });
  },
};

/**
 * Rotates each head's pairs (i, i + K/2) by the token's angles (Su et al. 2021, arXiv:2104.09864; transformers' apply_rotary_pos_emb).
 * Inputs x [T, heads*K], cos and sin [T, K/2]. Its backward pass is the rotation by the opposite angles.
 */
export const rotaryOp: OpDef<{ readonly heads: number }> = {
  name: "rotary",
  infer: (inputs, { heads }) => {
    const [x, cos, sin] = inputs;
    const angles = [x!.shape[0]!, Number(x!.shape[1]) / heads / 2];
    if (inputs.length !== 3 || x!.shape.length !== 2 || !sameShape(cos!.shape, angles) || !sameShape(sin!.shape, angles)) {
      throw shapeError("rotary", inputs, `x [T, ${heads}*K], cos and sin [T, K/2]`);
    }
    return [x!];
  },
  vjp: ({ inputs: [, cos, sin], attrs: { heads }, grad }) => [rotary(grad, heads, { cos: cos!, sin: neg(sin!) }), null, null],
  emit: (e, [x, cos, sin], { heads }) => {
    // the kernel takes batches; the packed rows are one text whose places 0 to T-1 are the tables' rows
    const [batch] = e.node("Unsqueeze", [x!, e.constant(i64([0]))]);
    const [turned] = e.node(
      "RotaryEmbedding",
      [batch!, e.constant(i64([0])), cos!, sin!],
      { interleaved: 0, num_heads: heads },
      { domain: "com.microsoft" },
    );
    return e.node("Squeeze", [turned!, e.constant(i64([0]))]);
  },
};

/** Cosines and sines of positions [T] times frequencies; `scale` is YaRN's attention factor. */
export function rotaryAngles(positions: Value, frequencies: readonly number[], scale = 1): Angles {
  const [cos, sin] = apply(rotaryAnglesOp, [positions], { frequencies, scale });
  return { cos: cos!, sin: sin! };
}

/** x [T, heads*K] with each head rotated by its token's angles. */
export function rotary(x: Value, heads: number, { cos, sin }: Angles): Value {
  return apply1(rotaryOp, [x, cos, sin], { heads });
}
