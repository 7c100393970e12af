import { describe, expect, it } from "vitest";
import { addProduct } from "../core/matrix.js";
import { f32, type Tensor } from "../core/tensor.js";
import { lora } from "./lora.js";
import { type CombinedLora, catLora, combineFaults, linearLora, rankFaults, type WeightedLora } from "./lora-combine.js";

/** A LoRA on layers of 3 inputs and 2 outputs: by layer its rank, scaling and numbers. */
function loraOf(
  name: string,
  weight: number,
  layers: Readonly<Record<string, { readonly r: number; readonly scaling: number; readonly A: number[]; readonly B: number[] }>>,
  config: object = {},
): WeightedLora {
  const entries = Object.entries(layers);
  return {
    name,
    weight,
    config: lora.config.parse({ r: Math.max(...entries.map(([, { r }]) => r)), ...config }),
    plan: {
      targets: new Map(entries.map(([path, { r, scaling }]) => [path, { r, scaling }])),
      tables: new Map(),
      names: [],
      transposed: false,
    },
    params: new Map(
      entries.flatMap(([path, { r, A, B }]) => [
        [`${path}.lora_A.weight`, f32(A, [r, 3])] as const,
        [`${path}.lora_B.weight`, f32(B, [2, r])] as const,
      ]),
    ),
  };
}

const zero = f32(new Float32Array(6), [2, 3]);
const product = ({ params }: Pick<CombinedLora, "params">, path: string, s: number, onto: Tensor<"float32"> = zero): Tensor<"float32"> =>
  addProduct(onto, params.get(`${path}.lora_B.weight`)!, params.get(`${path}.lora_A.weight`)!, s);

const a = loraOf("a", 2, { q: { r: 1, scaling: 2, A: [1, 2, 3], B: [1, -1] }, k: { r: 1, scaling: 3, A: [0, 1, 0], B: [2, 0] } });
const b = loraOf("b", -0.5, { q: { r: 1, scaling: 0.5, A: [4, 0, -4], B: [8, 2] } });

describe("cat", () => {
  it("is the weighted sum of the updates, in each layer of those that adapt it", () => {
    const both = catLora([a, b]);
    expect(both.r).toBe(2);
    expect(both.paths).toEqual(["q", "k"]);
    expect(product(both, "q", 1)).toEqual(product(b, "q", -0.25, product(a, "q", 4)));
    expect(product(both, "k", 1)).toEqual(product(a, "k", 6));
  });

  it("has the weights in A, as PEFT has, and zeros where a layer does not use the rank", () => {
    const { params } = catLora([a, b]);
    expect(params.get("q.lora_A.weight")).toEqual(f32([4, 8, 12, -1, -0, 1], [2, 3]));
    expect(params.get("q.lora_B.weight")).toEqual(f32([1, 8, -1, 2], [2, 2]));
    expect(params.get("k.lora_A.weight")).toEqual(f32([0, 6, 0, 0, 0, 0], [2, 3]));
    expect(params.get("k.lora_B.weight")).toEqual(f32([2, 0, 0, 0], [2, 2]));
  });

  it("takes different ranks", () => {
    const wide = loraOf("wide", 1, { q: { r: 2, scaling: 1, A: [1, 0, 0, 0, 1, 0], B: [1, 2, 3, 4] } });
    const both = catLora([wide, b]);
    expect(both.r).toBe(3);
    expect(product(both, "q", 1)).toEqual(product(b, "q", -0.25, product(wide, "q", 1)));
    expect(rankFaults([wide, b])).toEqual(["q: ranks wide 2, b 1"]);
    expect(rankFaults([a, b])).toEqual([]);
  });
});

describe("linear", () => {
  it("adds A's and B's with the roots of the weights, the sign in A", () => {
    const { r, params } = linearLora([a, b]);
    expect(r).toBe(1);
    expect(params.get("q.lora_A.weight")).toEqual(f32([2 * 1 - 0.5 * 4, 2 * 2, 2 * 3 + 0.5 * 4], [1, 3]));
    expect(params.get("q.lora_B.weight")).toEqual(f32([2 * 1 + 0.5 * 8, -2 + 0.5 * 2], [2, 1]));
  });

  it("of one adapter is that adapter", () => {
    expect(product(linearLora([a]), "k", 1).data[1]).toBeCloseTo(product(a, "k", 6).data[1]!, 5);
  });
});

it("embedding tables are combined in the same ways, under their own names", () => {
  const table = ({ plan, params, ...rest }: WeightedLora): WeightedLora => ({
    ...rest,
    plan: { ...plan, targets: new Map(), tables: plan.targets },
    params: new Map([...params].map(([path, tensor]) => [path.replace(/lora_([AB])\.weight/, "lora_embedding_$1"), tensor])),
  });
  for (const combine of [catLora, linearLora]) {
    const [tables, layers] = [combine([table(a), table(b)]), combine([a, b])];
    expect(tables.paths).toEqual(layers.paths);
    for (const path of layers.paths)
      for (const part of ["A", "B"])
        expect(tables.params.get(`${path}.lora_embedding_${part}`)).toEqual(layers.params.get(`${path}.lora_${part}.weight`));
  }
});

it("what cannot be combined is named", () => {
  const [dora, biased] = [loraOf("d", 1, {}, { r: 1, use_dora: true }), loraOf("e", 1, {}, { r: 1, bias: "all" })];
  expect(combineFaults([a, dora, biased])).toEqual([
    "d: DoRA's magnitudes belong to its own update only",
    'e: bias "all" trains biases in place, which have no weight',
  ]);
});
