import * as z from "zod";
import { readRows } from "../data/read-rows.js";
import { modelPlaces } from "../io/catalogue.js";
import { openModel } from "../node/open-model.js";
import { taskOfRows } from "../node/train.js";
import { type PreviewPart, type PreviewToken, previewRows } from "../programs/data-preview.js";
import { taskNamed } from "../tasks/index.js";
import { trainingOptions } from "../train/options.js";
import { lengthLines } from "./lengths.js";
import type { Paint } from "./paint.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";

/** `peft data preview`: the first rows as they are fed, token by token, and how long all of them are. */
export const dataPreviewVerb = verb({
  name: "data preview",
  summary: "show the first rows as they are fed, and how long all are",
  examples: ["peft data preview --data train.jsonl", "peft data preview --data train.csv --map text=utterance --model minilm --rows 10"],
  flags: {
    data: z.string().describe("rows: a .jsonl, .csv or .parquet file, or hf:dataset/id[:config][:split]"),
    model: z.string().default("minilm").describe(`the model that they would be fed to: ${modelPlaces}`),
    task: z.string().nullable().default(null).describe("the Hub's name of the task; null for what the data's columns say"),
    map: z.record(z.string(), z.string()).default({}).describe("columns to rename: text=utterance,label=intent"),
    max_length: z.number().int().positive().nullable().default(null).describe("longest text in tokens; the model's limit by default"),
    train_on_prompt: trainingOptions.shape.train_on_prompt,
    last_turn_only: trainingOptions.shape.last_turn_only,
    rows: z.number().int().positive().default(3).describe("rows to show"),
  },
  interruption: "tidy",
  async run(output, { data, model: name, task, map, max_length, rows: shown, ...scope }, _, signal) {
    const table = await readRows(data, { map });
    const asked = task === null ? taskOfRows(table) : taskNamed(task);
    const model = await openModel(name, { env: process.env, onProgress: printProgress(output), signal });
    const preview = previewRows(model, table, { task: asked, count: shown, maxLength: max_length, scope });
    output.emit(preview);
    const { say, paint } = output;
    for (const { where, labels, label_ids, tokens, parts, truncated } of preview.shown) {
      const cutText = truncated ? paint.yellow(", cut") : "";
      if (parts !== null) {
        const learned = tokens.filter(({ loss }) => loss).length;
        say(
          `${paint.bold(where)}  ${tokens.length} tokens, ${learned} learned (${Math.round((100 * learned) / tokens.length)} %)${cutText}`,
        );
        for (const line of marked(parts, paint)) say(`  ${line}`);
        continue;
      }
      const one = labels.length === 1 && preview.labels !== null ? `${labels[0]} (${label_ids[0]})` : labels.join(" ");
      const named = labels.length === 0 ? "no label" : one;
      say(`${paint.bold(where)}  ${paint.cyan(named)}  ${tokens.length} tokens${cutText}`);
      for (const line of wrapped(tokens, paint, output.columns - 2)) say(`  ${line}`);
    }
    const texts = preview.shown.some(({ parts }) => parts !== null);
    if (texts) say(paint.colours ? `${paint.green("green")}: learned` : `${marks.start}…${marks.end}: learned`);
    else
      say(
        paint.dim(
          `[ ] special tokens are dim, the token at which the loss is computed is underlined${paint.colours ? "" : " (on a colour terminal)"}`,
        ),
      );
    say("");
    say(
      `${preview.rows} rows for ${preview.task} on ${preview.model}${preview.labels === null ? "" : `, ${preview.labels.length} labels`}`,
    );
    if (preview.lengths !== null) for (const line of lengthLines(preview.lengths)) say(line);
    return 0;
  },
});

/** Stand around what is learned where there are no colours. */
const marks = { start: "⟦", end: "⟧" } as const;

/** A text's lines, what is learned in green, or between brackets where there are no colours. Line breaks that are learned are seen. */
function marked(parts: readonly PreviewPart[], paint: Paint): readonly string[] {
  const shown = parts.map(({ text, learned }) => {
    if (!learned) return text;
    if (!paint.colours) return `${marks.start}${text.replaceAll("\n", "↵\n")}${marks.end}`;
    return text
      .split("\n")
      .map((line, i, all) => paint.green(i < all.length - 1 ? `${line}↵` : line))
      .join("\n");
  });
  return shown.join("").split("\n");
}

/** Tokens in lines no wider than the terminal. */
function wrapped(tokens: readonly PreviewToken[], paint: Paint, width: number): readonly string[] {
  const lines: string[] = [];
  let used = Number.POSITIVE_INFINITY;
  for (const { text, special, loss } of tokens) {
    const plain = text.trim() === "" ? JSON.stringify(text) : text.trim();
    const shown = loss ? paint.underline(plain) : plain;
    const word = special ? paint.dim(shown) : shown;
    if (used + plain.length + 1 > width) {
      lines.push(word);
      used = plain.length;
    } else {
      lines.push(`${lines.pop()} ${word}`);
      used += plain.length + 1;
    }
  }
  return lines;
}
