import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel } from "../../test/tiny-model.fixture.js";
import { AttachError, ConfigError, FileError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import type { RawTensor } from "../io/safetensors.js";
import { bottleneckConfig, bottleneckPresets } from "../methods/bottleneck-config.js";
import { loadAdapter, withoutAdapter } from "../programs/adapter.js";
import type { BaseModel } from "../programs/base-model.js";
import { nodeRuntime } from "../runtime/node.js";
import { textGeneration } from "../tasks/text-generation.js";
import { filesOf, hubAdapter, jsonOf, logitsOf, shapesOf, type Written, withTensors } from "./adapterhub.fixture.js";
import { isHubConfig } from "./adapterhub-format.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
let plain: Written;
beforeAll(async () => {
  model = await openTinyModel(runtime);
  plain = await filesOf(model, await hubAdapter(model, "seq_bn", { reduction_factor: 4 }));
});
afterAll(() => runtime.close());

const weights = "adapter.safetensors";
const read = (files: Written) => loadAdapter(model, memoryFiles("adapter", files));
const at = "bert.encoder.layer.1.output.adapters.default";

/** The files with other fields under "config"; undefined takes a field out. */
function withConfig(files: Written, fields: object, others: object = {}): Written {
  const json = jsonOf(files, "adapter_config.json");
  return { ...files, "adapter_config.json": jsonBytes({ ...json, ...others, config: { ...(json.config as object), ...fields } }) };
}

/** The files with the tensors renamed. */
function renamed(files: Written, to: (name: string) => string): Promise<Written> {
  return withTensors(files, weights, (tensors) => {
    const all = [...tensors];
    tensors.clear();
    for (const [name, tensor] of all) tensors.set(to(name), tensor);
  });
}

describe("writing and reading", () => {
  it.each<readonly [preset: string, fields: object]>([
    ...Object.keys(bottleneckPresets).map((preset) => [preset, {}] as const),
    ["compacter", { phm_dim: 2, reduction_factor: 2, factorized_phm_rule: true, shared_W_phm: true, phm_bias: false, learn_phm: false }],
    ["seq_bn", { ln_before: true, ln_after: true, use_gating: true, scaling: "channel", leave_out: [0] }],
    ["houlsby", { reduction_factor: { "0": 2, default: 5 }, dropout: 0.1 }],
  ])("%s %j comes back with the same values, and the same bytes when written again", async (preset, fields) => {
    const compact = preset.startsWith("compacter") ? { reduction_factor: 4 } : {}; // the model is 16 wide
    const adapter = await hubAdapter(model, preset, { ...compact, ...fields });
    const first = await filesOf(model, adapter);
    const loaded = await read(first);
    expect(loaded.attachment.config).toEqual(adapter.attachment.config);
    expect(loaded.params).toEqual(new Map([...loaded.params.keys()].map((path) => [path, adapter.params.get(path)!])));
    expect(loaded.params.size).toBe(adapter.params.size);
    const second = await filesOf(model, loaded);
    expect(Object.keys(second)).toEqual(Object.keys(first));
    for (const name of Object.keys(first)) expect(Buffer.compare(second[name]!, first[name]!), name).toBe(0);
  });

  it("names tensors as AdapterHub does", async () => {
    expect(await shapesOf(plain, weights)).toEqual(
      Object.fromEntries(
        [0, 1].flatMap((i) => {
          const place = `bert.encoder.layer.${i}.output.adapters.default`;
          return [
            [`${place}.adapter_down.0.weight`, [4, 16]],
            [`${place}.adapter_down.0.bias`, [4]],
            [`${place}.adapter_up.weight`, [16, 4]],
            [`${place}.adapter_up.bias`, [16]],
          ];
        }),
      ),
    );
    const fields = { mh_adapter: true, output_adapter: false, leave_out: [0], ln_before: true, ln_after: true, use_gating: true };
    const all = await filesOf(model, await hubAdapter(model, "scaled_par_bn", fields));
    const place = "bert.encoder.layer.1.attention.output.adapters.default";
    expect(Object.keys(await shapesOf(all, weights)).sort()).toEqual(
      [
        ...["adapter_norm_before", "adapter_norm_after", "adapter_down.0", "adapter_down.1", "adapter_up", "gate"].flatMap((name) => [
          `${place}.${name}.weight`,
          `${place}.${name}.bias`,
        ]),
        `${place}.scaling`,
      ].sort(),
    );
    const compact = await filesOf(
      model,
      await hubAdapter(model, "compacter++", { reduction_factor: 4, inv_adapter: "nice", inv_adapter_reduction_factor: 2 }),
    );
    const names = Object.keys(await shapesOf(compact, weights));
    expect(names).toContain("bert.shared_parameters.default.phm_rule");
    expect(names).toContain("bert.invertible_adapters.default.F.0.weight");
    expect(names).toContain(`${at}.adapter_down.0.W_left`);
  });

  it("says all of BnConfig's fields, scaling as a number with a point", () => {
    const json = jsonOf(plain, "adapter_config.json");
    expect(Object.keys(json.config as object)).toEqual(Object.keys(bottleneckConfig.shape).sort());
    expect(json).toMatchObject({
      hidden_size: 16,
      model_class: "BertForSequenceClassification",
      model_name: "tiny",
      model_type: "bert",
      name: "default",
      version: "adapters.1.3.0",
    });
    const text = new TextDecoder().decode(plain["adapter_config.json"]);
    expect(text).toContain('\n    "scaling": 1.0,');
    expect(text).toContain('\n    "reduction_factor": 4,');
  });
});

describe("files of others", () => {
  const expected = async (): Promise<readonly number[]> => logitsOf(model, await read(plain));

  it("have another name in the tensors' names, or none of the backbone's prefix", async () => {
    const other = await renamed(plain, (name) => name.replace("adapters.default.", "adapters.sst-2.").replace(/^bert\./, ""));
    expect(await logitsOf(model, await read(withConfig(other, {}, { name: "sst-2" })))).toEqual(await expected());
    const error = await failure(() => read(other));
    expect(error.message).toContain("16 tensors differ:");
  });

  it("may be so old that they call adapters layer_text_task_adapters", async () => {
    const old = await renamed(plain, (name) => name.replace("adapters.default.", "layer_text_task_adapters.default."));
    expect(await logitsOf(model, await read(old))).toEqual(await expected());
  });

  it("mean gelu's tanh form by gelu where they have no version", async () => {
    const activation = async (name: string, version: string | undefined): Promise<unknown> => {
      const { attachment } = await read(withConfig(plain, { non_linearity: name }, { version }));
      return (attachment.config as { non_linearity: unknown }).non_linearity;
    };
    expect(await activation("gelu", undefined)).toBe("gelu_new");
    expect(await activation("gelu_orig", undefined)).toBe("gelu");
    expect(await activation("gelu", "0.1")).toBe("gelu");
    expect(await activation("relu", undefined)).toBe("relu");
  });

  it("mean BnConfig's defaults by what they leave out, not seq_bn's", async () => {
    const { attachment } = await read(withConfig(plain, { original_ln_before: undefined, leave_out: undefined, dropout: undefined }));
    expect(attachment.config).toMatchObject({ original_ln_before: false, original_ln_after: true, leave_out: [], dropout: 0 });
  });
});

describe("adapter_config.json", () => {
  it("is AdapterHub's where it has a config of fields and no peft_type", () => {
    expect(isHubConfig(jsonOf(plain, "adapter_config.json"))).toBe(true);
    expect(isHubConfig({ peft_type: "LORA", config: {} })).toBe(false);
    expect([isHubConfig({ r: 8 }), isHubConfig(null), isHubConfig([])]).toEqual([false, false, false]);
  });

  it("of another kind of adapter is refused by its architecture", async () => {
    for (const architecture of ["lora", "prefix_tuning", "union", "reft", "tomorrow"]) {
      const error = await failure(() => read(withConfig(plain, { architecture })));
      expect(error).toBeInstanceOf(ConfigError);
      expect(error.message).toBe(`adapter/adapter_config.json: architecture "${architecture}" is not supported in AdapterHub's format`);
      expect(error.hint).toContain("adapter layers are");
    }
    expect((await read(withConfig(plain, { architecture: null }))).params.size).toBeGreaterThan(8);
  });

  it("lists the fields that it lacks", async () => {
    const fields = { mh_adapter: undefined, non_linearity: undefined, reduction_factor: undefined, output_adapter: undefined };
    await expect(read(withConfig(plain, fields))).rejects.toThrow(
      "adapter/adapter_config.json: config lacks mh_adapter, output_adapter, reduction_factor, non_linearity",
    );
  });

  it("lists the fields that are not its own or do not fit, and passes over those that say nothing", async () => {
    const error = await failure(() =>
      read(withConfig(plain, { r: 8, alpha: 16, new_one: null, other: false, phm_dim: "four", dropout: 2 })),
    );
    expect(error).toBeInstanceOf(ConfigError);
    for (const line of ["r: 8 is not supported here", "alpha: 16 is not supported here", "phm_dim: ", "dropout: "])
      expect(error.message).toContain(`\n  ${line}`);
    expect(error.message).not.toMatch(/new_one|other/);
    expect((await read(withConfig(plain, { new_one: null, new_attention_norm: true }))).params.size).toBeGreaterThan(8);
  });

  it("without a name, a config or weights is refused", async () => {
    await expect(read(withConfig(plain, {}, { name: undefined }))).rejects.toThrow('adapter/adapter_config.json has no "name"');
    const empty = { ...plain, "adapter_config.json": jsonBytes({ model_type: "bert", name: "x" }) };
    await expect(read(empty)).rejects.toThrow(/adapter\/adapter_config\.json has no "config"/);
    const others = Object.entries(plain).filter(([name]) => !/^(pytorch_)?adapter\.(safetensors|bin)$/.test(name));
    const error = await failure(() => read(Object.fromEntries(others)));
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain("adapter has no adapter.safetensors");
  });
});

describe("tensors that do not fit", () => {
  const odd = (...shape: readonly number[]): RawTensor => ({
    dtype: "F32",
    shape,
    bytes: new Uint8Array(4 * shape.reduce((size, dim) => size * dim, 1)),
  });

  it("are all listed: missing, too many, of another shape", async () => {
    const files = await withTensors(plain, weights, (tensors) => {
      tensors.delete(`${at}.adapter_up.bias`);
      tensors.set(`${at}.adapter_down.0.weight`, odd(5, 16));
      tensors.set(`${at}.gate.weight`, odd(1, 16));
    });
    const error = await failure(() => read(files));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message.split("\n").sort()).toEqual(
      [
        "the adapter adapter does not fit this model; 3 tensors differ:",
        `  ${at}.adapter_up.bias: missing, expected [16]`,
        `  ${at}.adapter_down.0.weight: [5,16], expected [4,16]`,
        `  ${at}.gate.weight: [1,16], not expected`,
      ].sort(),
    );
    expect(error.hint).toBe("it was trained on tiny");
  });

  it("of a base with other sizes are listed, the head's too, and the first 20 of them only", async () => {
    const wider = await openTinyModel(runtime, { config: { hidden_size: 24 } });
    const narrow = await failure(() => loadAdapter(wider, memoryFiles("adapter", plain)));
    expect(narrow).toBeInstanceOf(AttachError);
    expect(narrow.message).toContain("9 tensors differ:");
    expect(narrow.message).toContain(`\n  ${at}.adapter_up.weight: [16,4], expected [24,6]`);
    expect(narrow.message).toContain("\n  classifier.weight: [3,16], expected [3,24]");
    const deeper = await openTinyModel(runtime, { config: { num_hidden_layers: 9 } });
    const error = await failure(() => loadAdapter(deeper, memoryFiles("adapter", plain)));
    expect(error.message).toMatch(/28 tensors differ:(\n {2}\S+: missing, expected \[\d+(,\d+)?\]){20}\n {2}… and 8 more$/);
  });

  it("of a config with another place are missing there and not expected here", async () => {
    const error = await failure(() => read(withConfig(plain, { mh_adapter: true, output_adapter: false })));
    expect(error.message).toContain("16 tensors differ:");
    expect(error.message).toContain(
      "bert.encoder.layer.0.attention.output.adapters.default.adapter_down.0.weight: missing, expected [4,16]",
    );
    expect(error.message).toContain("bert.encoder.layer.0.output.adapters.default.adapter_down.0.weight: [4,16], not expected");
  });
});

