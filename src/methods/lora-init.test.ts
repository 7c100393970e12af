import { beforeAll, describe, expect, it } from "vitest";
import { matrixOf, topSingular } from "../core/factorize.js";
import { type Initializer, type InitialSource, initialValues } from "../core/initializer.js";
import { fillNormal, keyOf } from "../core/random.js";
import { f32, type Tensor } from "../core/tensor.js";
import { type InitLoraWeights, isResidual, loraStart, rowNorms } from "./lora-init.js";
import type { LinearSite } from "./method.js";

const site: LinearSite = { path: "layer", role: "query", inFeatures: 6, outFeatures: 8, bias: true };
const sizes = { r: 4, scaling: 1.5 };
const weight = new Float32Array(48);
fillNormal(weight, keyOf(2, "weight"), 0, 1);
const source = (seed: number): InitialSource => ({
  seed,
  id: "base",
  weight: async (path): Promise<Tensor<"float32">> => {
    expect(path).toBe("layer.weight");
    return f32(weight.slice(), [8, 6]);
  },
  tokenIds: () => [],
});

async function values(init: Initializer, shape: readonly number[], seed = 0): Promise<Float32Array> {
  if (init.kind === "base") throw new Error("not of the base");
  return init.kind === "computed" ? (await init.compute(source(seed)))[init.part]! : initialValues(init, shape, seed, "name").data;
}

/** s·B·A of a start. */
async function product(init: InitLoraWeights, seed = 0) {
  const start = loraStart(init, site, sizes);
  const A = matrixOf(await values(start.A, [4, 6], seed), 4, 6);
  const B = matrixOf(await values(start.B, [8, 4], seed), 8, 4);
  return { A, B, BA: B.mmul(A).mul(sizes.scaling) };
}

const largest = (x: { to1DArray(): number[] }): number => Math.max(...x.to1DArray().map(Math.abs));

describe("B·A at the start", () => {
  it.each([true, "gaussian"] as const)("of %s is zero since B is", async (init) => {
    const { A, B } = await product(init);
    expect(largest(A)).toBeGreaterThan(0.1);
    expect(largest(B)).toBe(0);
  });

  it("of false is not zero", async () => {
    const { B, BA } = await product(false);
    expect(largest(B)).toBeLessThanOrEqual(1 / Math.sqrt(4)); // torch's bound for 4 inputs
    expect(largest(BA)).toBeGreaterThan(0.01);
  });

  it("of orthogonal is zero though neither is", async () => {
    const { A, B, BA } = await product("orthogonal");
    expect(largest(A)).toBeGreaterThan(0.02);
    expect(largest(B)).toBeGreaterThan(0.02);
    expect(largest(BA)).toBeLessThan(1e-8);
  });

  it("of pissa is the weight's best approximation of that rank, shared evenly between A and B", async () => {
    const { A, B, BA } = await product("pissa");
    const { left, values: top, right } = topSingular(matrixOf(weight, 8, 6), 4);
    const best = left.mulRowVector([...top]).mmul(right.transpose());
    expect(largest(best.sub(BA))).toBeLessThan(1e-6);
    for (const i of [0, 1, 2, 3]) expect(A.getRowVector(i).norm()).toBeCloseTo(B.getColumnVector(i).norm(), 6);
  });

  it("of pissa_niter_K comes near that, from the seed", async () => {
    const exact = await product("pissa");
    const far = async (init: InitLoraWeights, seed = 0): Promise<number> => largest((await product(init, seed)).BA.sub(exact.BA));
    expect(await far("pissa_niter_200")).toBeLessThan(1e-5);
    expect(await far("pissa_niter_0")).toBeGreaterThan(1e-3);
    expect(await far("pissa_niter_0", 1)).not.toBe(await far("pissa_niter_0"));
  });
});

it("draws gaussian values with deviation 1/r", async () => {
  const wide = { ...site, inFeatures: 4000 };
  const A = await values(loraStart("gaussian", wide, sizes).A, [4, 4000]);
  expect(Math.sqrt(A.reduce((total, x) => total + x * x, 0) / A.length)).toBeCloseTo(0.25, 2);
});

it("knows which starts are taken out of the base", () => {
  expect([true, false, "gaussian", "orthogonal", "pissa", "pissa_niter_4"].filter((init) => isResidual(init))).toEqual([
    "pissa",
    "pissa_niter_4",
  ]);
});

describe("row norms", () => {
  let norms: Float32Array;
  beforeAll(async () => {
    norms = await values(rowNorms({ path: "layer" }), [8]);
  });
  it("are those of the weight's rows", () => {
    expect(norms).toHaveLength(8);
    for (const [i, norm] of norms.entries()) expect(norm).toBeCloseTo(Math.hypot(...weight.subarray(6 * i, 6 * i + 6)), 5);
  });
});
