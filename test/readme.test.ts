import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
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

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-readme-"));
  await writeTinyModel(join(folder, "minilm"));
  const chat = await writeTinyModel(join(folder, "smollm2-135m-q4"), { family: "llama", config: { max_position_embeddings: 160 } });
  await writeFile(
    join(chat, "chat_template.jinja"),
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
  );
});

afterAll(() => rm(folder, { recursive: true }));

/** Runs a command of the README against the built package, with a tiny model in place of the one named and a folder for what it writes. */
async function run(command: string): Promise<string> {
  const peft = `"${process.execPath}" "${join(root, "dist/cli/main.js")}"`;
  const [, model = "minilm"] = /--model (\S+)/.exec(command) ?? [];
  const line = command.replace(/^npx peft/, peft).replaceAll(/my-\w+/g, (name) => `"${join(folder, name)}"`);
  return (await promisify(execFile)("sh", ["-c", `${line} --model "${join(folder, model)}" </dev/null`], { cwd: root })).stdout;
}

test("its commands run as written", { timeout: 120_000 }, async () => {
  const named = (command: string): string =>
    command
      .split(" ")
      .slice(2, command.startsWith("npx peft data") ? 4 : 3)
      .join(" ");
  expect(peftCommands.map(named)).toEqual(
    ["data check", "train", "evaluate", "predict"].concat("data preview", "train", "generate", "chat", "compare"),
  );
  const [check, train, evaluate, predict, preview, trainChat, generate, chat, compare] = peftCommands;
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
  expect(await run(preview!)).toMatch(/assistant: ?⟦/);
  await run(trainChat!);
  expect(await run(generate!)).not.toBe("");
  await run(chat!);
  await run(compare!);
  expect(await readdir(join(folder, "my-comparison"))).toEqual(expect.arrayContaining(["report.html", "report.json", "report.md"]));
});

test("the npm scripts it names exist", async () => {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const named = [...readme.matchAll(/npm (?:run )?(test|(?<=run )[\w-]+)/g)].map(([, name]) => name);
  expect(named.length).toBeGreaterThan(2);
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
});
