import { describe, expect, it } from "vitest";
import { ShapeError } from "../errors.js";
import { apply, apply1, constant, feedName, input, type OpDef, topological, Value } from "./graph.js";
import { zeros } from "./initializer.js";
import { f32 } from "./tensor.js";

const join: OpDef<null> = { name: "join", infer: ([first]) => [first!], vjp: "unsupported", emit: () => [] };
const split: OpDef<null> = { name: "split", infer: ([x]) => [x!, { dtype: "int32", shape: [] }], vjp: "unsupported", emit: () => [] };
const at = (name: string): Value => input(name, "float32", ["T"]);
const both = (...values: readonly Value[]): Value => apply1(join, values, null);

describe("apply", () => {
  it("gives one value per output, all of one node", () => {
    const x = at("x");
    const [first, second] = apply(split, [x], null);
    expect(first!.type).toEqual({ dtype: "float32", shape: ["T"] });
    expect(second!.type).toEqual({ dtype: "int32", shape: [] });
    expect(first!.source).toBe(second!.source);
    expect([first!.index, second!.index]).toEqual([0, 1]);
    expect(first!.source).toMatchObject({ kind: "op", op: split, inputs: [x], outputs: [first, second] });
  });

  it("lets the shape rule's error through", () => {
    const fails: OpDef<null> = {
      ...join,
      infer: () => {
        throw new ShapeError("join: no");
      },
    };
    expect(() => apply(fails, [at("x")], null)).toThrow(new ShapeError("join: no"));
  });
});

describe("topological", () => {
  it("puts each value after what it depends on, once", () => {
    const [x, y] = [at("x"), at("y")];
    const left = both(x, y);
    const right = both(y, left);
    const end = both(left, right, right, x);
    expect(topological([end])).toEqual([x, y, left, right, end]);
  });

  it("takes several outputs, one of which lies under another, in a fixed order", () => {
    const [x, y] = [at("x"), at("y")];
    const inner = both(x);
    const outer = both(inner, y);
    expect(topological([outer, inner, outer])).toEqual([x, inner, y, outer]);
    expect(topological([inner, outer])).toEqual([x, inner, y, outer]);
    expect(topological([])).toEqual([]);
  });

  it("lists an output of a node only where something depends on it", () => {
    const [first, second] = apply(split, [at("x")], null);
    expect(topological([second!])).not.toContain(first);
    expect(topological([both(first!, second!)])).toContain(first);
  });

  it("does not overflow the stack on a chain of 10,000 values, nor take for ever on one of diamonds", () => {
    const x = at("x");
    let deep = x;
    for (let i = 0; i < 10_000; i++) deep = both(deep);
    const order = topological([deep]);
    expect(order).toHaveLength(10_001);
    expect(order[0]).toBe(x);
    expect(order.at(-1)).toBe(deep);
    let diamonds = x;
    for (let i = 0; i < 200; i++) diamonds = both(both(diamonds), both(diamonds));
    expect(topological([diamonds])).toHaveLength(601);
  });

  it("refuses a cycle", () => {
    const outputs: Value[] = [];
    const inputs: Value[] = [];
    const cyclic = new Value({ kind: "op", op: join, inputs, attrs: null, outputs }, 0, { dtype: "float32", shape: [] });
    inputs.push(both(cyclic));
    expect(() => topological([cyclic])).toThrow("cycle");
  });
});

it("feedName is prefixed by kind, so that no two kinds of leaf meet", () => {
  const param = { kind: "param", path: "a", init: zeros, trained: true, lr_scale: 1, decay: true } as const;
  expect(feedName(param)).toBe("param:a");
  expect(feedName({ kind: "weight", path: "a" })).toBe("weight:a");
  expect(feedName({ kind: "input", name: "a" })).toBe("batch:a");
  expect(feedName({ kind: "mask", name: "a", rate: 0.1 })).toBe("mask:a");
  const one = constant(f32([1], []));
  expect(one.type).toEqual({ dtype: "float32", shape: [] });
  expect(one.source.kind !== "op" && feedName(one.source)).toBeUndefined();
});
