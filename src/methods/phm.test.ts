import { afterAll, describe, expect, it } from "vitest";
import { total } from "../ops/reference.fixture.js";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { bottleneck } from "./bottleneck.js";
import { type AdapterRun, attachmentOn, layerSites, matrix, plus, type Row, rowsNamed, runSublayer } from "./sublayer.fixture.js";

const D = 4;
const width = 2;
const n = 2;
const runtime = testRuntime();
afterAll(() => runtime.close());
const sites = layerSites(1, D);
const at = "bert.encoder.layer.0.output.adapters";
const common = "bert.shared_parameters";
const compacter = { reduction_factor: 2, non_linearity: "tanh", original_ln_before: false, phm_layer: true, phm_dim: n, phm_rank: 3 };
const run = (fields: object): Promise<AdapterRun> =>
  runSublayer(runtime, sites, attachmentOn(sites, bottleneck, { ...compacter, ...fields }));

/** Where the factors of a projection stand: A[k], of two factors or whole, and W[k] likewise, and the bias. */
interface Places {
  readonly rule: string;
  readonly W: string;
  readonly bias: string | undefined;
}

/** x·Σₖ(Aₖ ⊗ Wₖ) + b, written with the Kronecker product's own indices. */
function project({ param, shapes }: AdapterRun, { rule, W, bias }: Places, x: Row, out: number): Row {
  const rows = x.length / n;
  const columns = out / n;
  const A = (k: number, i: number, j: number): number =>
    shapes[rule] === undefined ? param(`${rule}_left`)(k, i, 0) * param(`${rule}_right`)(k, 0, j) : param(rule)(k, i, j);
  const second = (k: number, i: number, j: number): number =>
    shapes[W] === undefined ? total(3, (r) => param(`${W}_left`)(k, i, r) * param(`${W}_right`)(k, r, j)) : param(W)(k, i, j);
  const H = (i: number, j: number): number =>
    total(n, (k) => A(k, Math.floor(i / rows), Math.floor(j / columns)) * second(k, i % rows, j % columns));
  return Array.from({ length: out }, (_, j) => total(x.length, (i) => x[i]! * H(i, j)) + (bias === undefined ? 0 : param(bias)(j)));
}

const names = { down: `${at}.adapter_down.0`, up: `${at}.adapter_up` };
const cases = [
  { what: "shared rule, own factors", fields: {}, rule: () => `${common}.phm_rule`, W: (name: string) => `${name}.W` },
  {
    what: "own rule of rank 1",
    fields: { shared_phm_rule: false, factorized_phm_rule: true },
    rule: (name: string) => `${name}.phm_rule`,
    W: (name: string) => `${name}.W`,
  },
  {
    what: "shared rule of rank 1, whole second factors",
    fields: { factorized_phm_rule: true, factorized_phm_W: false },
    rule: () => `${common}.phm_rule`,
    W: (name: string) => `${name}.W`,
  },
  {
    what: "shared second factors, no bias",
    fields: { shared_W_phm: true, phm_bias: false },
    rule: () => `${common}.phm_rule`,
    W: (_: string, position: string) => `${common}.W_${position}`,
  },
];

describe("a hypercomplex projection", () => {
  it.each(cases)("is x·ΣA⊗W + b: $what", async ({ fields, rule, W }) => {
    const result = await run(fields);
    const places = (position: "down" | "up"): Places => ({
      rule: rule(names[position]),
      W: W(names[position], position),
      bias: "phm_bias" in fields ? undefined : `${names[position]}.b`,
    });
    const residuals = rowsNamed("residual", D);
    const expected = rowsNamed("output", D).map((h, t) => {
      const down = project(result, places("down"), h, width).map(Math.tanh);
      return plus(project(result, places("up"), down, D), h, residuals[t]!).map(Math.tanh);
    });
    expectClose(result.output, matrix(expected));
  });

  it("has AdapterHub's parameters", async () => {
    expect((await run({})).shapes).toEqual({
      [`${common}.phm_rule`]: [n, n, n],
      [`${names.down}.W_left`]: [n, D / n, 3],
      [`${names.down}.W_right`]: [n, 3, width / n],
      [`${names.down}.b`]: [width],
      [`${names.up}.W_left`]: [n, width / n, 3],
      [`${names.up}.W_right`]: [n, 3, D / n],
      [`${names.up}.b`]: [D],
    });
  });

  it("starts as AdapterHub's: Xavier's normal for the second factors, the rules by phm_c_init", async () => {
    const initOf = async (fields: object, name: string) => (await run(fields)).leaves.find(({ path }) => path === name)!.init;
    // [2, 3] slices: √(2 / (2 + 3))
    expect(await initOf({}, `${names.down}.W_left`)).toEqual({ kind: "normal", mean: 0, std: Math.sqrt(0.4) });
    expect(await initOf({ factorized_phm_W: false }, `${names.down}.W`)).toEqual({ kind: "normal", mean: 0, std: Math.sqrt(2 / 3) });
    expect(await initOf({ phm_init_range: 0.3 }, `${common}.phm_rule`)).toEqual({ kind: "normal", mean: 0, std: 0.3 });
    expect(await initOf({ phm_c_init: "uniform" }, `${common}.phm_rule`)).toEqual({ kind: "uniform", bound: 1 });
    const own = { shared_phm_rule: false, phm_init_range: 0.3 };
    expect(await initOf(own, `${names.up}.phm_rule`)).toEqual({ kind: "normal", mean: 0, std: 0.01 });
    expect(await initOf({ ...own, phm_c_init: "uniform" }, `${names.up}.phm_rule`)).toEqual({ kind: "uniform", bound: 0.01 });
  });

  it("keeps the rules as they start without learn_phm, and trains the rest", async () => {
    const { leaves } = await run({ learn_phm: false });
    expect(leaves.filter(({ trained }) => !trained).map(({ path }) => path)).toEqual([`${common}.phm_rule`]);
  });
});