describe("invertible layers of a language model", () => {
  const opened = async (): Promise<{ llama: BaseModel; files: Written }> => {
    const llama = await openTinyModel(runtime, { family: "llama" });
    const words = { ...withoutAdapter(llama, textGeneration), base: true };
    return { llama, files: await filesOf(llama, await hubAdapter(llama, "seq_bn_inv", { reduction_factor: 4 }, words)) };
  };

  it("are said to be of the class that undoes them, and so are read again", async () => {
    const { llama, files } = await opened();
    expect(jsonOf(files, "adapter_config.json").model_class).toBe("LlamaAdapterModel");
    expect((await loadAdapter(llama, memoryFiles("adapter", files), "text-generation")).head.task.name).toBe("text-generation");
  });

  it("that Python did not undo are refused for tokens, and read for labels and from before adapters 1.0", async () => {
    const { llama, files } = await opened();
    const trainedIn = (model_class: string, version = "adapters.1.3.0") =>
      loadAdapter(llama, memoryFiles("adapter", withConfig(files, {}, { model_class, version })), "text-generation");
    const error = await failure(() => trainedIn("LlamaForCausalLM"));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("adapter: its invertible layers were trained in Python's LlamaForCausalLM, which does not undo them");
    expect(error.hint).toContain("AdapterModel");
    await trainedIn("LlamaForCausalLM", "3.2.1");
    await trainedIn("Qwen3ForCausalLM");
    const without = await filesOf(llama, await hubAdapter(llama, "seq_bn", {}, { ...withoutAdapter(llama, textGeneration), base: true }));
    expect(jsonOf(without, "adapter_config.json").model_class).toBe("LlamaForCausalLM");
    await loadAdapter(llama, memoryFiles("adapter", without), "text-generation");
  });

  it("are of no matter for labels", async () => {
    const files = await filesOf(model, await hubAdapter(model, "seq_bn_inv", { reduction_factor: 4 }));
    const expected = await logitsOf(model, await read(files));
    expect(await logitsOf(model, await read(withConfig(files, {}, { model_class: "BertForMaskedLM" })))).toEqual(expected);
  });
});
