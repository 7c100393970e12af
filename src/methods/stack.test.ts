import { afterAll, describe, expect, it } from "vitest";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { adapter, alone, D, N, sites } from "./composition.fixture.js";
import { stack } from "./stack.js";
import { attachmentOn, matrix, plus, type Row, rowsNamed, runEmbedding, runSublayer, times } from "./sublayer.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());
const rows = rowsNamed("output", D).map((h, t) => [h, rowsNamed("residual", D)[t]!] as const);
const expected = (row: (h: Row, r: Row) => Row) => matrix(rows.map(([h, r]) => row(h, r)));

describe("a stack", () => {
  it("lets each adapter work on what the one below gives, and adds the residual once", async () => {
    const run = await runSublayer(runtime, sites, attachmentOn(sites, stack, {}, [adapter("a", 2), adapter("b", 1, { scaling: 3 })]));
    expectClose(
      run.output,
      expected((h, r) => {
        const first = plus(alone(run, "a", 2, N(plus(h, r))), h);
        return N(plus(times(3, alone(run, "b", 1, N(plus(first, r)))), first, r));
      }),
    );
  });

  it("joins the stream as its last adapter says", async () => {
    const last = { original_ln_before: false, original_ln_after: false };
    const run = await runSublayer(runtime, sites, attachmentOn(sites, stack, {}, [adapter("a", 2), adapter("b", 2, last)]));
    expectClose(
      run.output,
      expected((h, r) => {
        const first = plus(alone(run, "a", 2, N(plus(h, r))), h);
        return plus(alone(run, "b", 2, first), first);
      }),
    );
  });

  it("passes over an adapter that has no layer there", async () => {
    const run = await runSublayer(runtime, sites, attachmentOn(sites, stack, {}, [adapter("a", 2), adapter("b", 2, { leave_out: [1] })]));
    expectClose(
      run.output,
      expected((h, r) => N(plus(alone(run, "a", 2, N(plus(h, r))), h, r))),
    );
    expect(Object.keys(run.shapes).filter((path) => path.startsWith("b:"))).toEqual([]);
  });

  it("trains the child that is trained, and no other", async () => {
    const children = [adapter("a", 2), { ...adapter("task", 2), trained: true }];
    const { leaves } = await runSublayer(runtime, sites, attachmentOn(sites, stack, {}, children));
    expect(leaves).toHaveLength(8);
    for (const { path, trained } of leaves) expect(trained, path).toBe(path.startsWith("task:"));
  });

  it("uses the first adapter's invertible layer only, as AdapterHub", async () => {
    const inverse = { inv_adapter: "nice", inv_adapter_reduction_factor: 2 };
    const both = [adapter("a", 2, inverse), adapter("b", 2, inverse)];
    const { shapes, output } = await runEmbedding(runtime, sites, attachmentOn(sites, stack, {}, both));
    expect(Object.keys(shapes)).toHaveLength(8);
    for (const path of Object.keys(shapes)) expect(path).toMatch(/^a:bert\.invertible_adapters\.[FG]\.[02]\./);
    expect(output.shape).toEqual([3, D]);
    const second = await runEmbedding(runtime, sites, attachmentOn(sites, stack, {}, [adapter("a", 2), adapter("b", 2, inverse)]));
    expectClose(second.output, matrix(rowsNamed("embeddings", D)), 0);
  });

  it("reads whole texts if one of its adapters does", () => {
    const [plain, gated] = [adapter("a", 2), adapter("b", 2, { use_gating: true })];
    const nested = { name: "s", trained: false, attachment: attachmentOn(sites, stack, {}, [plain, gated]) };
    expect(stack.wholeTexts!({}, [plain, adapter("c", 2)])).toBe(false);
    expect(stack.wholeTexts!({}, [plain, gated])).toBe(true);
    expect(stack.wholeTexts!({}, [adapter("c", 2), nested])).toBe(true);
  });
});
