import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { tinyRows } from "../../test/tiny-model.fixture.js";
import { generate } from "../node/generate.js";
import { peft } from "./run-peft.fixture.js";

let folder = "";
const at = (name: string): string => join(folder, name);
const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const model = (): string[] => ["--model", at("model"), "--threads", "1", "--max-new-tokens", "6"];
const template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-generate-"));
  vi.stubEnv("HF_HOME", at("cache"));
  await writeTinyModel(at("plain"), { family: "llama" });
  await writeTinyModel(at("bert"), { labels: 3 });
  await writeTinyModel(at("model"), { family: "llama" });
  const config = JSON.parse(await readFile(at("model/tokenizer_config.json"), "utf8")) as object;
  await writeFile(at("model/tokenizer_config.json"), JSON.stringify({ ...config, chat_template: template }));
  for (const [name, completion] of Object.entries({ one: " new hats", two: " film card" })) {
    await writeFile(at(`${name}.jsonl`), lines(tinyRows(12).map(({ text }) => ({ prompt: text, completion }))));
    const training = ["--task", "text-generation", "--max-steps", "12", "--learning-rate", "0.1", "--out", at(name)];
    const { code, stderr } = await peft(["train", "--model", at("model"), "--data", at(`${name}.jsonl`), ...training, "--json"]);
    expect(code, stderr).toBe(0);
  }
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

describe("peft generate", () => {
  it("streams a text, and gives it as JSON with its tokens, speed and end", async () => {
    const run = await peft(["generate", ...model(), "--prompt", "the film"]);
    const json = await peft(["generate", ...model(), "--prompt", "the film", "--json"]);
    expect([run.code, json.code]).toEqual([0, 0]);
    const [result] = json.json();
    expect(Object.keys(result!)).toEqual(["text", "tokens", "tokens_per_second", "finish_reason"]);
    expect(result).toMatchObject({ tokens: 6, finish_reason: "length" });
    expect(result!.tokens_per_second as number).toBeGreaterThan(0);
    expect(run.stdout).toBe(`${result!.text}\n`);
    const pieces: string[] = [];
    const input = { model: at("model"), prompt: "the film", max_new_tokens: 6 };
    for await (const piece of generate(input, { threads: 1 })) pieces.push(piece);
    expect(pieces.join("")).toBe(result!.text);
    expect(pieces.length).toBeGreaterThan(1);
  });

  it("writes as the adapter has learned, draws by the seed, renders the chat template and stops where told", async () => {
    const text = async (...more: string[]): Promise<string> => {
      const run = await peft(["generate", ...model(), "--prompt", "the film", "--json", ...more]);
      expect(run.code, run.stderr).toBe(0);
      return String(run.json()[0]!.text);
    };
    const plain = await text();
    expect(await text("--adapter", at("one"))).not.toBe(plain);
    expect(await text("--chat")).not.toBe(plain);
    expect(await text("--chat", "--system", "be brief")).not.toBe(await text("--chat"));
    const drawn = await text("--temperature", "1", "--seed", "1");
    expect(drawn).not.toBe(plain);
    expect(await text("--temperature", "1", "--seed", "1")).toBe(drawn);
    expect(await text("--temperature", "1", "--seed", "2")).not.toBe(drawn);
    expect(await text("--temperature", "1", "--seed", "1", "--top-k", "1")).toBe(plain);
    expect(await text("--stop", plain.slice(2, 4))).toBe(plain.slice(0, plain.indexOf(plain.slice(2, 4))));
  });

  it("continues rows of prompts, texts and messages, whatever the batches", async () => {
    const rows = [
      { prompt: "the film" },
      { text: "my card is" },
      { messages: [{ role: "user", content: "the film" }] },
      { prompt: "hats" },
    ];
    await writeFile(at("prompts.jsonl"), lines(rows));
    const run = await peft(["generate", ...model(), "--input", at("prompts.jsonl")]);
    expect(run.code, run.stderr).toBe(0);
    expect(run.json().map((row) => Object.keys(row))).toEqual(rows.map(() => ["text", "tokens", "finish_reason"]));
    const file = await peft(["generate", ...model(), "--input", at("prompts.jsonl"), "--output", at("out.jsonl"), "--batch-size", "2"]);
    expect(file.code).toBe(0);
    expect(await readFile(at("out.jsonl"), "utf8")).toBe(run.stdout);
    const alone = await peft(["generate", ...model(), "--prompt", "the film", "--json"]);
    expect(run.json()[0]!.text).toBe(alone.json()[0]!.text);
    const chat = await peft(["generate", ...model(), "--prompt", "the film", "--chat", "--json"]);
    expect(run.json()[2]!.text).toBe(chat.json()[0]!.text);
  });

  it.each([
    [[], 2, /give either --prompt TEXT or --input FILE/],
    [["--prompt", "a", "--temperature", "-1"], 2, /--temperature/],
    [["--prompt", "a", "--adapter", "one", "--top-p", "2"], 2, /--top-p/],
  ] as const)("refuses %j", async (more, code, message) => {
    const run = await peft(["generate", ...model(), ...more]);
    expect([run.code, run.stderr]).toEqual([code, expect.stringMatching(message)]);
  });

  it("says what cannot be: models that write no texts, no template, rows without a prompt", async () => {
    const bert = await peft(["generate", "--model", at("bert"), "--prompt", "a"]);
    expect(bert.stderr).toMatch(/error\[E_MODEL\]: a bert model writes no texts/);
    const plain = await peft(["generate", "--model", at("plain"), "--prompt", "a", "--chat"]);
    expect(plain.stderr).toMatch(/the model's tokenizer has no chat template/);
    await writeFile(at("bad.jsonl"), lines([{ prompt: "a" }, { question: "b" }]));
    const rows = await peft(["generate", ...model(), "--input", at("bad.jsonl")]);
    expect([rows.code, rows.stderr]).toEqual([1, expect.stringMatching(/bad\.jsonl:2: no column "prompt"/)]);
  });
});

it("says of messages that are no list what they should be", async () => {
  await writeFile(at("odd.jsonl"), lines([{ messages: [{ role: "user", content: "hats" }] }, { messages: "hats" }]));
  const { code, stderr } = await peft(["generate", ...model(), "--input", at("odd.jsonl")]);
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/error\[E_DATA\]: .*odd\.jsonl:2: "messages" is "hats", expected a list of messages/),
  ]);
});

