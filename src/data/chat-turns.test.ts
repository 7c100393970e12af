import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { DataError } from "../errors.js";
import { chatTokenizer, conversations, goldenTemplates, goldenTokenizer, templateSource } from "./chat.fixture.js";
import type { ChatMessage } from "./chat.js";
import { chatMessages, encodeChat } from "./chat-turns.js";
import type { Tokenizer } from "./tokenizer.js";

const turns = { all: false, lastOnly: false, from: 0 };
const chatml = { eos_token: "<|im_end|>", additional_special_tokens: ["<|im_start|>"] };
const made = (source: string): Promise<Tokenizer> => chatTokenizer("bytes", chatml, source);
const named = (name: string): Promise<Tokenizer> => goldenTokenizer(goldenTemplates.find((each) => each.name === name)!);
/** What is learned, each run of tokens as a text. */
const said = (tokenizer: Tokenizer, messages: readonly ChatMessage[], choice: Partial<typeof turns> = {}): readonly string[] => {
  const { ids, learned } = encodeChat(tokenizer, messages, { ...turns, ...choice });
  const runs: number[][] = [];
  ids.forEach((id, t) => {
    if (learned[t]) (learned[t - 1] ? runs.at(-1)! : (runs[runs.push([]) - 1] as number[])).push(id);
  });
  return runs.map((run) => tokenizer.decode(run));
};

