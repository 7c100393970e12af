import { readFileSync } from "node:fs";
import { memoryFiles } from "../io/memory-files.js";
import type { ChatMessage } from "./chat.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";

/** What transformers makes of a conversation; see tools/golden/make_chat.py. */
export interface GoldenChat {
  readonly title: string;
  readonly text: string | { readonly error: string };
  readonly prompt: string | { readonly error: string };
  /** Of rows to learn from: the text's ids, 1 for each token that is learned, and what these say. */
  readonly ids?: readonly number[];
  readonly trained?: readonly (0 | 1)[];
  readonly said?: readonly string[];
}

interface GoldenTemplate {
  readonly name: string;
  readonly tokenizer: "bytes" | "pieces";
  readonly config: object;
  readonly cases: readonly GoldenChat[];
}

const folder = new URL("fixtures/", import.meta.url);
const [first = "", ...rest] = readFileSync(new URL("chat/golden.jsonl", folder), "utf8").trim().split("\n");

/** The conversations by title. */
export const conversations: Readonly<Record<string, readonly ChatMessage[]>> = JSON.parse(first).conversations;

/** The templates, each with what transformers makes of all conversations. */
export const goldenTemplates: readonly GoldenTemplate[] = rest.map((line) => JSON.parse(line));

/** A tiny tokenizer with a template, from chat_template.jinja beside it unless `source` is null. */
export function chatTokenizer(kind: "bytes" | "pieces", config: object, source: string | null): Promise<Tokenizer> {
  return loadTokenizer(
    memoryFiles("model", {
      "tokenizer.json": readFileSync(new URL(kind === "pieces" ? "chat/pieces.json" : "golden/gpt2/tokenizer.json", folder)),
      "tokenizer_config.json": new TextEncoder().encode(JSON.stringify(config)),
      ...(source === null ? {} : { "chat_template.jinja": new TextEncoder().encode(source) }),
    }),
  );
}

/** The Jinja source of a template. */
export function templateSource(name: string): string {
  return readFileSync(new URL(`chat/${name}.jinja`, folder), "utf8");
}

/** The tokenizer of a golden template. */
export function goldenTokenizer({ name, tokenizer, config }: GoldenTemplate): Promise<Tokenizer> {
  return chatTokenizer(tokenizer, config, templateSource(name));
}
