import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { ConfigError } from "../errors.js";
import { fuse } from "../methods/fuse.js";
import { methodNamed } from "../methods/index.js";
import { stack } from "../methods/stack.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import { attach, forwardGraph, type TaskHead, trainGraph } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { compose, composeTrained, type NamedAdapter } from "./compose.js";
import { initialParams } from "./initial-params.js";
import { paramsOf } from "./program.js";

const runtime = nodeRuntime({ threads: 1 });
const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["no", "yes"] } };
let model: BaseModel;
let [a, b, lora]: NamedAdapter[] = [];
beforeAll(async () => {
  model = await openTinyModel(runtime);
  [a, b, lora] = [await held("a", "bottleneck"), await held("b", "bottleneck", { reduction_factor: 4 }), await held("l", "lora")];
});
afterAll(() => runtime.close());

const configOf = (name: string, fields: object = {}): object => methodNamed(name).config.parse(fields);

/** An adapter without a head. */
async function held(name: string, method: string, fields: object = {}): Promise<NamedAdapter> {
  const attachment = attach(model, head, methodNamed(method), configOf(method, fields), "user");
  const all = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
  const params = new Map([...all].filter(([path]) => /adapters\.|lora_/.test(path)));
  const adapter: Adapter = { head, attachment, params };
  return { name, adapter };
}

const train = (method: string, on: readonly NamedAdapter[], fields: object = {}) =>
  composeTrained(model, head, methodNamed(method), configOf(method, fields), on);

describe("what is trained", () => {
  it("is a method alone where nothing is held", () => {
    const { attachment, params } = train("lora", []);
    expect(attachment.method.name).toBe("lora");
    expect(params.size).toBe(0);
  });

  it("stands on top of adapters that stay frozen, in their order", () => {
    const { attachment, params } = train("bottleneck", [b!, a!], { mh_adapter: true });
    expect(attachment.method).toBe(stack);
    expect(attachment.children.map(({ name, trained }) => [name, trained])).toEqual([
      ["b", false],
      ["a", false],
      ["task", true],
    ]);
    expect([...params.keys()].sort()).toEqual(
      [...["a", "b"].flatMap((name) => [...a!.adapter.params.keys()].map((path) => `${name}:${path}`))].sort(),
    );
    for (const [path, tensor] of a!.adapter.params) expect(params.get(`a:${path}`)).toBe(tensor);
    const grads = Object.keys(trainGraph(model, head, [attachment], "off")).filter((name) => name !== "loss");
    expect(grads.filter((name) => !/^grad:(task:bert\.|classifier\.|bert\.pooler\.)/.test(name))).toEqual([]);
    expect(grads.filter((name) => name.startsWith("grad:task:"))).toHaveLength(2 * 2 * 4);
  });

  it("is a fusion's own layer, its adapters of any width", () => {
    const { attachment } = composeTrained(model, head, fuse, fuse.config.parse({}), [a!, b!]);
    const trained = paramsOf(trainGraph(model, head, [attachment], "off")).flatMap(({ leaf }) => (leaf.trained ? [leaf.path] : []));
    expect(trained.filter((path) => !/^(classifier|bert\.pooler)\./.test(path)).sort()).toEqual(
      [0, 1].flatMap((i) =>
        ["key.bias", "key.weight", "query.bias", "query.weight", "value.weight"].map(
          (name) => `bert.encoder.layer.${i}.output.adapter_fusion_layer.${name}`,
        ),
      ),
    );
  });

  it("goes on a stack as one more of it", () => {
    const inner = compose(model, head, stack, {}, [a!, b!]);
    const pile = { name: "pile", adapter: { head, ...inner } };
    const { attachment, params } = train("bottleneck", [pile]);
    expect(attachment.children.map(({ name }) => name)).toEqual(["a", "b", "task"]);
    expect(params).toEqual(inner.params);
  });
});

describe("what cannot be trained so is refused before anything runs:", () => {
  it.each(["lora", "ia3", "head"])("%s on top of adapter layers", async (method) => {
    const error = await failure(() => train(method, [a!]));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(method === "head" ? "task: stack takes adapter layers, not head" : `${method} (task)`);
    expect(error.hint).toContain("adapter layers");
  });

  it("adapter layers on top of LoRA", () => {
    expect(() => train("bottleneck", [lora!])).toThrow(/not lora \(l\)/);
  });

  it.each([
    ["prefix-tuning", "what attention reads"],
    ["prompt-tuning", "what attention reads"],
    ["bitfit", "the base's own weights"],
    ["full", "the base's own weights"],
  ])("%s with others", (method, reason) => {
    expect(() => train(method, [a!])).toThrow(`task: ${method} changes ${reason}`);
  });

  it("a fusion of none or one", async () => {
    for (const on of [[], [a!]]) {
      const error = await failure(() => composeTrained(model, head, fuse, fuse.config.parse({}), on));
      expect(error.message).toBe(`fuse needs two adapters or more, not ${on.length}`);
      expect(error.hint).toContain("--adapter name=folder");
    }
  });

  it.each(["", "a.b", "a:b", "a/b", "../a", "a,b", "a b"])('an adapter named "%s"', (name) => {
    expect(() => train("bottleneck", [{ ...a!, name }])).toThrow(`an adapter cannot be named "${name}"`);
  });

  it("two adapters of one name", () => {
    expect(() => train("bottleneck", [{ ...a!, name: "task" }])).toThrow(/two adapters are named "task"/);
  });
});
