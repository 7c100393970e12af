import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { loadModel } from "../node/load-model.js";
import { peft } from "./run-peft.fixture.js";

const template = `{{ bos_token }}{% for m in messages %}
{% if m.role == 'user' and not loop.first and messages[loop.index0 - 1].role == 'user' %}{{ raise_exception('One at a time!') }}{% endif %}
{{ m.role }}:{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}

{% endfor %}
{% if add_generation_prompt %}assistant:{% endif %}`;
const said = (user: string, assistant: string): readonly object[] => [
  { role: "user", content: user },
  { role: "assistant", content: assistant },
];
const rows = [
  { messages: said("Is it new, or is it not?", "Yes.\nIt is.") },
  { messages: [...said("Who?", "I."), ...said("When?", "Now.")] },
  { prompt: said("Who?", "I.").slice(0, 1), completion: said("Who?", "You.").slice(1) },
];
let folder = "";
const at = (name: string): string => join(folder, name);
const lines = (all: readonly object[]): string => all.map((row) => `${JSON.stringify(row)}\n`).join("");

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-messages-"));
  vi.stubEnv("HF_HOME", at("cache"));
  const options = { family: "llama", task: "text-generation", config: { max_position_embeddings: 160 } } as const;
  for (const name of ["chat", "base"]) await writeTinyModel(at(name), options);
  await writeFile(join(at("chat"), "chat_template.jinja"), template);
  await writeFile(at("rows.jsonl"), lines(rows));
  await writeFile(at("one-form.jsonl"), lines(rows.slice(0, 2)));
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

const data = (name = "rows.jsonl"): string[] => ["--data", at(name), "--task", "text-generation"];
const chat = (): string[] => ["--model", at("chat"), "--threads", "1"];
const train = (name: string, ...more: string[]): string[] => [
  ...["train", ...chat(), ...data(name), "--out", at("out"), "--max-steps", "1", "--batch-size", "2", "--json", ...more],
];

describe("data preview", () => {
  const preview = (...more: string[]): string[] => ["data", "preview", ...data(), "--model", at("chat"), ...more];

  test("puts brackets around what is learned", async () => {
    const { code, stdout } = await peft(preview());
    expect(code).toBe(0);
    expect(stdout).toContain("  <|begin_of_text|>user:Is it new, or is it not?\n  assistant:⟦Yes.↵\n  It is.<|end_of_text|>⟧\n");
    expect(stdout).toContain(
      "  user:Who?\n  assistant:⟦I.<|end_of_text|>⟧\n  user:When?\n  assistant:⟦Now.<|end_of_text|>⟧\n".replace("  user", "user"),
    );
    expect(stdout).toContain("<|begin_of_text|>user:Who?\n  assistant:⟦You.<|end_of_text|>⟧\n");
    expect(stdout).toMatch(/rows\.jsonl:1 {2}\d+ tokens, \d+ learned \(\d+ %\)/);
    expect(stdout).toContain("⟦…⟧: learned");
  });

  test("or paints it green, line by line", async () => {
    const { stdout } = await peft(preview("--rows", "1"), { terminal: true });
    expect(stdout).toContain("assistant:\x1b[32mYes.↵\x1b[39m\n  \x1b[32mIt is.<|end_of_text|>\x1b[39m\n");
    expect(stdout).not.toContain("⟦");
  });

  test("of the last turn only, and of everything", async () => {
    const last = (await peft(preview("--last-turn-only"))).stdout;
    expect(last).toContain("assistant:I.<|end_of_text|>\n  user:When?\n  assistant:⟦Now.<|end_of_text|>⟧\n");
    const all = (await peft(preview("--train-on-prompt", "--rows", "1"))).stdout;
    expect(all).toContain("<|begin_of_text|>⟦user:Is it new, or is it not?↵\n  assistant:Yes.↵\n  It is.<|end_of_text|>↵\n  ⟧");
  });

  test("says which tokens as JSON", async () => {
    const [{ shown }] = (await peft(preview("--json", "--rows", "1"))).json() as [
      { shown: { tokens: { text: string; loss: boolean }[]; parts: object[] }[] },
    ];
    expect(
      shown[0]!.tokens
        .filter(({ loss }) => loss)
        .map(({ text }) => text)
        .join(""),
    ).toBe("Yes.\nIt is.<|end_of_text|>");
    expect(shown[0]!.parts).toEqual([
      { text: "<|begin_of_text|>user:Is it new, or is it not?\nassistant:", learned: false },
      { text: "Yes.\nIt is.<|end_of_text|>", learned: true },
    ]);
  });
});

