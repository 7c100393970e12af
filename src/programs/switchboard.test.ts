import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { fillUniform, keyOf } from "../core/random.js";
import { f32 } from "../core/tensor.js";
import { rowTable } from "../data/rows.js";
import { ConfigError, DataError, ModelError, SessionError } from "../errors.js";
import { compositions, methodNamed } from "../methods/index.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { webRuntime } from "../runtime/web.js";
import { textClassification } from "../tasks/text-classification.js";
import { tokenClassification } from "../tasks/token-classification.js";
import { attach, forwardGraph, type TaskHead } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { compose } from "./compose.js";
import { predictor } from "./pipeline.js";
import { paramsOf } from "./program.js";
import { type PipelineInput, Switchboard } from "./switchboard.js";

const texts: readonly PipelineInput[] = ["how many hats", { text: "my card", text_pair: "is it new" }, "the film was hard to find"];
const words: readonly PipelineInput[] = [{ tokens: ["his", "first", "film"] }, { tokens: ["all", "the", "hats", "are", "20"] }];
const three: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["card", "film", "hats"] } };
const five: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["a", "b", "c", "d", "e"] } };
const number: TaskHead = { task: textClassification, target: { kind: "number" } };
const tags: TaskHead = { task: tokenClassification, target: { kind: "classes", labels: ["B-X", "I-X", "O"] } };

/** An adapter with random values, which are another for each seed. */
function adapterOf(model: BaseModel, name: string, fields: object, head = three, seed = 1): Adapter {
  const method = methodNamed(name);
  const attachment = attach(model, head, method, method.config.parse(fields), "user");
  return { head, attachment, params: randomParams(model, head, attachment, seed) };
}

function randomParams(model: BaseModel, head: TaskHead, attachment: Adapter["attachment"], seed: number): Adapter["params"] {
  return new Map(
    paramsOf(forwardGraph(model, head, [attachment])).map(({ value, leaf }) => {
      const shape = value.shape.map(Number);
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      fillUniform(data, keyOf(seed, leaf.path), -0.5, 0.5);
      return [leaf.path, f32(data, shape)] as const;
    }),
  );
}

/** A composition of two adapter layers. */
function composed(model: BaseModel, name: "stack" | "fuse"): Adapter {
  const member = (name: string, seed: number) => ({
    name,
    adapter: adapterOf(model, "bottleneck", { reduction_factor: 4 }, three, seed),
  });
  const method = compositions.find((each) => each.name === name)!;
  const { attachment, params } = compose(model, three, method, method.config.parse({}), [member("one", 8), member("two", 9)]);
  return { head: three, attachment, params: new Map([...randomParams(model, three, attachment, 7), ...params]) };
}

/** What a model of the adapter's own, which shares nothing, gives for the rows. */
async function alone(model: BaseModel, adapter: Adapter, inputs: readonly PipelineInput[]): Promise<unknown> {
  const ready = predictor(model, adapter);
  const rows = rowTable(
    inputs.map((each) => (typeof each === "string" ? { text: each } : each)),
    "input",
  );
  const outputs = await ready.run(ready.encode(rows));
  await ready.dispose();
  return ready.head.task.predict(outputs, rows, ready.head.target, true);
}

/** A runtime that counts what it holds and has loaded. */
function counting(runtime: Runtime): Runtime & { readonly counts: { held: number; sessions: number; created: number; refuse: boolean } } {
  const counts = { held: 0, sessions: 0, created: 0, refuse: false };
  const view = (inner: Runtime): Runtime => ({
    threads: inner.threads,
    weights: inner.weights,
    keep: (tensors) => inner.keep(tensors),
    own: () => view(inner.own()),
    close: () => inner.close(),
    async hold(tensors) {
      const { id, dispose } = await inner.hold(tensors);
      counts.held++;
      return {
        id,
        dispose: () => {
          counts.held--;
          return dispose();
        },
      };
    },
    async createSession(bytes, external) {
      if (counts.refuse) throw new SessionError("refused");
      const { run, dispose } = await inner.createSession(bytes, external);
      counts.sessions++;
      counts.created++;
      return {
        run,
        dispose: () => {
          counts.sessions--;
          return dispose();
        },
      };
    },
  });
  return { ...view(runtime), counts };
}

