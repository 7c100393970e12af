import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { input, leaf, type Value } from "../core/graph.js";
import { f32, i64, type Tensor } from "../core/tensor.js";
import { SessionError } from "../errors.js";
import { emit } from "../onnx/emit.js";
import { add, mul, scale } from "../ops/elementwise.js";
import { matmul } from "../ops/linear.js";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { nodeRuntime } from "./node.js";
import type { Session } from "./session.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const x = input("x", "float32", [2]);
const weight = (path: string): Value => leaf({ kind: "weight", path }, { dtype: "float32", shape: [2] });
const w = weight("w");
const line = input("x", "float32", ["T"]);
const doubled = emit({ y: scale(line, 2) }).bytes;
const weighted = emit({ y: mul(x, w), sum: add(x, w) }).bytes;

const width = 1024;
let chain: Value = input("x", "float32", [width, width]);
for (let i = 0; i < 16; i++) chain = scale(matmul(chain, chain), 1 / width);
/** 16 products of 1024 × 1024 matrices: 34 GFLOP, a good part of a second on one thread. */
const heavy = emit({ y: chain }).bytes;
const heavyFeeds = (): Record<string, Tensor> => ({ "batch:x": f32(new Float32Array(width * width).fill(1), [width, width]) });

const failureOf = async (promise: Promise<unknown>): Promise<string> => {
  const error: unknown = await promise.then(
    () => "nothing was thrown",
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(SessionError);
  return (error as SessionError).message;
};

describe("a run", () => {
  it("leaves the caller's event loop alive", async () => {
    const session = await runtime.createSession(heavy);
    let [ticks, longest, last] = [0, 0, performance.now()];
    const start = last;
    const timer = setInterval(() => {
      ticks++;
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 5);
    const { y } = await session.run(heavyFeeds());
    const took = performance.now() - start;
    clearInterval(timer);
    await session.dispose();
    expect(y!.data[0]).toBeCloseTo(1, 4);
    expect(took).toBeGreaterThan(60);
    expect(ticks).toBeGreaterThan(5);
    expect(longest).toBeLessThan(took / 2);
  });

  it("leaves its feeds usable", async () => {
    const session = await runtime.createSession(doubled);
    const feeds = { "batch:x": f32([1, 2]) };
    await session.run(feeds);
    expectClose((await session.run(feeds)).y, { shape: [2], data: [2, 4] });
    await session.dispose();
  });

  it("returns only the outputs asked for", async () => {
    const session = await runtime.createSession(weighted);
    const feeds = { "batch:x": f32([1, 2]), "weight:w": f32([3, 4]) };
    expect(Object.keys(await session.run(feeds))).toEqual(["y", "sum"]);
    const some = await session.run(feeds, ["sum"]);
    expect(Object.keys(some)).toEqual(["sum"]);
    expectClose(some.sum, { shape: [2], data: [4, 6] });
    await session.dispose();
  });

  it("that is one of many at once gets its own results, on sessions side by side", async () => {
    const sessions = await Promise.all([runtime.createSession(doubled), runtime.createSession(emit({ y: scale(line, 3) }).bytes)]);
    const runs = Array.from({ length: 12 }, (_, i) => sessions[i % 2]!.run({ "batch:x": f32([i]) }));
    for (const [i, { y }] of (await Promise.all(runs)).entries()) expectClose(y, { shape: [1], data: [i * (i % 2 === 0 ? 2 : 3)] });
    await Promise.all(sessions.map((session) => session.dispose()));
  });
});

describe("an error", () => {
  it("of a missing feed names it", async () => {
    const session = await runtime.createSession(weighted);
    expect(await failureOf(session.run({ "weight:w": f32([1, 2]) }))).toBe('ONNX Runtime: input "batch:x" is not fed');
    expectClose((await session.run({ "batch:x": f32([1, 1]), "weight:w": f32([1, 2]) })).y, { shape: [2], data: [1, 2] });
    await session.dispose();
  });

  it("of bytes that are no model comes through", async () => {
    expect(await failureOf(runtime.createSession(new Uint8Array([1, 2, 3])))).toMatch(/^ONNX Runtime: .*protobuf parsing failed/i);
  });

  it("of feeds that do not fit, in type or shape, comes through", async () => {
    const session = await runtime.createSession(weighted);
    const fed = { "weight:w": f32([1, 2]) };
    expect(await failureOf(session.run({ ...fed, "batch:x": i64([1, 2]) }))).toMatch(/^ONNX Runtime: .*data type.*float/is);
    expect(await failureOf(session.run({ ...fed, "batch:x": f32([1, 2, 3]) }))).toMatch(/^ONNX Runtime: .*(broadcast|dimension)/is);
    await session.dispose();
  });

  it("of a feed that cannot be sent leaves nothing waiting", async () => {
    const session = await runtime.createSession(doubled);
    const gone = new Float32Array([1, 2]);
    structuredClone(gone, { transfer: [gone.buffer] });
    const feeds = { "batch:x": { dtype: "float32", shape: [2], data: gone } } as const;
    expect(await failureOf(session.run(feeds))).toMatch(/^the runtime's thread cannot be sent .*detached/);
    await session.dispose();
  });
});

describe("kept tensors", () => {
  const feeds = { "batch:x": f32([1, 10]) };

  it("are fed to every session that has an input of their name, run after run", async () => {
    await runtime.keep({ "weight:w": f32([3, 4]), "weight:unused": f32([5]) });
    for (const bytes of [weighted, emit({ y: add(mul(x, w), w) }).bytes]) {
      const session = await runtime.createSession(bytes);
      const data = bytes === weighted ? [3, 40] : [6, 44];
      for (let i = 0; i < 2; i++) expectClose((await session.run(feeds)).y, { shape: [2], data });
      await session.dispose();
    }
  });

  it("give way to a feed of the same name, for that run", async () => {
    await runtime.keep({ "weight:w": f32([3, 4]) });
    const session = await runtime.createSession(weighted);
    expectClose((await session.run({ ...feeds, "weight:w": f32([7, 8]) })).y, { shape: [2], data: [7, 80] });
    expectClose((await session.run(feeds)).y, { shape: [2], data: [3, 40] });
    await session.dispose();
  });

  it("are replaced by later ones of the same name", async () => {
    await runtime.keep({ "weight:w": f32([3, 4]) });
    await runtime.keep({ "weight:w": f32([5, 6]) });
    const session = await runtime.createSession(weighted);
    expectClose((await session.run(feeds)).y, { shape: [2], data: [5, 60] });
    await session.dispose();
  });

  it("may be parts of one buffer", async () => {
    const { buffer } = new Float32Array([0, 1, 2, 3, 4, 5]);
    const part = (at: number): Tensor => ({ dtype: "float32", shape: [2], data: new Float32Array(buffer, at, 2) });
    await runtime.keep({ "weight:w": part(8), "weight:v": part(16) });
    expect(buffer.byteLength).toBe(0);
    const session = await runtime.createSession(emit({ y: add(mul(x, w), weight("v")) }).bytes);
    expectClose((await session.run(feeds)).y, { shape: [2], data: [6, 35] });
    await session.dispose();
  });

  it("stay with the runtime when a graph's output is one of them", async () => {
    await runtime.keep({ "weight:w": f32([3, 4]) });
    const session = await runtime.createSession(emit({ w: w, y: mul(x, w) }).bytes);
    for (let i = 0; i < 3; i++) {
      const { w, y } = await session.run(feeds);
      expectClose(w, { shape: [2], data: [3, 4] });
      expectClose(y, { shape: [2], data: [3, 40] });
    }
    await session.dispose();
  });
});

describe("held tensors", () => {
  const feeds = { "batch:x": f32([1, 10]) };

  it("are fed to the runs that name them, in place of kept ones, and stay usable here", async () => {
    await runtime.keep({ "weight:w": f32([3, 4]) });
    const mine = f32([7, 8]);
    const [one, two] = await Promise.all([runtime.hold({ "weight:w": mine }), runtime.hold({ "weight:w": f32([9, 9]) })]);
    const session = await runtime.createSession(weighted);
    for (const [held, data] of [
      [one, [7, 80]],
      [two, [9, 90]],
      [undefined, [3, 40]],
      [one, [7, 80]],
    ] as const)
      expectClose((await session.run(feeds, undefined, held)).y, { shape: [2], data });
    expect(Array.from(mine.data)).toEqual([7, 8]);
    await Promise.all([one.dispose(), two.dispose(), session.dispose()]);
  });

  it("are replaced by a run's outputs where it carries them, which then stay", async () => {
    const carried = { held: await runtime.hold({ "weight:w": f32([7, 8]) }), outputs: { y: "weight:w" } };
    const session = await runtime.createSession(weighted);
    for (let i = 0; i < 2; i++) expect(Object.keys(await session.run(feeds, undefined, undefined, carried))).toEqual(["sum"]);
    expectClose((await session.run(feeds, undefined, carried.held)).y, { shape: [2], data: [7, 8000] });
    await carried.held.dispose();
    expect(await failureOf(session.run(feeds, undefined, undefined, carried))).toBe("ONNX Runtime: the held tensors were given back");
    await session.dispose();
  });

  it("are gone when given back", async () => {
    const [one, two] = await Promise.all([runtime.hold({ "weight:w": f32([7, 8]) }), runtime.hold({ "weight:w": f32([9, 9]) })]);
    const session = await runtime.createSession(weighted);
    await one.dispose();
    expect(await failureOf(session.run(feeds, undefined, one))).toBe("ONNX Runtime: the held tensors were given back");
    expectClose((await session.run(feeds, undefined, two)).y, { shape: [2], data: [9, 90] });
    await Promise.all([two.dispose(), session.dispose()]);
  });
});

describe("the end", () => {
  it("of a session makes runs throw", async () => {
    const session = await runtime.createSession(doubled);
    await session.dispose();
    expect(await failureOf(session.run({ "batch:x": f32([1]) }))).toBe("ONNX Runtime: the session was disposed of");
  });

  it("of a session lets a run that has begun finish", async () => {
    const session = await runtime.createSession(doubled);
    const run = session.run({ "batch:x": f32([1, 2]) });
    const end = session.dispose();
    expectClose((await run).y, { shape: [2], data: [2, 4] });
    await end;
  });

  it("of the runtime rejects what waits, and all that comes after", async () => {
    const own = nodeRuntime({ threads: 1 });
    const session: Session = await own.createSession(heavy);
    const waiting = [session.run(heavyFeeds()), session.run(heavyFeeds())];
    const failures = waiting.map(failureOf);
    await own.close();
    expect(await Promise.all(failures)).toEqual(["the runtime is closed", "the runtime is closed"]);
    expect(await failureOf(session.run(heavyFeeds()))).toBe("the runtime is closed");
    expect(await failureOf(own.createSession(doubled))).toBe("the runtime is closed");
    await own.close();
  });
});

it("writes what each node took, where it is asked to", async () => {
  const folder = await mkdtemp(join(tmpdir(), "peft-profile-test-"));
  try {
    const own = nodeRuntime({ threads: 1, profile: join(folder, "ops") });
    const session = await own.createSession(doubled);
    await session.run({ "batch:x": f32([1, 2]) });
    await session.dispose();
    await own.close();
    const [name, ...others] = await readdir(folder);
    expect(others).toEqual([]);
    expect(name).toMatch(/^ops_.*\.json$/);
    const events: readonly { readonly name: string }[] = JSON.parse(await readFile(join(folder, name!), "utf8"));
    expect(events.map((each) => each.name)).toContain("y/0_kernel_time");
  } finally {
    await rm(folder, { recursive: true });
  }
});

it("keeps the tensors of two owners apart", async () => {
  const [one, two] = [runtime.own(), runtime.own()];
  await one.keep({ "weight:w": f32([1, 1]) });
  await two.keep({ "weight:w": f32([2, 2]) });
  const sessions = await Promise.all([one, two].map((owner) => owner.createSession(weighted)));
  const results = await Promise.all(sessions.map((session) => session.run({ "batch:x": f32([10, 20]) })));
  expect(results.map(({ y }) => Array.from(y!.data as Float32Array))).toEqual([
    [10, 20],
    [20, 40],
  ]);
});
