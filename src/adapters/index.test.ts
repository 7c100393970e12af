import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes } from "../../test/tiny-model.fixture.js";
import { ConfigError, FileError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { isPeft, methods } from "../methods/index.js";
import { readAdapter } from "./index.js";

const reading = (files: Readonly<Record<string, unknown>>) =>
  failure(() =>
    readAdapter(memoryFiles("adapter", Object.fromEntries(Object.entries(files).map(([name, json]) => [name, jsonBytes(json)])))),
  );

describe("files that are no adapter", () => {
  it("lack adapter_config.json", async () => {
    const error = await reading({ "config.json": {} });
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toBe("adapter has no adapter_config.json");
    expect(error.hint).toContain("weights beside it");
  });

  it("have a peft_type that is not supported; the hint lists those that are", async () => {
    const error = await reading({ "adapter_config.json": { peft_type: "OFT" } });
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain('peft_type "OFT" is not supported');
    const types = methods.filter(isPeft).map(({ files }) => files.peft_type);
    expect(types).toContain("LORA");
    for (const type of types) expect(error.hint).toContain(type);
  });

  it("say nothing of what they are", async () => {
    for (const json of [{}, { r: 8 }, [], null]) expect(await reading({ "adapter_config.json": json })).toBeInstanceOf(ConfigError);
  });

  it("lack the weights", async () => {
    const error = await reading({ "adapter_config.json": { peft_type: "LORA", target_modules: ["query"] } });
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain("adapter_model.safetensors");
  });
});

it("adapter_setup.json comes before an adapter_config.json beside it", async () => {
  const error = await reading({ "adapter_config.json": { peft_type: "OFT" }, "adapter_setup.json": {} });
  expect(error.message).toBe('adapter/adapter_setup.json has no "adapter_setup"');
});
