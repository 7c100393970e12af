import { afterAll, describe, expect, it } from "vitest";
import { ConfigError } from "../errors.js";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { average } from "./average.js";
import { adapter, alone, D, N, sites } from "./composition.fixture.js";
import { stack } from "./stack.js";
import { attachmentOn, matrix, plus, type Row, rowsNamed, runSublayer, times } from "./sublayer.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());
const rows = rowsNamed("output", D).map((h, t) => [h, rowsNamed("residual", D)[t]!] as const);
const expected = (row: (h: Row, r: Row) => Row) => matrix(rows.map(([h, r]) => row(h, r)));
const on = (fields: object, children: Parameters<typeof attachmentOn>[3]) => attachmentOn(sites, average, fields, children);

describe("an average", () => {
  it.each([
    [{}, 1 / 2, 1 / 2],
    [{ weights: [1, 3] }, 1 / 4, 3 / 4],
    [{ weights: [3, -1] }, 3 / 2, -1 / 2],
  ])("%j adds the adapters' results up by their shares, and halves the sum for two adapters as AdapterHub does", async (fields, a, b) => {
    const run = await runSublayer(runtime, sites, on(fields, [adapter("a", 2), adapter("b", 1)]));
    expectClose(
      run.output,
      expected((h, r) => {
        const z = N(plus(h, r));
        const results = [plus(alone(run, "a", 2, z), h), plus(alone(run, "b", 1, z), h)] as const;
        return N(plus(times(a / 2, results[0]), times(b / 2, results[1]), r));
      }),
    );
  });

  it("prepares its input as its first adapter says, and joins as its last does", async () => {
    const first = { original_ln_before: false };
    const last = { original_ln_after: false };
    const run = await runSublayer(runtime, sites, on({}, [adapter("a", 2, first), adapter("b", 2, last)]));
    expectClose(
      run.output,
      expected((h) => times(1 / 4, plus(alone(run, "a", 2, h), alone(run, "b", 2, h), h, h))),
    );
  });

  it("takes weights for each adapter, which do not add up to 0", () => {
    const two = [adapter("a", 2), adapter("b", 2)];
    expect(() => on({ weights: [1, 2, 3] }, two)).toThrow(new ConfigError("average has 3 weights for 2 adapters"));
    expect(() => on({ weights: [1, -1] }, two)).toThrow(/weights add up to 0/);
    expect(() => average.config.parse({ weights: ["1", "2"] })).toThrow(/weights/);
  });

  it("writes its weights to adapter_setup.json where there are any", () => {
    if (!("setup" in average.files)) throw new Error("not a composition");
    expect(average.files.kwargs!({ weights: null })).toEqual({});
    expect(average.files.kwargs!({ weights: [1, 3] })).toEqual({ weights: [1, 3] });
  });

  it("stands in a stack with adapters above it", async () => {
    const middle = { name: "m", trained: false, attachment: on({}, [adapter("a", 2), adapter("b", 2)]) };
    const run = await runSublayer(runtime, sites, attachmentOn(sites, stack, {}, [middle, adapter("c", 1)]));
    const nested = { ...run, param: (path: string) => run.param(path.startsWith("c:") ? path : `m:${path}`) };
    expectClose(
      run.output,
      expected((h, r) => {
        const z = N(plus(h, r));
        const mean = times(1 / 4, plus(alone(nested, "a", 2, z), alone(nested, "b", 2, z), h, h));
        return N(plus(alone(nested, "c", 1, N(plus(mean, r))), mean, r));
      }),
    );
  });
});
