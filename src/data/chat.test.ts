import { describe, expect, it } from "vitest";
import { DataError, ModelError } from "../errors.js";
import { chatTokenizer, conversations, type GoldenChat, goldenTemplates, goldenTokenizer } from "./chat.fixture.js";
import { chatTemplate, chatTemplateOf, requireChatTemplate } from "./chat.js";

const user = { role: "user", content: "Who?" };

describe("templates render as transformers does", () => {
  it.each(goldenTemplates)("$name", async (golden) => {
    const template = requireChatTemplate(await goldenTokenizer(golden));
    const rendered = (title: string, addGenerationPrompt: boolean): GoldenChat["text"] => {
      try {
        return template.render(conversations[title]!, { addGenerationPrompt });
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        return { error: error.message.replace("the model's chat template refuses these messages: ", "") };
      }
    };
    expect(golden.cases.length).toBe(Object.keys(conversations).length);
    for (const { title, text, prompt } of golden.cases) {
      expect([title, rendered(title, false)]).toEqual([title, text]);
      expect([title, rendered(title, true)]).toEqual([title, prompt]);
    }
  });
});

describe("the template of a tokenizer", () => {
  it("is the file beside it, before the config's; of several the default one", async () => {
    const config = { chat_template: "of the config" };
    const sourceOf = async (source: string | null, more: object = config): Promise<string | undefined> =>
      (await chatTokenizer("bytes", more, source)).chatTemplate?.source;
    expect(await sourceOf("of the file")).toBe("of the file");
    expect(await sourceOf(null)).toBe("of the config");
    const several = [
      { name: "tool_use", template: "with tools" },
      { name: "default", template: "without" },
    ];
    expect(await sourceOf(null, { chat_template: several })).toBe("without");
    expect(chatTemplateOf({ chat_template: { default: "by name" } }, {})?.source).toBe("by name");
    expect(chatTemplateOf({ chat_template: several.slice(0, 1) }, {})).toBeUndefined();
    expect(await sourceOf(null, {})).toBeUndefined();
  });

  it("sees special tokens that are objects, and the clock that is passed in", async () => {
    const config = { bos_token: { content: "<s>", special: true }, eos_token: "</s>", pad_token: null };
    const source = "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ strftime_now('%d %b %Y, %A %H:%M:%S %j %y %p%I %Q%%') }}";
    const template = requireChatTemplate(await chatTokenizer("bytes", config, source));
    expect(template.render([user], { now: new Date(2024, 1, 29, 13, 5, 9) })).toBe(
      "<s></s>false29 Feb 2024, Thursday 13:05:09 060 24 PM01 %Q%",
    );
  });

  it("that is missing or broken is a clear error", async () => {
    expect(() => requireChatTemplate({ chatTemplate: undefined })).toThrow(ModelError);
    expect(() => requireChatTemplate({ chatTemplate: undefined })).toThrow(/no chat template/);
    expect(() => chatTemplate("{% for m in %}").render([user])).toThrow(ModelError);
    expect(() => chatTemplate("{% for m in %}").render([user])).toThrow(/the model's chat template is broken: /);
    expect(() => chatTemplate("{{ messages[0].text + 1 }}").render([user])).toThrow(DataError);
    expect(() => chatTemplate("{{ messages[0].text + 1 }}").render([user])).toThrow(/fails on these messages: /);
  });
});

it("strip takes off what Python's takes off", () => {
  const strip = (call: string): string =>
    chatTemplate(`{{ messages[0].content.${call} }}`).render([{ ...user, content: " \n-\x1fab--\n\ufeff " }]);
  expect(strip("strip()")).toBe("-\x1fab--\n\ufeff");
  expect(strip("lstrip()")).toBe("-\x1fab--\n\ufeff ");
  expect(strip("rstrip(' \ufeff\\n-')")).toBe(" \n-\x1fab");
  expect(strip("strip(none).strip('-\\n\ufeff')")).toBe("\x1fab");
  expect(strip("strip('\\n')")).toBe(" \n-\x1fab--\n\ufeff ");
});

it("range counts as Python's does", () => {
  const shown = (range: string): string => chatTemplate(`{% for i in range(${range}) %}{{ i }} {% endfor %}`).render([]);
  expect([shown("3"), shown("1, 4"), shown("5, 0, -2"), shown("3, 1")]).toEqual(["0 1 2 ", "1 2 3 ", "5 3 1 ", ""]);
});

it("marked parts are found, the marks are not seen, and white space is as if the tags were others", () => {
  const template = chatTemplate(
    "{% for m in messages %}\n{{ m.role }}: {% generation %}\n {{ m.content }}\n{%- endgeneration -%}\n  {% endfor %}",
  );
  const { text, spans } = template.renderMarked([user, { ...user, content: "You." }]);
  expect(template.marksTurns).toBe(true);
  expect(text).toBe("user:  Who?user:  You.");
  expect(spans.map(({ start, end }) => text.slice(start, end))).toEqual([" Who?", " You."]);
  expect(template.render([user])).toBe("user:  Who?");
});
