import { afterAll, describe, expect, it } from "vitest";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { bottleneck } from "./bottleneck.js";
import {
  type AdapterRun,
  affine,
  attachmentOn,
  type Finish,
  layerSites,
  matrix,
  newNorm,
  plus,
  type Row,
  rowsNamed,
  runSublayer,
  texts,
  times,
} from "./sublayer.fixture.js";

const D = 4;
const runtime = testRuntime();
afterAll(() => runtime.close());
const sites = layerSites(1, D);
const at = "bert.encoder.layer.0.output.adapters";
const fields = { reduction_factor: 2, non_linearity: "tanh" };
const [hs, rs] = [rowsNamed("output", D), rowsNamed("residual", D)];

const runWith = (more: object, finish?: Finish): Promise<AdapterRun> =>
  runSublayer(runtime, sites, attachmentOn(sites, bottleneck, { ...fields, ...more }), finish);
const N = (x: Row): Row => x.map(Math.tanh);
/** up(tanh(down(z))), of the bottleneck width 2. */
const B = (run: AdapterRun, z: Row, down = `${at}.adapter_down.0`): Row =>
  affine(run, `${at}.adapter_up`, D, affine(run, down, 2, z).map(Math.tanh));

/** What a token's row must become, from the sub-layer's output and the residual there. */
type Expected = (run: AdapterRun, h: Row, r: Row, token: number) => Row;

const sequential: Expected = (run, h, r) => N(plus(B(run, N(plus(h, r))), h, r));
const sumOf = (run: AdapterRun, h: Row): Row => plus(B(run, h), h);
const gateOf = (run: AdapterRun, inputs: readonly Row[], token: number): number => {
  const text = texts.find((tokens) => tokens.includes(token))!;
  const gates = text.map((t) => 1 / (1 + Math.exp(-affine(run, `${at}.gate`, 1, inputs[t]!)[0]!)));
  return gates.reduce((sum, gate) => sum + gate, 0) / gates.length;
};

/** AdapterHub's equations, one for each field that changes them; N is the model's norm, B the adapter alone. */
const equations: readonly (readonly [what: string, fields: object, expected: Expected, finish?: Finish])[] = [
  ["N(B(N(h+r)) + h + r), the default", {}, sequential],
  ["h + r + B(h+r) without a norm", {}, (run, h, r) => plus(B(run, plus(h, r)), h, r), "none"],
  ["the skip after the norm", { residual_before_ln: false }, (run, h, r) => N(plus(B(run, N(plus(h, r))), N(plus(h, r)), r))],
  ["the skip from the sum", { residual_before_ln: "post_add" }, (run, h, r) => N(plus(B(run, N(plus(h, r))), h, r, r))],
  ["no norm before", { original_ln_before: false }, (run, h, r) => N(plus(B(run, h), h, r))],
  [
    "no norm before, whose skip is the same",
    { original_ln_before: false, residual_before_ln: false },
    (run, h, r) => N(plus(B(run, h), h, r)),
  ],
  ["no norm after", { original_ln_after: false, residual_before_ln: false }, (run, h, r) => sumOf(run, N(plus(h, r)))],
  ["in parallel", { is_parallel: true }, (run, h, r) => N(plus(B(run, r), h, r))],
  ["in parallel, no norm after", { is_parallel: true, original_ln_after: false }, (run, h, r) => plus(B(run, r), h)],
  ["a scaling number", { scaling: -3 }, (run, h, r) => N(plus(times(-3, B(run, N(plus(h, r)))), h, r))],
  ["a learned scaling", { scaling: "learned" }, (run, h, r) => N(plus(times(run.param(`${at}.scaling`)(0), B(run, N(plus(h, r)))), h, r))],
  [
    "a scaling by channel",
    { scaling: "channel" },
    (run, h, r) =>
      N(
        plus(
          B(run, N(plus(h, r))).map((x, i) => x * run.param(`${at}.scaling`)(i)),
          h,
          r,
        ),
      ),
  ],
  [
    "a gate, the mean over the text of what it says to the adapter's input",
    { use_gating: true },
    (run, h, r, token) => {
      const inputs = hs.map((_, t) => N(plus(hs[t]!, rs[t]!)));
      return N(plus(times(gateOf(run, inputs, token), B(run, N(plus(h, r)))), h, r));
    },
  ],
  [
    "a gate in parallel, which reads the residual",
    { use_gating: true, is_parallel: true, ln_before: true },
    (run, h, r, token) =>
      N(plus(times(gateOf(run, rs, token), B(run, newNorm(run, `${at}.adapter_norm_before`, r), `${at}.adapter_down.1`)), h, r)),
  ],
  [
    "a norm before",
    { ln_before: true },
    (run, h, r) => N(plus(B(run, newNorm(run, `${at}.adapter_norm_before`, N(plus(h, r))), `${at}.adapter_down.1`), h, r)),
  ],
  [
    "a norm after, then the skip",
    { ln_after: true },
    (run, h, r) => N(plus(newNorm(run, `${at}.adapter_norm_after`, B(run, N(plus(h, r)))), h, r)),
  ],
  [
    "the skip, then a norm after",
    { ln_after: true, adapter_residual_before_ln: true },
    (run, h, r) => N(plus(newNorm(run, `${at}.adapter_norm_after`, plus(B(run, N(plus(h, r))), h)), r)),
  ],
  [
    "a norm after in parallel",
    { ln_after: true, is_parallel: true },
    (run, h, r) => N(plus(newNorm(run, `${at}.adapter_norm_after`, B(run, r)), h, r)),
  ],
  ["adapter_residual_before_ln, which is nothing without a norm after", { adapter_residual_before_ln: true }, sequential],
];