describe("the assistant's turns are found", () => {
  const learned = goldenTemplates.flatMap((golden) => golden.cases.flatMap((each) => (each.ids === undefined ? [] : [{ golden, each }])));

  it("in more than ten shapes of templates", () => {
    expect(new Set(learned.map(({ golden }) => golden.name)).size).toBeGreaterThanOrEqual(14);
    expect(new Set(learned.map(({ golden }) => golden.tokenizer)).size).toBe(2);
  });

  it.each(learned)("$golden.name: $each.title", async ({ golden, each: { title, ids, trained, text } }) => {
    const encoded = encodeChat(await goldenTokenizer(golden), conversations[title]!, turns);
    expect(encoded.text).toBe(text);
    expect([...encoded.ids]).toEqual(ids);
    expect(encoded.learned.map(Number)).toEqual(trained);
    expect(trained).toContain(1);
  });

  it("or the last of them only, or those from a message on, or everything", async () => {
    const tokenizer = await named("chatml");
    const four = conversations.four!;
    expect(said(tokenizer, four, { lastOnly: true })).toEqual(["Yes – naïvely said.<|im_end|>"]);
    expect(said(tokenizer, four, { from: 2 })).toEqual(["Yes – naïvely said.<|im_end|>"]);
    const all = encodeChat(tokenizer, four, { ...turns, all: true });
    expect(all.learned).toEqual(Array.from(all.ids, (_, t) => t > 0));
    const marked = await named("marked");
    expect(said(marked, four, { lastOnly: true })).toEqual(["Yes – naïvely said.<|im_end|>"]);
    expect(said(marked, four)).toEqual(["It is on the shelf.<|im_end|>", "Yes – naïvely said.<|im_end|>"]);
  });

  it("with a token that belongs to both sides of a border on the learned side", async () => {
    const tokenizer = await made(
      "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }} {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    );
    expect(said(tokenizer, conversations.two!)[0]).toMatch(/^ ?Nobody has it\.\nAsk 北京!<\|im_end\|>$/);
  });

  it("where the assistant speaks first, behind the template's own system message", async () => {
    const { content } = conversations.two![1]!;
    expect(said(await named("default-system"), [conversations.two![1]!])).toEqual([`${content}<|im_end|>`]);
  });

  it("of reasoning models where the last turn is all that is learned", async () => {
    const tokenizer = await named("reasoning");
    expect(said(tokenizer, conversations.thought!, { lastOnly: true })).toEqual(["<think>\nhm  \n</think>\n\nNobody.<|im_end|>"]);
    expect(said(tokenizer, conversations.four!, { lastOnly: true })).toEqual(["<think>\n\n</think>\n\nYes – naïvely said.<|im_end|>"]);
  });
});

describe("conversations that cannot be learned from", () => {
  const wrong = async (
    tokenizer: Tokenizer,
    messages: readonly ChatMessage[],
  ): Promise<{ readonly message: string; readonly hint?: string | undefined }> => {
    const error = await failure(async () => encodeChat(tokenizer, messages, turns));
    expect(error).toBeInstanceOf(DataError);
    return error;
  };
  const [user, assistant] = conversations.two!;

  it("earlier turns that are written otherwise later", async () => {
    for (const title of ["four", "thought"]) {
      const error = await wrong(await named("reasoning"), conversations[title]!);
      expect(error.message).toMatch(
        /writes it otherwise once the conversation goes on, so that the assistant's turn \(message 2\) cannot be told: /,
      );
      expect(error.message).toContain("<think>");
      expect(error.message).toMatch(/The text:\n<\|im_start\|>user/);
      expect(error.hint).toMatch(/--last-turn-only/);
    }
  });

  it("a system's message that moves on", async () => {
    const error = await wrong(await named("inst-strict"), conversations.system!);
    expect(error.message).toMatch(/writes what stands before it otherwise once/);
    expect(error.message).toContain("You answer kindly.");
  });

  it("turns without an end token", async () => {
    const error = await wrong(await named("plain-endless"), conversations.two!);
    expect(error.message).toMatch(
      /no special token at the end of the assistant's turn \(message 2\), so that the model would not learn to stop/,
    );
    expect(error.message).toContain("### Assistant:\nNobody has it.");
  });

  it("no assistant", async () => {
    expect((await wrong(await named("chatml"), [user!, user!])).message).toMatch(/no message is the assistant's.*roles: user, user/);
  });

  it("nothing but the assistant", async () => {
    expect((await wrong(await made("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"), [assistant!])).message).toMatch(
      /all of the conversation would be learned/,
    );
    const strict = await made(`{% if not messages %}{{ raise_exception('say something') }}{% endif %}${templateSource("chatml")}`);
    const refused = await wrong(strict, [assistant!]);
    expect(refused.message).toMatch(/what stands before the assistant's turn \(message 1\) cannot be told: .*: say something/);
    expect(refused.hint).toMatch(/begins with a system's or a user's message/);
  });

  it("a turn that the template leaves out", async () => {
    const source =
      "{% for m in messages %}{{ '<|im_start|>' }}{{ m.content if m.role == 'user' }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}";
    expect((await wrong(await made(source), [user!, assistant!])).message).toMatch(
      /leaves nothing of the assistant's turn \(message 2\) but its end/,
    );
  });

  it("marks for other messages than the assistant's", async () => {
    const source = "{% for m in messages %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% endfor %}";
    expect((await wrong(await made(source), [user!, assistant!])).message).toMatch(/marks 2 parts with \{% generation %\}, and 1 messages/);
  });

  it("messages that the template refuses, in its words", async () => {
    expect((await wrong(await named("inst-strict"), conversations["same role"]!)).message).toMatch(
      /the model's chat template refuses these messages: Conversation roles must alternate user\/assistant/,
    );
  });
});

describe("messages", () => {
  const user = { role: "user", content: "Who?" };

  it("are taken with all their fields", () => {
    const called = { role: "assistant", content: null, tool_calls: [{ name: "f" }] };
    expect(chatMessages([{ ...user, name: "Ada" }, called], "messages")).toEqual([{ ...user, name: "Ada" }, called]);
    expect(chatMessages([{ ...user, content: [{ type: "text", text: "Who?" }] }], "messages")).toHaveLength(1);
  });

  it.each<[value: unknown, message: RegExp]>([
    ["Who?", /"messages" is "Who\?", expected a list of messages/],
    [[], /"messages" holds no messages/],
    [[user, "Who?"], /message 2 of "messages" is "Who\?", expected an object/],
    [[{ content: "Who?" }], /message 1 of "messages" has no role/],
    [[{ ...user, role: 5 }], /message 1 of "messages" has the role 5/],
    [[{ role: "user" }], /message 1 of "messages" has no content/],
    [[{ ...user, content: 7 }], /message 1 of "messages" has the content 7, expected a text/],
    [[user, { role: "assistant", content: " \n" }], /message 2 of "messages" is an empty assistant turn/],
    [[user, { role: "assistant", content: null }], /message 2 of "messages" has no content/],
  ])("%j are refused", (value, message) => {
    expect(() => chatMessages(value, "messages")).toThrow(DataError);
    expect(() => chatMessages(value, "messages")).toThrow(message);
  });
});

it("templates of the fixtures are used", () => {
  for (const { name } of goldenTemplates) expect(templateSource(name).length).toBeGreaterThan(50);
});