describe("peft generate refuses flags that would change nothing", () => {
  it.each([
    [["--prompt", "the film", "--system", "be brief"], "a text that is continued as it is has no system message"],
    [["--prompt", "the film", "--output", "texts.jsonl"], "--output is for the rows of --input"],
  ])("%s", async (flags, message) => {
    const { code, stderr } = await peft(["generate", ...model(), ...flags]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(`error[E_USAGE]: ${message}\nhint: `)]);
  });
});

describe("peft evaluate --generate", () => {
  it("adds how many answers are the completions", async () => {
    const told = await peft(["generate", "--model", at("model"), "--prompt", "the film", "--max-new-tokens", "4", "--json"]);
    const answer = String(told.json()[0]!.text);
    await writeFile(
      at("answers.jsonl"),
      lines([
        { prompt: "the film", completion: ` ${answer} ` },
        { prompt: "the film", completion: "another" },
        { prompt: "my card", completion: answer },
      ]),
    );
    const args = ["evaluate", "--model", at("model"), "--task", "text-generation", "--data", at("answers.jsonl"), "--json"];
    const { metrics } = (await peft([...args, "--generate", "--max-new-tokens", "4"])).json()[0]! as { metrics: Record<string, number> };
    expect(metrics.exact_match).toBeCloseTo(1 / 3, 6);
    const without = (await peft(args)).json()[0]! as { metrics: Record<string, number> };
    expect(Object.keys(without.metrics)).not.toContain("exact_match");
  });

  it("adds how far answers agree with completions that are JSON objects", async () => {
    await writeFile(at("objects.jsonl"), lines([{ prompt: "the film", completion: '{"a": 1}' }]));
    const args = ["evaluate", "--model", at("model"), "--task", "text-generation", "--data", at("objects.jsonl"), "--json"];
    const { metrics } = (await peft([...args, "--generate", "--max-new-tokens", "4"])).json()[0]! as { metrics: Record<string, number> };
    expect(metrics).toMatchObject({ exact_match: 0, valid_json: 0, field_f1: 0 });
  });
});

describe("peft chat", () => {
  const talk = (stdin: string, ...more: string[]) => peft(["chat", ...model(), ...more], { stdin });

  it("answers each line of a pipe, remembers what was said, and forgets it on /reset", async () => {
    const run = await talk("the film\nthe film\n/reset\nthe film\n", "--json");
    expect(run.code, run.stderr).toBe(0);
    const [first, second, third] = run.json().map(({ text }) => text);
    expect(third).toBe(first);
    expect(second).not.toBe(first);
    const one = await peft(["generate", ...model(), "--chat", "--prompt", "the film", "--json"]);
    expect(first).toBe(one.json()[0]!.text);
    expect(run.stderr).toContain("the conversation starts anew");
  });

  it("switches adapters at once, lists them, and keeps on where there is no such one", async () => {
    const adapters = ["--adapter", `a=${at("one")}`, "--adapter", at("two")];
    const run = await talk(
      "/adapter\nhi\n/reset\n/adapter two\nhi\n/reset\n/adapter none\nhi\n/adapter three\n/what\n/help\n/exit\nno\n",
      ...adapters,
      "--temperature",
      "1",
      "--json",
    );
    expect(run.code, run.stderr).toBe(0);
    const answers = run.json().map(({ text }) => text);
    expect(answers.length).toBe(3);
    expect(new Set(answers).size).toBe(3);
    expect(run.stderr).toContain("adapter a; there are: none, a (lora), two (lora)");
    expect(run.stderr).toContain('there is no adapter "three"; loaded: a, two');
    expect(run.stderr).toContain("there is no command /what");
    expect(run.stderr).toContain("/adapter NAME");
    const alone = await peft(["generate", ...model(), "--adapter", at("two"), "--chat", "--prompt", "hi", "--temperature", "1", "--json"]);
    expect(answers[1]).toBe(alone.json()[0]!.text);
  });

  it("ends an answer at Ctrl-C, and goes on", async () => {
    let pieces = 0;
    const run = await peft(["chat", "--model", at("model"), "--threads", "1", "--max-new-tokens", "30", "--temperature", "1"], {
      stdin: "the film\n/help\n",
      onText: (_, interrupt) => {
        pieces++;
        if (pieces === 1) interrupt();
      },
    });
    expect(run.code).toBe(0);
    expect(run.stderr).toMatch(/\(stopped\)[\s\S]*\/adapter NAME/);
    expect(pieces).toBeLessThan(8);
  });

  it("needs a chat template", async () => {
    const run = await peft(["chat", "--model", at("plain")], { stdin: "hi\n" });
    expect([run.code, run.stderr]).toEqual([1, expect.stringMatching(/the model's tokenizer has no chat template/)]);
  });
});
