import { packTexts } from "../data/collate.js";
import type { RowTable } from "../data/rows.js";
import type { Task } from "../tasks/task.js";
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
  /** Whether the loss is computed at this token. */
  readonly loss: boolean;
}

/** A row as it is fed. */
export interface PreviewRow {
  readonly where: string;
  readonly tokens: readonly PreviewToken[];
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
  { task, count, maxLength }: { readonly task: Task; readonly count: number; readonly maxLength: number | null },
): DataPreview {
  const { tokenizer } = model;
  const longest = longestText(model, maxLength, []);
  const labelled = table.rows.some((row) => task.columns.labels.some((column) => row[column] !== undefined && row[column] !== null));
  const target = labelled ? task.target(table, vocabularyOf(model)) : ({ kind: "number" } as const);
  const shown = table.rows.slice(0, count).map((_, i): PreviewRow => {
    const example = task.encode(table, i, target, tokenizer, longest);
    const packed = packTexts([example]);
    const { lossRows } = task.feeds(packed, [example], target);
    const bearing = new Set(Array.from(lossRows?.data ?? [], Number));
    return {
      where: table.where(i),
      tokens: Array.from(example.ids, (id, t) => ({
        id,
        text: tokenizer.decode([id]),
        special: tokenizer.decode([id], { skipSpecialTokens: true }) === "",
        type: example.typeIds[t]!,
        loss: bearing.has(t),
      })),
      truncated: example.truncated,
      label_ids: example.labels ?? [],
      labels: (example.labels ?? []).map((label) => (target.kind === "classes" ? target.labels[label]! : String(label))),
    };
  });
  const lengths = table.rows.map((_, i) => task.encode(table, i, target, tokenizer, Number.POSITIVE_INFINITY).ids.length);
  return {
    task: task.name,
    model: model.id,
    rows: table.rows.length,
    labels: labelled && target.kind === "classes" ? target.labels : null,
    shown,
    lengths: lengthsOf(lengths, longest),
  };
}
