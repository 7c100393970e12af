import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel } from "../../test/tiny-model.fixture.js";
import { AttachError, ConfigError, FileError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { loadAdapter } from "../programs/adapter.js";
import type { BaseModel } from "../programs/base-model.js";
import type { NamedAdapter } from "../programs/compose.js";
import { nodeRuntime } from "../runtime/node.js";
import { filesOf, hubAdapter, hubComposition, jsonOf, logitsOf, shapesOf, type Written, withTensors } from "./adapterhub.fixture.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
let a: NamedAdapter;
let b: NamedAdapter;
let c: NamedAdapter;
let inverse: NamedAdapter;
let stacked: Written;
let fused: Written;
beforeAll(async () => {
  model = await openTinyModel(runtime);
  a = { name: "a", adapter: await hubAdapter(model, "seq_bn", { reduction_factor: 4 }) };
  b = { name: "b", adapter: await hubAdapter(model, "seq_bn", { reduction_factor: 8, scaling: "learned" }) };
  c = { name: "c", adapter: await hubAdapter(model, "par_bn", { reduction_factor: 4 }) };
  inverse = { name: "inverse", adapter: await hubAdapter(model, "seq_bn_inv", { reduction_factor: 8 }) };
  stacked = await filesOf(model, await hubComposition(model, "stack", {}, [a, b]));
  fused = await filesOf(model, await hubComposition(model, "fuse", {}, [a, b]));
});
afterAll(() => runtime.close());

const read = (files: Written) => loadAdapter(model, memoryFiles("composed", files));
const block = (type: string, children: unknown, kwargs?: object): object => ({
  type,
  children,
  ...(kwargs === undefined ? {} : { kwargs }),
});
const single = (name: unknown): object => block("single", [name]);
const withSetup = (files: Written, setup: unknown, head_setup: unknown = "head"): Written => ({
  ...files,
  "adapter_setup.json": jsonBytes({ adapter_setup: setup, head_setup }),
});

describe("a composition that is written and read", () => {
  it.each([
    ["stack", {}, ["a", "b"], []],
    ["stack", {}, ["inverse", "a", "b"], []],
    ["average", {}, ["a", "b"], []],
    ["average", { weights: [3, 1] }, ["inverse", "a"], []],
    ["fuse", {}, ["a", "b"], []],
    ["fuse", { query_before_ln: true, regularization: false, value_initialized: false }, ["a", "b", "c"], []],
    ["fuse", { value: false, regularization: false }, ["a", "c"], []],
    ["stack", {}, ["fuse", "a"], ["inverse", "b"]],
    ["stack", {}, ["average", "a"], ["c", "b"]],
    ["fuse", {}, ["stack", "c"], ["a", "b"]],
    ["average", {}, ["stack", "c"], ["a", "b"]],
  ])("gives the same outputs, and the same files again: %s %j of %j", async (type, fields, names, within) => {
    const adapters = new Map([a, b, c, inverse].map((each) => [each.name, each]));
    const inner = within.map((name) => adapters.get(name)!);
    const held = await Promise.all(
      names.map(async (name) => adapters.get(name) ?? { name, adapter: await hubComposition(model, name, {}, inner) }),
    );
    const composition = await hubComposition(model, type, fields, held);
    const first = await filesOf(model, composition);
    const loaded = await read(first);
    const [expected, got] = [await logitsOf(model, composition), await logitsOf(model, loaded)];
    expect(got).toHaveLength(18);
    for (const [i, value] of got.entries()) expect(value).toBeCloseTo(expected[i]!, 5);
    expect(loaded.attachment.config).toEqual(composition.attachment.config);
    const second = await filesOf(model, loaded);
    expect(Object.keys(second)).toEqual(Object.keys(first));
    for (const name of Object.keys(first)) expect(Buffer.compare(second[name]!, first[name]!), name).toBe(0);
  });

  it("is a folder for each adapter, as AdapterHub's, a stack's head in its last one", () => {
    const adapter = (name: string): readonly string[] => [`${name}/adapter.safetensors`, `${name}/adapter_config.json`];
    const head = (name: string): readonly string[] => [`${name}/head_config.json`, `${name}/model_head.safetensors`];
    const named = (files: Written): readonly string[] =>
      Object.keys(files)
        .filter((name) => /\.(safetensors|json)$/.test(name))
        .sort();
    expect(named(stacked)).toEqual([...adapter("a"), ...adapter("b"), ...head("b"), "adapter_setup.json"].sort());
    expect(jsonOf(stacked, "adapter_setup.json")).toEqual({
      adapter_setup: { type: "Stack", children: [block("single", ["a"]), block("single", ["b"])] },
      head_setup: "b",
      version: "adapters.1.3.0",
    });
    const fusion = ["a,b/adapter_fusion_config.json", "a,b/model_adapter_fusion.safetensors"];
    expect(named(fused)).toEqual([...adapter("a"), ...adapter("b"), ...head("head"), ...fusion, "adapter_setup.json"].sort());
    expect(jsonOf(fused, "a/adapter_config.json").name).toBe("a");
    expect(jsonOf(stacked, "b/head_config.json").name).toBe("b");
  });

  it("names a fusion's tensors as AdapterHub does, and says of it what that does", async () => {
    const place = (i: number): string => `bert.encoder.layer.${i}.output.adapter_fusion_layer.a,b`;
    expect(await shapesOf(fused, "a,b/model_adapter_fusion.safetensors")).toEqual(
      Object.fromEntries(
        [0, 1].flatMap((i) => [
          ...["query", "key"].flatMap((name) => [
            [`${place(i)}.${name}.weight`, [16, 16]],
            [`${place(i)}.${name}.bias`, [16]],
          ]),
          [`${place(i)}.value.weight`, [16, 16]],
        ]),
      ),
    );
    expect(jsonOf(fused, "a,b/adapter_fusion_config.json")).toEqual({
      adapter_names: ["a", "b"],
      config: {
        dropout_prob: null,
        key: true,
        query: true,
        query_before_ln: false,
        regularization: true,
        residual_before: false,
        temperature: false,
        value: true,
        value_before_softmax: true,
        value_initialized: true,
      },
      hidden_size: 16,
      model_class: "BertForSequenceClassification",
      model_name: "tiny",
      model_type: "bert",
      name: "a,b",
      version: "adapters.1.3.0",
    });
  });

  it("reads the old writers' value_initialized, a text", async () => {
    const json = jsonOf(fused, "a,b/adapter_fusion_config.json");
    const config = { ...(json.config as object), value_initialized: "true" };
    const { attachment } = await read({ ...fused, "a,b/adapter_fusion_config.json": jsonBytes({ ...json, config }) });
    expect(attachment.config).toMatchObject({ value_initialized: true });
  });
});

describe("a broken adapter_setup.json:", () => {
  it.each<[what: string, setup: unknown, message: RegExp]>([
    ["no block", null, /composed\/adapter_setup\.json has no "adapter_setup"/],
    ["a block that is a name", "a", /has no "adapter_setup"/],
    ["a block without children", { type: "Stack" }, /a block of type "Stack" has no children/],
    ["a type that is not supported", block("Parallel", [single("a"), single("b")]), /composition "Parallel" is not supported/],
    ["a type that is missing", { children: [single("a")] }, /"undefined"/],
    ["a child that is a name", block("Stack", ["a", single("b")]), /a child of stack is "a"/],
    ["a child without a name", block("Stack", [block("single", []), single("b")]), /no adapter's name: undefined/],
    ["a child whose name is a number", block("Stack", [single(7), single("b")]), /no adapter's name: 7/],
    ["a child outside of the folder", block("Stack", [single("../a"), single("b")]), /no adapter's name: "\.\.\/a"/],
    ["a child above the folder", block("Stack", [single(".."), single("b")]), /no adapter's name: "\.\."/],
    ["a child that is the folder itself", block("Stack", [single("."), single("b")]), /no adapter's name: "\."/],
    ["a child somewhere on the disk", block("Stack", [single("/etc"), single("b")]), /no adapter's name: "\/etc"/],
    ["a child that is not there", block("Stack", [single("a"), single("nobody")]), /composed\/nobody\/adapter_config\.json: no such file/],
    ["no child", block("Stack", []), /stack needs two adapters or more, not 0/],
    ["one adapter twice", block("Stack", [single("a"), single("a")]), /two adapters are named "a"/],
    ["a stack in a stack", block("Stack", [block("Stack", [single("a"), single("b")]), single("a")]), /stack can hold fuse, average/],
    ["unknown kwargs", block("Average", [single("a"), single("b")], { splits: [1] }), /average does not fit:\n {2}.*splits/],
    ["weights for others", block("Average", [single("a"), single("b")], { weights: [1] }), /average has 1 weights for 2 adapters/],
    ["a fusion that was not saved", block("Fuse", [single("b"), single("a")]), /composed\/b,a\/adapter_fusion_config\.json: no such file/],
  ])("%s", async (_, setup, message) => {
    await expect(read(withSetup(fused, setup))).rejects.toThrow(message);
  });

  it("a head outside of the folder", async () => {
    const setup = block("Stack", [single("a"), single("b")]);
    await expect(read(withSetup(stacked, setup, "../b"))).rejects.toThrow(/no adapter's name: "\.\.\/b"/);
  });

  it("is a ConfigError that names the file", async () => {
    const error = await failure(() => read(withSetup(stacked, block("Stack", [single("../a"), single("b")]))));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("composed/adapter_setup.json");
    expect(await failure(() => read(withSetup(stacked, block("Stack", [single("z"), single("b")]))))).toBeInstanceOf(FileError);
  });

  it("a fusion's config that does not fit", async () => {
    const file = "a,b/adapter_fusion_config.json";
    await expect(read({ ...fused, [file]: jsonBytes({}) })).rejects.toThrow('composed/a,b/adapter_fusion_config.json has no "config"');
    const config = { ...(jsonOf(fused, file).config as object), temperature: true };
    await expect(read({ ...fused, [file]: jsonBytes({ config }) })).rejects.toThrow(/fuse does not fit:\n {2}temperature is not supported/);
  });
});

describe("a composition that does not fit the model", () => {
  it("lists the tensors of all its adapters and of its own that are missing, too many or of another shape", async () => {
    const at = (name: string): string => `bert.encoder.layer.1.output.adapters.${name}`;
    const odd = (shape: readonly number[]) => ({
      dtype: "F32" as const,
      shape,
      bytes: new Uint8Array(4 * shape.reduce((x, y) => x * y, 1)),
    });
    let files = await withTensors(fused, "a/adapter.safetensors", (tensors) => tensors.delete(`${at("a")}.adapter_up.bias`));
    files = await withTensors(files, "b/adapter.safetensors", (tensors) => tensors.set(`${at("b")}.gate.weight`, odd([1, 16])));
    files = await withTensors(files, "a,b/model_adapter_fusion.safetensors", (tensors) =>
      tensors.set("bert.encoder.layer.0.output.adapter_fusion_layer.a,b.key.bias", odd([3])),
    );
    const error = await failure(() => read(files));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toContain("3 tensors differ:");
    expect(error.message).toContain(`\n  a: ${at("a")}.adapter_up.bias: missing, expected [16]`);
    expect(error.message).toContain(`\n  b: ${at("b")}.gate.weight: [1,16], not expected`);
    expect(error.message).toContain("adapter_fusion_layer.a,b.key.bias: [3], expected [16]");
  });

  it("was trained on a model of another width", async () => {
    const wider = await openTinyModel(runtime, { config: { hidden_size: 24 } });
    const error = await failure(() => loadAdapter(wider, memoryFiles("composed", stacked)));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toMatch(/a: bert\.encoder\.layer\.0\.output\.adapters\.a\.adapter_down\.0\.weight: \[4,16\], expected \[6,24\]/);
    expect(error.hint).toContain("trained on tiny");
  });
});