describe.each([
  ["node", () => nodeRuntime({ threads: 1 })],
  ["web", () => webRuntime()],
])("on the %s runtime", (_, make) => {
  const inner = make();
  const runtime = counting(inner);
  const { counts } = runtime;
  let model: BaseModel;
  let kinds: Readonly<Record<string, readonly [Adapter, readonly PipelineInput[]]>>;
  beforeAll(async () => {
    model = await openTinyModel(runtime, { labels: 2 });
    kinds = {
      lora: [adapterOf(model, "lora", { r: 4 }), texts],
      "lora of another seed": [adapterOf(model, "lora", { r: 4, lora_dropout: 0.1 }, three, 2), texts],
      "lora of another rank": [adapterOf(model, "lora", { r: 2 }), texts],
      "five labels": [adapterOf(model, "lora", { r: 4 }, five), texts],
      "a number": [adapterOf(model, "lora", { r: 4 }, number), texts],
      tags: [adapterOf(model, "lora", { r: 4 }, tags), words],
      prefix: [adapterOf(model, "prefix-tuning", { num_virtual_tokens: 3 }), texts],
      prompt: [adapterOf(model, "prompt-tuning", { num_virtual_tokens: 2 }), texts],
      bitfit: [adapterOf(model, "bitfit", {}), texts],
      stack: [composed(model, "stack"), texts],
      fuse: [composed(model, "fuse"), texts],
    };
  });
  afterAll(() => inner.close());

  const loaded = async (sessions: number, names = Object.keys(kinds)): Promise<Switchboard> => {
    const board = new Switchboard(model, { task: "text-classification", sessions });
    for (const name of names) await board.load(name, kinds[name]![0]);
    return board;
  };

  it("adapters of all kinds give what models of their own give, to the bit", async () => {
    const board = await loaded(16);
    const seen = new Set<string>();
    for (const [name, [adapter, inputs]] of Object.entries(kinds)) {
      board.use(name);
      const got = await board.predict(inputs, { logits: true });
      expect(got, name).toEqual(await alone(model, adapter, inputs));
      seen.add(JSON.stringify(got));
    }
    expect(seen.size).toBe(Object.keys(kinds).length);
    await board.dispose();
    expect(counts).toMatchObject({ held: 0, sessions: 0 });
  });

  it("two of equal structure share a session, others have their own", async () => {
    const board = await loaded(16, ["lora", "lora of another seed", "lora of another rank"]);
    const before = counts.created;
    for (const adapter of ["lora", "lora of another seed", "lora"]) await board.predict(texts, { adapter });
    expect([counts.created - before, board.sessions]).toEqual([1, 1]);
    await board.predict(texts, { adapter: "lora of another rank" });
    expect([counts.created - before, board.sessions]).toEqual([2, 2]);
    await board.unload("lora");
    expect([counts.sessions, counts.held]).toEqual([2, 2]);
    await board.unload("lora of another seed");
    expect([counts.sessions, counts.held]).toEqual([1, 1]);
    await board.dispose();
  });

  it("the least recently used session gives way", async () => {
    const board = await loaded(2, ["lora", "prefix", "prompt"]);
    const created = async (adapter: string): Promise<number> => {
      const before = counts.created;
      await board.predict(texts, { adapter });
      expect(counts.sessions).toBeLessThanOrEqual(2);
      return counts.created - before;
    };
    expect([await created("lora"), await created("prefix"), await created("lora")]).toEqual([1, 1, 0]);
    expect([await created("prompt"), await created("lora"), await created("prefix")]).toEqual([1, 0, 1]);
    await board.dispose();
    expect(counts.sessions).toBe(0);
  });

  it.each([1, 16])("calls at the same time do not disturb each other, with %i sessions", async (sessions) => {
    const board = await loaded(sessions);
    const wanted = new Map<string, unknown>();
    for (const [name, [adapter, inputs]] of Object.entries(kinds)) wanted.set(name, await alone(model, adapter, inputs));
    const order = [...Object.keys(kinds), ...Object.keys(kinds).reverse(), "lora", "lora of another seed", "lora", "lora of another seed"];
    const calls = order.map((name, i) => {
      const inputs = kinds[name]![1];
      if (i % 2 === 0) return board.predict(inputs, { adapter: name, logits: true });
      board.use(name);
      return board.predict(inputs, { logits: true });
    });
    expect(await Promise.all(calls)).toEqual(order.map((name) => wanted.get(name)));
    expect(board.sessions).toBeLessThanOrEqual(sessions);
    await board.dispose();
  });

  it("the base's own head answers where no adapter is in use", async () => {
    const board = await loaded(4, ["lora"]);
    const own = await board.predict(texts);
    expect(own.map(({ label }) => label)).toEqual(own.map(() => expect.stringMatching(/^LABEL_[01]$/)));
    board.use("lora");
    expect(await board.predict(texts, { adapter: null })).toEqual(own);
    expect(await board.predict(texts)).not.toEqual(own);
    board.use(null);
    expect(board.active).toBe(null);
    expect(await board.predict(texts)).toEqual(own);
    await board.dispose();
  });

  it("unloading waits for the calls under way", async () => {
    const board = await loaded(1, ["lora", "prefix"]);
    const call = board.predict(texts, { adapter: "lora", logits: true });
    const gone = board.unload("lora");
    expect(board.adapters.map(({ name }) => name)).toEqual(["prefix"]);
    await expect(board.predict(texts, { adapter: "lora" })).rejects.toThrow(/there is no adapter "lora"; loaded: prefix/);
    expect(counts.held).toBe(2);
    expect(await call).toEqual(await alone(model, kinds.lora![0], texts));
    await gone;
    expect(counts).toMatchObject({ held: 1, sessions: 0 });
    const last = board.predict(texts, { adapter: "prefix" });
    await Promise.all([board.dispose(), last]);
    expect(counts).toMatchObject({ held: 0, sessions: 0 });
  });

  it("a session that could not be made is tried again", async () => {
    const board = await loaded(4, ["lora"]);
    counts.refuse = true;
    await expect(board.predict(texts, { adapter: "lora" })).rejects.toThrow(/refused/);
    expect(board.sessions).toBe(0);
    counts.refuse = false;
    expect(await board.predict(texts, { adapter: "lora" })).toHaveLength(3);
    await board.dispose();
  });
});

