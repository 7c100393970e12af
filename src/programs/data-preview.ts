import { packTexts } from "../data/collate.js";
import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { checkScope, type LossScope, type Task } from "../tasks/task.js";
import { type BaseModel, vocabularyOf } from "./base-model.js";
import { type LengthSummary, lengthsOf } from "./data-check.js";
import { longestText } from "./limits.js";

/** A token as it is fed. */
export interface PreviewToken {
  readonly id: number;
  /** The word piece. */
  readonly text: string;
  /** Added by the tokenizer, such as [CLS]. */
  readonly special: boolean;
  /** Segment: 1 for the second text of a pair. */
  readonly type: number;
  /** Whether the loss is computed at this token; of a language model's text, whether the token is learned. */
  readonly loss: boolean;
}

/** A part of a text that is learned, or not. */
export interface PreviewPart {
  readonly text: string;
  readonly learned: boolean;
}

/** A row as it is fed. */
export interface PreviewRow {
  readonly where: string;
  readonly tokens: readonly PreviewToken[];
  /** The text of the tokens in parts, where the task learns texts; else null. */
  readonly parts: readonly PreviewPart[] | null;
  readonly truncated: boolean;
  /** The labels' ids (or the numbers to predict) and their names, one for each place that bears loss; none where the row has none. */
  readonly label_ids: readonly number[];
  readonly labels: readonly string[];
}

/** Rows as training sees them. */
export interface DataPreview {
  readonly task: string;
  readonly model: string;
  readonly rows: number;
  /** Label names in id order; null for numbers, and where rows are not labelled. */
  readonly labels: readonly string[] | null;
  readonly shown: readonly PreviewRow[];
  readonly lengths: LengthSummary | null;
}

/** Shows how rows are fed: the first `count` of them token by token, and the lengths of all. Throws DataError with file and line. */
export function previewRows(
  model: BaseModel,
  table: RowTable,
  {
    task,
    count,
    maxLength,
    scope,
  }: { readonly task: Task; readonly count: number; readonly maxLength: number | null; readonly scope: LossScope },
): DataPreview {
  checkScope(task, scope);
  const { tokenizer } = model;
  const longest = longestText(model, maxLength, []);
  const labelled = table.rows.some((row) => task.columns.labels.some((column) => row[column] !== undefined && row[column] !== null));
  const target = labelled ? task.target(table, vocabularyOf(model)) : ({ kind: "number" } as const);
  const shown = table.rows.slice(0, count).map((_, i): PreviewRow => {
    const example = task.encode(table, i, target, tokenizer, longest, scope);
    const packed = packTexts([example]);
    const { lossRows } = task.feeds(packed, [example], target);
    const read = Array.from(lossRows?.data ?? [], Number);
    const bearing = new Set(task.foretells === true ? read.map((t) => t + 1) : read);
    // The last token of a language model's text is only foretold, not fed, but it is one of those that are learned.
    const foretold = bearing.has(example.ids.length) ? example.labels!.slice(-1) : [];
    const tokens = [...example.ids, ...foretold].map((id, t) => ({
      id,
      text: tokenizer.decode([id]),
      special: tokenizer.decode([id], { skipSpecialTokens: true }) === "",
      type: example.typeIds[t] ?? 0,
      loss: bearing.has(t),
    }));
    return {
      where: table.where(i),
      tokens,
      parts: task.foretells === true ? partsOf(tokens, tokenizer) : null,
      truncated: example.truncated,
      label_ids: example.labels ?? [],
      labels: (example.labels ?? []).map((label) => (target.kind === "classes" ? target.labels[label]! : String(label))),
    };
  });
  const lengths = table.rows.map((_, i) => task.encode(table, i, target, tokenizer, Number.POSITIVE_INFINITY, scope).ids.length);
  return {
    task: task.name,
    model: model.id,
    rows: table.rows.length,
    labels: labelled && target.kind === "classes" ? target.labels : null,
    shown,
    lengths: lengthsOf(lengths, longest),
  };
}

/** A text in parts. Cut out of the whole text, since a part on its own may decode to something else: some tokenizers drop a leading space. */
function partsOf(tokens: readonly PreviewToken[], tokenizer: Tokenizer): readonly PreviewPart[] {
  const ids = tokens.map(({ id }) => id);
  const borders = [...tokens.keys()].filter((t) => t === 0 || tokens[t]!.loss !== tokens[t - 1]!.loss);
  return borders.map((start, i) => {
    const before = tokenizer.decode(ids.slice(0, start));
    return { text: tokenizer.decode(ids.slice(0, borders[i + 1])).slice(before.length), learned: tokens[start]!.loss };
  });
}