describe("data check", () => {
  test("counts what is learned and what is cut", async () => {
    const { code, stdout } = await peft([
      "data",
      "check",
      ...data("one-form.jsonl"),
      "--model",
      at("chat"),
      "--max-length",
      "25",
      "--json",
    ]);
    expect(code).toBe(0);
    const model = await loadModel(at("chat"), { threads: 1 });
    const lengthOf = (text: string): number => model.tokenizer.encode(text, { addSpecialTokens: false }).ids.length;
    await model.close();
    expect(lengthOf("<|begin_of_text|>user:Is it new, or is it not?\nassistant:")).toBeGreaterThan(25);
    // Of the first row nothing is left; of the second 26 tokens, the last of them only foretold, with both of "I.", the end token and the next turn's beginning.
    const learned = lengthOf("I.<|end_of_text|>");
    const share = learned / 26;
    expect(JSON.parse(stdout).train.learned).toEqual({
      tokens: 52,
      learned,
      least_share: 0,
      largest_share: share,
      truncated_rows: 2,
      dropped_rows: 1,
    });
  });

  test("names all faults with their lines, without a model those of the form", async () => {
    await writeFile(
      at("bad.jsonl"),
      lines([
        ...rows.slice(0, 1),
        { messages: said("Who?", " ") },
        { messages: [{ role: "user", content: "a" }, ...said("b", "c")] },
        { messages: "Who?" },
        { messages: said("a", "b").slice(0, 1) },
        rows[0]!,
      ]),
    );
    const faults = async (...more: string[]): Promise<readonly string[]> => {
      const { code, stdout } = await peft(["data", "check", ...data("bad.jsonl"), "--json", ...more]);
      expect(code).toBe(1);
      return JSON.parse(stdout).faults.map(
        ({ where, message }: { where: string; message: string }) => `${where.slice(-1)} ${message.split("\n")[0]}`,
      );
    };
    const form = [
      '2 message 2 of "messages" is an empty assistant turn: there is nothing to learn in it',
      '4 "messages" is "Who?", expected a list of messages',
    ];
    const twice = [`6 the same row as ${at("bad.jsonl")}:1`];
    expect(await faults()).toEqual([...form, ...twice]);
    expect(await faults("--model", at("chat"))).toEqual([
      ...form,
      "3 the model's chat template refuses these messages: One at a time!",
      "5 no message is the assistant's, so that nothing would be learned; roles: user",
      ...twice,
    ]);
    const people = await peft(["data", "check", ...data("one-form.jsonl"), "--model", at("chat")]);
    expect(people.stdout).toMatch(/learned: \d+ of \d+ tokens \(\d+ %; of a row \d+ % to \d+ %\)/);
  });
});

describe("training, evaluation and prediction", () => {
  test("learn the assistant's turns; what is cut off wholly is counted, or an error", async () => {
    const run = await peft(train("rows.jsonl", "--eval", at("rows.jsonl")));
    expect(run.code).toBe(0);
    expect(run.json()[0]).toMatchObject({ event: "start", task: "text-generation", train_rows: 3, truncated_rows: 0, dropped_rows: 0 });
    const adapter = ["--model", at("chat"), "--adapter", at("out")];
    const evaluated = async (...more: string[]): Promise<number> => {
      const [{ loss }] = (await peft(["evaluate", ...adapter, "--data", at("rows.jsonl"), "--json", ...more])).json() as [{ loss: number }];
      return loss;
    };
    const losses = [await evaluated(), await evaluated("--last-turn-only"), await evaluated("--train-on-prompt")];
    expect(new Set(losses).size).toBe(3);
    const predicted = (await peft(["predict", ...adapter, "--input", at("rows.jsonl")])).json() as { logprob: number; tokens: number }[];
    const tokens = predicted.reduce((sum, each) => sum + each.tokens, 0);
    // The loss is the mean over the same tokens: those of all turns, end tokens included.
    expect(-predicted.reduce((sum, each) => sum + each.logprob, 0) / tokens).toBeCloseTo(losses[0]!, 4);

    const some = await peft(["evaluate", ...adapter, "--data", at("rows.jsonl"), "--max-length", "25", "--json"]);
    expect([some.code, some.stderr]).toEqual([0, expect.stringContaining("of 1 of 3 rows all that was to be judged is cut off")]);
    expect((some.json() as { loss: number }[])[0]!.loss).toBeGreaterThan(0);
    const none = await peft(["evaluate", ...adapter, "--data", at("rows.jsonl"), "--max-length", "3"]);
    expect([none.code, none.stderr]).toEqual([1, expect.stringMatching(/E_DATA.*rows\.jsonl: all that was to be judged is cut off/)]);

    const cut = await peft(train("rows.jsonl", "--eval", at("rows.jsonl"), "--max-length", "25"));
    expect(cut.json()[0]).toMatchObject({ train_rows: 2, truncated_rows: 2, dropped_rows: 1 });
    const people = await peft(train("rows.jsonl", "--eval", at("rows.jsonl"), "--max-length", "25").filter((flag) => flag !== "--json"));
    expect(people.stderr).toContain("2 texts are longer than the limit and were cut");
    expect(people.stderr).toContain("1 of them are left out: what was to be learned is cut off wholly");
    const refused = await peft(train("rows.jsonl", "--max-length", "25", "--on-truncation", "error"));
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/rows\.jsonl:1: the text is longer than 25 tokens/)]);
  });

  test("go by the columns", async () => {
    const { code, stderr } = await peft(["train", ...chat(), "--data", at("one-form.jsonl"), "--out", at("found"), "--max-steps", "1"]);
    expect([code, stderr]).toEqual([0, expect.not.stringContaining("error")]);
  });

  test.each<[what: string, args: () => string[], message: RegExp]>([
    ["a model without a template", () => [...train("rows.jsonl"), "--model", at("base")], /E_MODEL.*no chat template/s],
    [
      "a choice of tokens for labels",
      () => ["train", ...chat(), "--data", at("labels.jsonl"), "--out", at("no"), "--train-on-prompt"],
      /E_CONFIG.*--train-on-prompt says which tokens/s,
    ],
    ["two forms in a row", () => train("both.jsonl"), /both\.jsonl:1: the row has "messages" and "text"; it is one of them/],
  ])("%s ends in a clear error", async (_, args, message) => {
    await writeFile(
      at("labels.jsonl"),
      lines([
        { text: "a", label: "x" },
        { text: "b", label: "y" },
      ]),
    );
    await writeFile(at("both.jsonl"), lines([{ ...rows[0], text: "Who?" }]));
    const { code, stderr } = await peft(args());
    expect(stderr).toMatch(message);
    expect(code).toBe(1);
  });
});