describe("the equation of an adapter layer", () => {
  it.each(equations.map(([what, more, expected, finish]) => ({ what, more, expected, finish })))(
    "$what",
    async ({ more, expected, finish }) => {
      const run = await runWith(more, finish);
      expectClose(run.output, matrix(hs.map((h, t) => expected(run, h, rs[t]!, t))));
    },
  );
});

describe("the parameters", () => {
  const start = async (more: object) =>
    Object.fromEntries(
      (await runWith(more)).leaves.map(({ path, init, decay, trained }) => [path.slice(at.length + 1), { init, decay, trained }]),
    );

  it("have AdapterHub's names, and its shapes", async () => {
    expect((await runWith({ ln_before: true, ln_after: true, use_gating: true, scaling: "channel" })).shapes).toEqual({
      [`${at}.adapter_norm_before.weight`]: [D],
      [`${at}.adapter_norm_before.bias`]: [D],
      [`${at}.adapter_down.1.weight`]: [2, D],
      [`${at}.adapter_down.1.bias`]: [2],
      [`${at}.adapter_up.weight`]: [D, 2],
      [`${at}.adapter_up.bias`]: [D],
      [`${at}.scaling`]: [D],
      [`${at}.gate.weight`]: [1, D],
      [`${at}.gate.bias`]: [1],
      [`${at}.adapter_norm_after.weight`]: [D],
      [`${at}.adapter_norm_after.bias`]: [D],
    });
    expect((await runWith({ scaling: "learned" })).shapes[`${at}.scaling`]).toEqual([1]);
  });

  it.each([
    ["bert", { kind: "normal", mean: 0, std: 0.02 }, { kind: "normal", mean: 0, std: 0.02 }],
    ["mam_adapter", { kind: "uniform", bound: 0.5 }, { kind: "constant", value: 0 }],
    ["houlsby", { kind: "normal", mean: 0, std: 0.01, cut: 0.02 }, { kind: "normal", mean: 0, std: 0.01, cut: 0.02 }],
  ])("start as init_weights %s says; biases at 0 and without weight decay", async (init_weights, down, up) => {
    const zero = { kind: "constant", value: 0 };
    expect(await start({ init_weights })).toEqual({
      "adapter_down.0.weight": { init: down, decay: true, trained: true },
      "adapter_down.0.bias": { init: zero, decay: false, trained: true },
      "adapter_up.weight": { init: up, decay: true, trained: true },
      "adapter_up.bias": { init: zero, decay: false, trained: true },
    });
  });

  it("of gates, norms and scalings start as in AdapterHub", async () => {
    const own = await start({ use_gating: true, ln_after: true, scaling: "learned" });
    expect(own["gate.weight"]!.init).toEqual({ kind: "normal", mean: 0, std: 0.02 });
    expect(own["gate.bias"]!.init).toEqual({ kind: "constant", value: 0 });
    expect(own["adapter_norm_after.weight"]).toEqual({ init: { kind: "constant", value: 1 }, decay: false, trained: true });
    expect(own.scaling!.init).toEqual({ kind: "constant", value: 1 });
    const houlsby = await start({ use_gating: true, init_weights: "houlsby" });
    expect(houlsby["gate.weight"]!.init).toEqual({ kind: "uniform", bound: 0.5 });
    expect(houlsby["gate.bias"]!.init).toEqual({ kind: "uniform", bound: 0.5 });
  });
});