describe("a switchboard", () => {
  const runtime = nodeRuntime({ threads: 1 });
  let model: BaseModel;
  let board: Switchboard;
  beforeAll(async () => {
    model = await openTinyModel(runtime);
    board = new Switchboard(model);
    await board.load("legal", adapterOf(model, "lora", {}));
    await board.load("chat", adapterOf(model, "bottleneck", {}, number));
    await board.load("names", adapterOf(model, "ia3", {}, tags));
  });
  afterAll(() => runtime.close());

  it("lists its adapters", () => {
    expect(board.adapters).toEqual([
      { name: "legal", method: "lora", task: "text-classification", labels: ["card", "film", "hats"] },
      { name: "chat", method: "bottleneck", task: "text-classification", labels: null },
      { name: "names", method: "ia3", task: "token-classification", labels: ["B-X", "I-X", "O"] },
    ]);
    expect(board.active).toBe(null);
  });

  it("names the adapters there are when asked for another", async () => {
    const error = await failure(async () => board.use("legl"));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('there is no adapter "legl"; loaded: legal, chat, names');
    expect(error.hint).toBe('did you mean "legal"?');
    expect(board.active).toBe(null);
    for (const wrong of [() => board.predict(texts, { adapter: "other" }), () => board.unload("other")])
      await expect(wrong()).rejects.toThrow(/there is no adapter "other"; loaded: legal, chat, names/);
  });

  it("does not unload the adapter in use", async () => {
    board.use("legal");
    const error = await failure(() => board.unload("legal"));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('the adapter "legal" is in use');
    expect(await board.predict(texts)).toHaveLength(3);
    board.use(null);
  });

  it("takes a name once, also while it is being loaded", async () => {
    await expect(board.load("legal", adapterOf(model, "lora", {}))).rejects.toThrow(/there is an adapter "legal" already/);
    const twice = [1, 2].map((seed) => board.load("twice", adapterOf(model, "lora", {}, three, seed)));
    const [first, second] = await Promise.allSettled(twice);
    expect([first!.status, second!.status]).toEqual(["fulfilled", "rejected"]);
    await board.unload("twice");
    await board.load("twice", adapterOf(model, "lora", {}, three, 2));
    await board.unload("twice");
  });

  it("says so where no adapter is in use and the base has no head", async () => {
    await expect(board.predict(texts)).rejects.toThrow(ModelError);
    await expect(board.predict(texts)).rejects.toThrow(/tiny has no trained head$/);
  });

  it("refuses rows of another task, and goes on", async () => {
    await expect(board.predict(words, { adapter: "legal" })).rejects.toThrow(DataError);
    await expect(board.predict(texts, { adapter: "names" })).rejects.toThrow(/"tokens" must be a list of words/);
    expect(await board.predict(words, { adapter: "names" })).toHaveLength(2);
    expect(await board.predict([], { adapter: "names" })).toEqual([]);
  });

  it("needs room for one session", () => {
    for (const sessions of [0, -1, 1.5]) expect(() => new Switchboard(model, { sessions })).toThrow(/sessions is/);
  });

  it("ends once", async () => {
    const other = new Switchboard(model);
    const late = other.load("late", adapterOf(model, "lora", {}));
    await other.dispose();
    await expect(late).rejects.toThrow(/disposed of/);
    expect(() => other.use(null)).not.toThrow();
    await expect(other.predict(texts)).rejects.toThrow(/the pipeline was disposed of/);
    await expect(other.load("more", adapterOf(model, "lora", {}))).rejects.toThrow(/the pipeline was disposed of/);
    await other.dispose();
  });
});

it("loading and unloading keeps memory flat", { timeout: 120_000 }, async () => {
  const runtime = nodeRuntime({ threads: 1 });
  const model = await openTinyModel(runtime);
  const board = new Switchboard(model, { sessions: 2 });
  const megabyte = 2 ** 20;
  const adapters = [6000, 6001].map((r) => adapterOf(model, "lora", { r, target_modules: "all-linear" }));
  const size = [...adapters[0]!.params.values()].reduce((total, { data }) => total + data.byteLength, 0);
  expect(size).toBeGreaterThan(8 * megabyte);
  const round = async (i: number): Promise<number> => {
    await board.load("one", adapters[i % 2]!);
    await board.predict(["how many hats"], { adapter: "one" });
    await board.unload("one");
    return process.memoryUsage.rss();
  };
  const sizes: number[] = [];
  for (let i = 0; i < 60; i++) sizes.push(await round(i));
  // Ten rounds to warm up; the fifty after them would take 50 times the adapter's size if they left it behind.
  const growth = (Math.max(...sizes.slice(10)) - Math.max(...sizes.slice(0, 10))) / size;
  expect(growth).toBeLessThan(10);
  expect(board.sessions).toBe(0);
  await runtime.close();
});
