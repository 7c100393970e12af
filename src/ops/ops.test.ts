import { readdirSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { apply, input, leaf, type OpDef, topological } from "../core/graph.js";
import type { Tensor } from "../core/tensor.js";
import { ShapeError } from "../errors.js";
import { transpose } from "./movement.js";
import type { OpCase } from "./op-case.fixture.js";
import { opCases } from "./op-cases.fixture.js";
import { refusals } from "./op-refusals.fixture.js";
import { reader } from "./reference.fixture.js";
import { expectClose, expectGradient, gradcheck, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const isOp = (value: unknown): value is OpDef =>
  typeof value === "object" && value !== null && "name" in value && "infer" in value && "emit" in value;
const files = readdirSync(new URL(".", import.meta.url)).filter((file) => /^[\w-]+\.ts$/.test(file));
const modules: readonly Record<string, unknown>[] = await Promise.all(files.map((file) => import(/* @vite-ignore */ `./${file}`)));
const ops = modules.flatMap((module) => Object.values(module).filter(isOp));

const isFloat = (entry: [string, Tensor]): entry is [string, Tensor<"float32">] => entry[1].dtype === "float32";
const differentiated = ({ inputs, fixed = [] }: OpCase): Record<string, Tensor<"float32">> =>
  Object.fromEntries(
    Object.entries(inputs)
      .filter(isFloat)
      .filter(([name]) => !fixed.includes(name)),
  );
const cases = opCases.map((each) => ({ ...each, name: `${each.op.name}: ${each.title}` }));
const smooth = cases.filter(
  (each) => each.straightThrough !== true && typeof each.op.vjp === "function" && Object.keys(differentiated(each)).length > 0,
);

describe("each op's value is that of plain JavaScript", () => {
  it.each(cases)("$name", async (each) => {
    const values = Object.fromEntries(
      Object.entries(each.inputs).map(([name, { dtype, shape }]) => [name, input(name, dtype, each.shapes?.[name] ?? shape)]),
    );
    const y = each.build(values);
    expect(topological([y]).some(({ source }) => source.kind === "op" && source.op === each.op)).toBe(true);
    const results = await runGraph(runtime, { y }, each.inputs);
    const readers = Object.fromEntries(Object.entries(each.inputs).map(([name, tensor]) => [name, reader(tensor)]));
    expectClose(results.y, each.reference(readers), each.tolerance);
  });
});

describe("each op's gradient is that of central differences", () => {
  it.each(smooth)("$name", async (each) => {
    const inputs = differentiated(each);
    const others = Object.fromEntries(Object.entries(each.inputs).filter(([name]) => inputs[name] === undefined));
    expectGradient(
      await gradcheck(runtime, {
        inputs,
        others,
        build: (values) => each.build(values),
        ...(each.shapes === undefined ? {} : { shapes: each.shapes }),
        ...(each.sizes === undefined ? {} : { sizes: each.sizes }),
      }),
    );
  });
});

describe("each op's shape rule says what does not fit", () => {
  it.each(refusals.map((each) => ({ ...each, name: `${each.op.name}: ${each.message}` })))("$name", ({ name, op, types, attrs }) => {
    const values = types.map((type, i) => leaf({ kind: "input", name: `x${i}` }, type));
    expect(() => apply(op, values, attrs)).toThrow(new ShapeError(name));
  });
});

it("an order that leaves axes out is refused, also where those it names stay in place", () => {
  expect(() => transpose(input("x", "float32", [2, 3]), [0])).toThrow(
    "transpose: got float32[2,3]; expected as many axes as the order [0] names",
  );
});

describe("the tables", () => {
  const missing = (covered: readonly { readonly op: OpDef }[], wanted: readonly OpDef[] = ops): readonly string[] =>
    wanted.filter((op) => !covered.some((each) => each.op === op)).map((op) => op.name);

  it("hold every op that src/ops exports, each under a name of its own", () => {
    expect(ops.length).toBeGreaterThan(25);
    expect(new Set(ops.map((op) => op.name)).size).toBe(ops.length);
    expect(missing(cases)).toEqual([]);
    expect(missing(refusals)).toEqual([]);
  });

  it("check the gradient of every op that has one", () => {
    expect(
      missing(
        smooth,
        ops.filter((op) => typeof op.vjp === "function" && !cases.some((each) => each.op === op && each.straightThrough === true)),
      ),
    ).toEqual([]);
  });
});
