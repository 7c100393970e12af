import { describe, expect, it } from "vitest";
import { apply, apply1, constant, input, leaf, type Node, type OpDef, Value } from "../core/graph.js";
import { zeros } from "../core/initializer.js";
import { f32 } from "../core/tensor.js";
import { GraphError } from "../errors.js";
import { add, neg, scale } from "./elementwise.js";
import { print, validate } from "./graph-check.js";
import { linear } from "./linear.js";
import { reshape, slice } from "./movement.js";
import { layerNormOp } from "./norm.js";
import { sum } from "./reduce.js";

const weight = leaf({ kind: "weight", path: "dense.weight" }, { dtype: "float32", shape: [4, 3] });
const bias = leaf(
  { kind: "param", path: "dense.bias", init: zeros, trained: true, lr_scale: 1, decay: false },
  { dtype: "float32", shape: [4] },
);
const x = input("x", "float32", ["T", 3]);
const faultsOf = (outputs: Readonly<Record<string, Value>>): string => {
  try {
    validate(outputs);
    return "none";
  } catch (error) {
    if (error instanceof GraphError) return error.message;
    throw error;
  }
};

describe("print", () => {
  it("shows a graph line by line", () => {
    const [y, mean] = apply(layerNormOp, [linear(x, weight, bias), constant(f32([1, 1, 0.5, -1])), bias], { eps: 1e-5 });
    const wide = add(slice(sum(y!, [1]), 0, 0, "T-1"), constant(f32([1, 2, 3, 4, 5], [1, 5])));
    expect(print({ y: wide, mean: neg(mean!) })).toBe(
      [
        '%0 = gemm(batch:x, weight:dense.weight, param:dense.bias) {"transA":false,"transB":true,"alpha":1} float32[T,4]',
        '%1 = layer_norm.0(%0, [1,1,0.5,-1], param:dense.bias) {"eps":0.00001} float32[T,4]',
        '%2 = sum(%1) {"axes":[1]} float32[T,1]',
        '%3 = slice(%2) {"axis":0,"start":0,"end":"T-1"} float32[T-1,1]',
        "%4 = add(%3, constant float32[1,5]) float32[T-1,5]",
        '%5 = layer_norm.1(%0, [1,1,0.5,-1], param:dense.bias) {"eps":0.00001} float32[T,1]',
        "%6 = neg(%5) float32[T,1]",
        "return y = %4",
        "return mean = %6",
      ].join("\n"),
    );
  });
});

describe("validate", () => {
  it("accepts a sound graph, in which leaves are shared", () => {
    expect(faultsOf({ y: add(linear(x, weight, bias), linear(scale(x, 2), weight, bias)) })).toBe("none");
  });

  it("finds two leaves that are fed under one name", () => {
    const twin = input("x", "float32", ["T", 3]);
    expect(faultsOf({ y: add(x, twin) })).toBe('the graph is not valid:\n  two leaves are fed as "batch:x"');
    const named = leaf({ kind: "mask", name: "x", rate: 0.5 }, { dtype: "float32", shape: ["T", 3] });
    expect(faultsOf({ y: add(x, named) })).toBe("none");
  });

  it("finds sizes that nothing fed tells", () => {
    const faults = '\n  no fed tensor has the size "B" as an axis\n  no fed tensor has the size "S" as an axis';
    expect(faultsOf({ y: neg(input("y", "float32", ["B*S", "T"])) })).toBe(`the graph is not valid:${faults}`);
    const split = reshape(input("y", "float32", ["B*S", 2]), ["B", "S", 2]);
    expect(faultsOf({ y: split, b: input("b", "int32", ["B"]), s: input("s", "int32", ["S"]) })).toBe("none");
  });

  it("finds values whose type is not what their op's rule gives", () => {
    const shrinking: OpDef<{ calls: number }> = {
      name: "shrinking",
      infer: ([first], attrs) => [{ dtype: "float32", shape: [first!.shape[0]!, attrs.calls--] }],
      vjp: "unsupported",
      emit: () => [],
    };
    expect(faultsOf({ y: apply1(shrinking, [x], { calls: 3 }) })).toBe(
      "the graph is not valid:\n  shrinking output 0 says float32[T,3], its rule gives float32[T,2]",
    );
    const { source } = neg(x);
    expect(faultsOf({ y: new Value(source as Node, 1, x.type) })).toBe(
      "the graph is not valid:\n  neg output 1 says float32[T,3], its rule gives nothing",
    );
  });

  it("lists all faults at once", () => {
    expect(faultsOf({ y: add(neg(input("x", "float32", ["T-1", 3])), input("x", "float32", ["T-1", 3])) }).split("\n")).toHaveLength(3);
  });
});
