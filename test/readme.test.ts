import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeTinyModel } from "./tiny-folder.fixture.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = await readFile(join(root, "README.md"), "utf8");
const commands = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => block!.trim().split("\n"));
const peftCommands = commands.filter((command) => command.startsWith("npx peft "));
let folder = "";
let model = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-readme-"));
  model = await writeTinyModel(join(folder, "model"));
});

afterAll(() => rm(folder, { recursive: true }));

/** Runs a command of the README against the built package, with a tiny model and a folder for what it writes. */
async function run(command: string): Promise<string> {
  const peft = `"${process.execPath}" "${join(root, "dist/cli/main.js")}"`;
  const line = command.replace(/^npx peft/, peft).replaceAll("my-adapter", `"${join(folder, "my-adapter")}"`);
  return (await promisify(execFile)("sh", ["-c", `${line} --model "${model}"`], { cwd: root })).stdout;
}

test("its commands for one's own data run as written", { timeout: 60_000 }, async () => {
  expect(peftCommands.map((command) => command.split(" ")[2])).toEqual(["data", "train", "evaluate", "predict"]);
  const [check, train, evaluate, predict] = peftCommands;
  expect(await run(check!)).toMatch(/320/);
  await run(train!);
  expect((await readdir(join(folder, "my-adapter"))).sort()).toEqual(
    expect.arrayContaining(["README.md", "adapter_config.json", "adapter_model.safetensors", "log.jsonl", "training.json"]),
  );
  expect(await run(evaluate!)).toMatch(/accuracy/);
  const lines = (await run(predict!)).trim().split("\n");
  expect(lines.map((line) => Object.keys(JSON.parse(line)))).toEqual([
    ["label", "score"],
    ["label", "score"],
  ]);
});

test("the npm scripts it names exist", async () => {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const named = [...readme.matchAll(/npm (?:run )?(test|(?<=run )[\w-]+)/g)].map(([, name]) => name);
  expect(named.length).toBeGreaterThan(2);
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
});
