import { afterAll, describe, expect, it } from "vitest";
import { ConfigError } from "../errors.js";
import { total } from "../ops/reference.fixture.js";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { adapter, alone, D, N, sites } from "./composition.fixture.js";
import { fuse } from "./fuse.js";
import { type AdapterRun, affine, attachmentOn, matrix, plus, type Row, rowsNamed, runSublayer, times } from "./sublayer.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());
const at = "bert.encoder.layer.1.output.adapter_fusion_layer";
const children = [adapter("a", 2), adapter("b", 1, { scaling: 3 })];
const run = (fields: object): Promise<AdapterRun> => runSublayer(runtime, sites, attachmentOn(sites, fuse, fields, children));

interface Steps {
  /** What asks: the norm of the sum, or the sub-layer's output. */
  readonly query: (h: Row, r: Row) => Row;
  /** What is compared and added up, from an adapter's result alone and the residual. */
  readonly read: (up: Row, h: Row) => Row;
  readonly projected: readonly ("query" | "key" | "value")[];
  /** Whether the residual is added to what was added up. */
  readonly skip: boolean;
}

const usual: Steps = { query: (h, r) => N(plus(h, r)), read: (up) => up, projected: ["query", "key", "value"], skip: true };

/** BertFusion of AdapterHub, one token. */
function reference(result: AdapterRun, { query, read, projected, skip }: Steps, h: Row, r: Row): Row {
  const W = result.shapes[`${at}.value.weight`] === undefined ? undefined : result.param(`${at}.value.weight`);
  const project = (name: "query" | "key", x: Row): Row => (projected.includes(name) ? affine(result, `${at}.${name}`, D, x) : x);
  const value = (x: Row): Row => (W === undefined ? x : Array.from({ length: D }, (_, i) => total(D, (j) => W(i, j) * x[j]!)));
  const z = N(plus(h, r));
  const ups = [read(alone(result, "a", 2, z), h), read(times(3, alone(result, "b", 1, z)), h)];
  const q = project("query", query(h, r));
  const scores = ups.map((up) => {
    const k = project("key", up);
    return Math.exp(total(D, (i) => q[i]! * k[i]!));
  });
  const sum = total(2, (i) => scores[i]!);
  const mixed = plus(...ups.map((up, i) => times(scores[i]! / sum, value(up))));
  return N(plus(skip ? plus(mixed, h) : mixed, r));
}

describe("a fusion", () => {
  it.each<[what: string, fields: object, steps: Partial<Steps>]>([
    ["the default", {}, {}],
    ["a query before the norm", { query_before_ln: true }, { query: (h) => h }],
    ["the residual before", { residual_before: true }, { read: (up, h) => plus(up, h), skip: false }],
    // Σ sᵢ·W·vᵢ = W·Σ sᵢ·vᵢ
    ["values projected after the sum", { value_before_softmax: false }, {}],
    ["no query", { query: false }, { projected: ["key", "value"] }],
    ["no key", { key: false }, { projected: ["query", "value"] }],
    ["no value, as AdapterHub's static fusion", { value: false, regularization: false }, { projected: ["query", "key"] }],
  ])("is softmax(q·k) over the adapters, times their values, plus the residual: %s", async (_, fields, steps) => {
    const result = await run(fields);
    const residuals = rowsNamed("residual", D);
    const expected = rowsNamed("output", D).map((h, t) => reference(result, { ...usual, ...steps }, h, residuals[t]!));
    expectClose(result.output, matrix(expected));
  });

  it("has AdapterHub's parameters, which alone are trained", async () => {
    const { leaves, shapes } = await run({});
    const own = leaves.filter(({ path }) => !path.includes(":"));
    expect(Object.fromEntries(own.map(({ path }) => [path, shapes[path]]))).toEqual({
      [`${at}.query.weight`]: [D, D],
      [`${at}.query.bias`]: [D],
      [`${at}.key.weight`]: [D, D],
      [`${at}.key.bias`]: [D],
      [`${at}.value.weight`]: [D, D],
    });
    for (const { path, trained } of leaves) expect(trained, path).toBe(!path.includes(":"));
    const inits = Object.fromEntries(own.map(({ path, init }) => [path.slice(at.length + 1), init]));
    expect(inits["query.weight"]).toEqual({ kind: "normal", mean: 0, std: 0.02 });
    expect(inits["value.weight"]).toEqual({ kind: "diagonal", on: 1, off: 1e-6 });
    const noise = (await run({ value_initialized: false })).leaves.find(({ path }) => path === `${at}.value.weight`);
    expect(noise!.init).toEqual({ kind: "normal", mean: 0, std: 0.02 });
  });

  it("is held near the identity by 0.01·Σ(I - W)²", async () => {
    const { penalties, param } = await run({});
    const W = param(`${at}.value.weight`);
    const expected = 0.01 * total(D, (i) => total(D, (j) => ((i === j ? 1 : 0) - W(i, j)) ** 2));
    expect(penalties).toHaveLength(1);
    expect(penalties[0]).toBeCloseTo(expected, 6);
    expect((await run({ regularization: false })).penalties).toEqual([]);
    expect((await run({ value: false })).penalties).toEqual([]);
  });

  it("refuses what AdapterHub computes otherwise in each pass, and what could learn nothing", () => {
    expect(() => fuse.config.parse({ temperature: true })).toThrow(/temperature is not supported/);
    expect(() => attachmentOn(sites, fuse, { query: false, key: false, value: false }, children)).toThrow(/all off/);
  });

  it("keeps its adapters frozen", () => {
    const trained = children.map((child) => ({ ...child, trained: true }));
    expect(() => attachmentOn(sites, fuse, {}, trained)).toThrow(new ConfigError("fuse keeps its adapters frozen"));
  });
});
