import { type Dim, dim, dimAdd, dimMul } from "../core/dims.js";
import { apply1, constant, type OpDef, type Value } from "../core/graph.js";
import { f32, i64 } from "../core/tensor.js";
import { bytesOf, noWork } from "../core/work.js";
import { axisOf, sameShape, shapeError } from "./shapes.js";

interface ShapeAttrs {
  readonly shape: readonly Dim[];
}

/** The same elements in the same order under another shape. */
export const reshapeOp: OpDef<ShapeAttrs> = {
  name: "reshape",
  infer: ([x], { shape }) => {
    if (dimMul(...x!.shape) !== dimMul(...shape)) throw shapeError("reshape", [x!], `as many elements as [${shape.join(",")}] has`);
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ({ inputs: [x], grad }) => [reshape(grad, x!.shape)],
  work: () => noWork,
  emit: (e, [x], { shape }) => e.node("Reshape", [x!, e.shape(shape)]),
};

/** Repeats axes of size 1 (and adds axes in front) until the shape is reached. */
export const expandOp: OpDef<ShapeAttrs> = {
  name: "expand",
  infer: ([x], { shape }) => {
    const offset = shape.length - x!.shape.length;
    if (offset < 0 || x!.shape.some((size, i) => size !== 1 && size !== shape[i + offset])) {
      throw shapeError("expand", [x!], `a shape that broadcasts to [${shape.join(",")}]`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ({ grad }) => [grad],
  emit: (e, [x], { shape }) => e.node("Expand", [x!, e.shape(shape)]),
};

/** Axes in another order. */
export const transposeOp: OpDef<{ readonly order: readonly number[] }> = {
  name: "transpose",
  infer: ([x], { order }) => {
    if (order.length !== x!.shape.length || [...order].sort((a, b) => a - b).some((axis, i) => axis !== i)) {
      throw shapeError("transpose", [x!], `as many axes as the order [${order}] names`);
    }
    return [{ dtype: x!.dtype, shape: order.map((axis) => x!.shape[axis]!) }];
  },
  vjp: ({ attrs, grad }) => {
    const inverse = attrs.order.map((_, i) => attrs.order.indexOf(i));
    return [transpose(grad, inverse)];
  },
  emit: (e, inputs, { order }) => e.node("Transpose", inputs, { perm: order }),
};

/** Rows of a table by index: table [R, ...], indices int32 [N] → [N, ...]. */
export const gatherOp: OpDef<null> = {
  name: "gather",
  infer: (inputs) => {
    const [table, indices] = inputs;
    if (inputs.length !== 2 || table!.shape.length < 1 || indices!.dtype !== "int32" || indices!.shape.length !== 1) {
      throw shapeError("gather", inputs, "a table [R, ...] and int32 indices [N]");
    }
    return [{ dtype: table!.dtype, shape: [...indices!.shape, ...table!.shape.slice(1)] }];
  },
  vjp: ({ inputs: [table, indices], grad }) => [apply1(scatterAddOp, [grad, indices!], { rows: table!.shape[0]! }), null],
  work: (_, [rows]) => ({ moved: 2 * bytesOf(rows!), scratch: 0 }),
  emit: (e, inputs) => e.node("Gather", inputs, { axis: 0 }),
};

/** The transpose of gather: rows [N, ...] added up at their indices [N] into a table of zeros [R, ...]; an index may come twice. */
export const scatterAddOp: OpDef<{ readonly rows: Dim }> = {
  name: "scatter_add",
  infer: (inputs, { rows }) => {
    const [values, indices] = inputs;
    if (inputs.length !== 2 || values!.dtype !== "float32" || indices!.dtype !== "int32" || values!.shape[0] !== indices!.shape[0]) {
      throw shapeError("scatter_add", inputs, "float32 rows [N, ...] and int32 indices [N]");
    }
    return [{ dtype: "float32", shape: [rows, ...values!.shape.slice(1)] }];
  },
  vjp: ({ inputs: [, indices], grad }) => [gather(grad, indices!), null],
  emit: (e, [values, indices], _, [type]) => {
    const [table] = e.node("Expand", [e.constant(f32([0], [])), e.shape(type!.shape)]);
    const [wide] = e.node("Cast", [indices!], { to: 7 });
    const [column] = e.node("Unsqueeze", [wide!, e.constant(i64([1]))]);
    return e.node("ScatterND", [table!, column!, values!], { reduction: "add" });
  },
};

/** Values joined along an axis; all other sizes are equal. */
export const concatOp: OpDef<{ readonly axis: number }> = {
  name: "concat",
  infer: (inputs, { axis }) => {
    const [first] = inputs;
    const fits = (shape: readonly Dim[]): boolean => sameShape(shape.toSpliced(axis, 1), first!.shape.toSpliced(axis, 1));
    if (inputs.length === 0 || inputs.some((type) => type.dtype !== first!.dtype || !fits(type.shape))) {
      throw shapeError("concat", inputs, `shapes that are equal but for axis ${axis}`);
    }
    const shape = [...first!.shape];
    shape[axis] = dimAdd(...inputs.map((type) => type.shape[axis]!));
    return [{ dtype: first!.dtype, shape }];
  },
  vjp: ({ inputs, attrs, grad }) => {
    let start: Dim = 0;
    return inputs.map((each) => {
      const end = dimAdd(start, each.shape[attrs.axis]!);
      const part = slice(grad, attrs.axis, start, end);
      start = end;
      return part;
    });
  },
  emit: (e, inputs, { axis }) => e.node("Concat", inputs, { axis }),
};

interface SliceAttrs {
  readonly axis: number;
  readonly start: Dim;
  readonly end: Dim;
}

/** The part [start, end) of an axis. */
export const sliceOp: OpDef<SliceAttrs> = {
  name: "slice",
  infer: ([x], { axis, start, end }) => {
    const size = dimAdd(end, dimMul(-1, start));
    const rest = dimAdd(x!.shape[axis]!, dimMul(-1, end));
    if ([start, size, rest].some((each) => typeof each === "number" && each < 0)) {
      throw shapeError("slice", [x!], `an axis ${axis} that holds [${start}, ${end})`);
    }
    return [{ dtype: x!.dtype, shape: x!.shape.with(axis, size) }];
  },
  vjp: ({ inputs: [x], attrs: { axis, start, end }, grad }) => {
    const padding = (size: Dim): Value => expand(constant(f32([0], [])), x!.shape.with(axis, size));
    const whole = x!.shape[axis]!;
    const parts = [...(start === 0 ? [] : [padding(start)]), grad, ...(end === whole ? [] : [padding(dimAdd(whole, dimMul(-1, end)))])];
    return [parts.length === 1 ? grad : concat(parts, axis)];
  },
  work: (_, [part]) => ({ moved: 2 * bytesOf(part!), scratch: 0 }),
  emit: (e, [x], { axis, start, end }) => e.node("Slice", [x!, e.shape([start]), e.shape([end]), e.constant(i64([axis]))]),
};

/** The same elements under another shape; sizes may be symbolic. */
export function reshape(x: Value, shape: readonly Dim[]): Value {
  const target = shape.map(dim);
  return sameShape(x.shape, target) ? x : apply1(reshapeOp, [x], { shape: target });
}

/** Broadcasts x to a shape. */
export function expand(x: Value, shape: readonly Dim[]): Value {
  const target = shape.map(dim);
  return sameShape(x.shape, target) ? x : apply1(expandOp, [x], { shape: target });
}

/** Axes in another order, as numpy's transpose. */
export function transpose(x: Value, order: readonly number[]): Value {
  return order.length === x.shape.length && order.every((axis, i) => axis === i) ? x : apply1(transposeOp, [x], { order });
}

/** table[indices]: table [R, ...], int32 indices [N] → [N, ...]. */
export function gather(table: Value, indices: Value): Value {
  return apply1(gatherOp, [table, indices], null);
}

/** Values joined along an axis. */
export function concat(values: readonly Value[], axis: number): Value {
  return values.length === 1 ? values[0]! : apply1(concatOp, values, { axis: axisOf("concat", values[0]!.type, axis) });
}

/** The part [start, end) of an axis. */
export function slice(x: Value, axis: number, start: Dim, end: Dim): Value {
  const at = axisOf("slice", x.type, axis);
  return start === 0 && dim(end) === x.shape[at] ? x : apply1(sliceOp, [x], { axis: at, start: dim(start), end: dim(end) });
}
