import { chatMessages } from "../data/chat-turns.js";
import type { Row, RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { DataError, nearest } from "../errors.js";
import { formsOf, nearestForm, showingForms } from "../tasks/columns.js";
import { labelledTasks } from "../tasks/index.js";
import { checkScope, type LossScope, type Target, type Task } from "../tasks/task.js";
import { type LearnedSummary, learnedOf } from "./learned.js";

/** The task that rows are most likely for: the one that lacks the fewest columns. */
export function likelyTask({ rows }: RowTable): Task {
  const columns = columnsOf(rows);
  const best = nearestForm(labelledTasks.flatMap(showingForms), columns);
  return labelledTasks.find((task) => showingForms(task).includes(best))!;
}

/** Kinds of faults in rows. */
export type FaultKind =
  | "missing-column"
  | "empty-text"
  | "bad-value"
  | "duplicate"
  | "conflicting-labels"
  | "unknown-label"
  | "in-train-and-eval";

/** Something wrong with a row, or with all of them. */
export interface Fault {
  readonly kind: FaultKind;
  /** `train.jsonl:7`, or the file where it concerns all rows. */
  readonly where: string;
  readonly message: string;
  readonly hint: string | null;
}

/** Lengths of texts in tokens, special ones included, before any cut. */
export interface LengthSummary {
  readonly min: number;
  readonly median: number;
  readonly mean: number;
  readonly p95: number;
  readonly max: number;
  /** The longest that training takes. */
  readonly limit: number;
  /** Texts that are longer and will be cut. */
  readonly cut: number;
  /** Ranges from–to, both included. */
  readonly histogram: readonly { readonly from: number; readonly to: number; readonly count: number }[];
}

/** Rows of a file in numbers. */
export interface RowSummary {
  readonly origin: string;
  readonly rows: number;
  /** Rows by label, the most frequent first; null where labels are numbers to predict, or missing. */
  readonly labels: Readonly<Record<string, number>> | null;
  /** Null where no tokenizer was given. */
  readonly lengths: LengthSummary | null;
  /** How much of the texts is learned; null where no tokenizer was given, or the task does not learn texts. */
  readonly learned: LearnedSummary | null;
}

/** What a check found. */
export interface DataReport {
  readonly task: string;
  readonly train: RowSummary;
  readonly eval: RowSummary | null;
  /** How many faults there are; `faults` lists the first of them. */
  readonly fault_count: number;
  readonly faults: readonly Fault[];
  /** Remarks that are no faults: imbalance, rare labels, texts that will be cut. */
  readonly notes: readonly string[];
}

/** What rows are checked with. */
export interface CheckOptions {
  readonly task: Task;
  readonly evalRows?: RowTable | undefined;
  /** With one, lengths are measured too. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Tokens that training takes. */
  readonly maxLength?: number | undefined;
  /** Which tokens are to be learned. */
  readonly scope: LossScope;
  /** Faults that are listed. */
  readonly limit: number;
}

/** A label this much rarer than the most frequent one is worth a remark. */
const imbalance = 10;
/** Labels with fewer rows than this are hard to learn. */
const fewRows = 5;

/** Checks rows as training would use them, and for what makes its result doubtful. Throws nothing for bad rows: they are in the report. */
export function checkRows(rows: RowTable, { task, evalRows, tokenizer, maxLength, scope, limit }: CheckOptions): DataReport {
  checkScope(task, scope);
  const faults: Fault[] = [];
  const notes: string[] = [];
  const longest = maxLength ?? Number.POSITIVE_INFINITY;
  const learned = (
    table: RowTable,
    whole: readonly number[],
  ): { readonly usable: readonly number[]; readonly summary: LearnedSummary | null } => {
    if (task.foretells !== true || tokenizer === undefined) return { usable: whole, summary: null };
    const { usable, summary, errors } = learnedOf(table, whole, task, tokenizer, longest, scope);
    faults.push(...errors.map((error) => asFault("bad-value", table.origin, error)));
    return { usable, summary };
  };
  const { usable, summary: learnedTrain } = learned(rows, usableRows(rows, task, faults));
  const { usable: usableEval, summary: learnedEval } =
    evalRows === undefined ? { usable: undefined, summary: null } : learned(evalRows, usableRows(evalRows, task, faults));
  const target = targetOf(rows, usable, task, tokenizer ?? blindTokenizer, faults);
  const first = findRepeats(rows, usable, task, faults);
  if (evalRows !== undefined && usableEval !== undefined) {
    findRepeats(evalRows, usableEval, task, faults);
    for (const i of usableEval) {
      const before = first.get(textKey(evalRows.rows[i]!, task));
      if (before !== undefined)
        faults.push({
          kind: "in-train-and-eval",
          where: evalRows.where(i),
          message: `the same text is in the training rows (${rows.where(before)})`,
          hint: "remove it from one of them: metrics on rows that were trained on are too good",
        });
    }
    findUnknown(evalRows, usableEval, task, target, faults);
  }
  const summary = (table: RowTable, usableOnes: readonly number[], learned: LearnedSummary | null): RowSummary => {
    const labels = target?.kind === "classes" ? labelCounts(table, usableOnes) : null;
    const lengths =
      tokenizer === undefined
        ? null
        : lengthsOf(
            usableOnes.map((i) => encodedLength(table, i, task, tokenizer, scope)),
            longest,
          );
    return { origin: table.origin, rows: table.rows.length, labels, lengths, learned };
  };
  const train = summary(rows, usable, learnedTrain);
  const evaluation = evalRows === undefined || usableEval === undefined ? null : summary(evalRows, usableEval, learnedEval);
  notes.push(...labelNotes(train), ...[train, ...(evaluation === null ? [] : [evaluation])].flatMap(lengthNotes));
  if (tokenizer === undefined && rows.rows.some(({ messages }) => messages !== undefined))
    notes.push("how messages are written depends on the model's chat template: with --model they are rendered and their turns checked");
  return { task: task.name, train, eval: evaluation, fault_count: faults.length, faults: faults.slice(0, limit), notes };
}

/** Indices of rows that have all columns and a text; the others become faults. A column that no row has is one fault with a guess what may be meant. */
function usableRows(table: RowTable, task: Task, faults: Fault[]): readonly number[] {
  const required = nearestForm(formsOf(task), columnsOf(table.rows));
  const absent = required.filter((column) => table.rows.every((row) => isMissing(row[column])));
  const guesses = guessColumns(table, absent);
  for (const column of absent) {
    const there = [...new Set(table.rows.slice(0, 100).flatMap((row) => Object.keys(row)))];
    const guess = guesses.get(column);
    faults.push({
      kind: "missing-column",
      where: table.origin,
      message: `no row has a column "${column}"; there are: ${there.join(", ")}`,
      hint:
        guess === undefined
          ? `${task.name} needs the columns ${formsOf(task)
              .map((form) => form.join(", "))
              .join(" or ")}; rename with --map ${column}=NAME`
          : `if "${guess}" is meant: --map ${[...guesses].map(([to, from]) => `${to}=${from}`).join(",")}`,
    });
  }
  return table.rows.flatMap((row, i) => {
    const found: Fault[] = [];
    const fault = (kind: FaultKind, message: string, hint: string | null = null): number =>
      found.push({ kind, where: table.where(i), message, hint });
    for (const column of [...required, ...task.columns.optional]) {
      const value = row[column];
      if (isMissing(value)) {
        const near = nearest(
          column,
          Object.keys(row).filter((name) => !required.includes(name)),
        );
        if (required.includes(column) && !absent.includes(column))
          fault("missing-column", `no "${column}"`, near === undefined ? null : `is "${near}" a slip?`);
      } else if (column === "label") {
        if (!["string", "number", "boolean"].includes(typeof value) || value === "")
          fault("bad-value", `label ${JSON.stringify(value)} is neither a text nor a number`);
      } else if (column === "messages" || (task.foretells === true && Array.isArray(value))) {
        try {
          chatMessages(value, column);
        } catch (error) {
          if (!(error instanceof DataError)) throw error;
          fault("bad-value", error.message, error.hint ?? null);
        }
      } else if (task.columns.lists?.includes(column) === true) {
        if (!Array.isArray(value)) fault("bad-value", `"${column}" is ${JSON.stringify(value)}, expected a list`);
      } else if (typeof value !== "string") fault("bad-value", `"${column}" is ${JSON.stringify(value)}, expected a text`);
      else if (value.trim() === "") fault("empty-text", `"${column}" is empty`, "remove the row, or fill it in");
    }
    faults.push(...found);
    return found.length === 0 && absent.length === 0 ? [i] : [];
  });
}

/**
 * What columns may be meant by names that are missing: the nearest in spelling, else for a text the column with the longest texts, for a label
 * the one with the fewest different short values.
 */
export function guessColumns(table: RowTable, missing: readonly string[]): ReadonlyMap<string, string> {
  const sample = table.rows.slice(0, 1000);
  const names = [...new Set(sample.flatMap((row) => Object.keys(row)))];
  const guesses = new Map<string, string>();
  for (const column of missing) {
    const free = names.filter((name) => ![...guesses.values()].includes(name));
    const guess =
      nearest(column, free) ??
      (column.startsWith("text") ? longestTexts(sample, free) : column === "label" ? fewestValues(sample, free) : undefined);
    if (guess !== undefined) guesses.set(column, guess);
  }
  return guesses;
}

function longestTexts(rows: readonly Row[], names: readonly string[]): string | undefined {
  const length = (name: string): number =>
    rows.reduce((total, row) => total + (typeof row[name] === "string" ? row[name].length : 0), 0) / rows.length;
  return names.filter((name) => length(name) > 0).sort((a, b) => length(b) - length(a))[0];
}

function fewestValues(rows: readonly Row[], names: readonly string[]): string | undefined {
  const values = (name: string): number => new Set(rows.map((row) => JSON.stringify(row[name]))).size;
  return names.filter((name) => values(name) > 1 && values(name) <= rows.length / 2).sort((a, b) => values(a) - values(b))[0];
}

function targetOf(rows: RowTable, usable: readonly number[], task: Task, tokenizer: Tokenizer, faults: Fault[]): Target | undefined {
  if (usable.length === 0) return undefined;
  try {
    const table = { rows: usable.map((i) => rows.rows[i]!), origin: rows.origin, where: (i: number) => rows.where(usable[i]!) };
    return task.target(table, { tokenizer, size: tokenizer.vocabSize });
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    faults.push(asFault("bad-value", rows.origin, error));
    return undefined;
  }
}

/** Rows whose text came before: with the same label a duplicate, with another a conflict. Returns the first row of each text. */
function findRepeats(table: RowTable, usable: readonly number[], task: Task, faults: Fault[]): ReadonlyMap<string, number> {
  const first = new Map<string, number>();
  for (const i of usable) {
    const key = textKey(table.rows[i]!, task);
    const before = first.get(key);
    if (before === undefined) {
      first.set(key, i);
      continue;
    }
    const [label, other] = [table.rows[i]!.label, table.rows[before]!.label];
    const same = label === other;
    faults.push({
      kind: same ? "duplicate" : "conflicting-labels",
      where: table.where(i),
      message: same
        ? `the same row as ${table.where(before)}`
        : `the same text as ${table.where(before)}, but labelled ${JSON.stringify(label)}, there ${JSON.stringify(other)}`,
      hint: same ? "remove one of them" : "decide which label is right",
    });
  }
  return first;
}

/** Evaluation rows with labels that training does not know. The task itself says so, row by row. */
function findUnknown(table: RowTable, usable: readonly number[], task: Task, target: Target | undefined, faults: Fault[]): void {
  if (target === undefined || target.kind === "tokens") return;
  for (const i of usable) {
    try {
      task.encode(table, i, target, blindTokenizer, Number.POSITIVE_INFINITY);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      faults.push(asFault("unknown-label", table.where(i), error));
    }
  }
}

/** An error of the task as a fault; its place stands before its message already. */
function asFault(kind: FaultKind, fallback: string, error: DataError): Fault {
  const [, where = fallback, message = error.message] = /^(\S+(?: row \d+)?): (.*)$/s.exec(error.message) ?? [];
  return { kind, where, message, hint: error.hint ?? null };
}

/** Gives one token for any text, has an end token and BERT's mask token: for checks without a model. */
const blindTokenizer: Tokenizer = {
  ...{
    vocabSize: 1,
    padId: undefined,
    clsId: undefined,
    sepId: undefined,
    unkId: undefined,
    bosId: undefined,
    eosId: 0,
    maskId: 1,
  },
  ...{
    specialIds: new Set<number>(),
    modelMaxLength: undefined,
    config: {},
    chatTemplate: undefined,
    decode: () => "[MASK]",
    tokenToId: () => undefined,
  },
  encodeWords: (words) => ({
    ids: new Int32Array(words.length),
    typeIds: new Int32Array(words.length),
    wordStarts: words.map((_, i) => i),
    wordPieces: words.map(() => 1),
    truncated: false,
  }),
  encode: () => ({ ids: new Int32Array(1), typeIds: new Int32Array(1), truncated: false }),
};

function textKey(row: Row, task: Task): string {
  return JSON.stringify(
    [...formsOf(task).flat(), ...task.columns.optional].filter((column) => column !== "label").map((column) => row[column] ?? null),
  );
}

function columnsOf(rows: readonly Row[]): ReadonlySet<string> {
  return new Set(rows.slice(0, 100).flatMap((row) => Object.keys(row)));
}

function isMissing(value: unknown): boolean {
  return value === undefined || value === null;
}

function labelCounts(table: RowTable, usable: readonly number[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const i of usable) {
    const label = String(table.rows[i]!.label);
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return Object.fromEntries([...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)));
}

function labelNotes({ labels }: RowSummary): readonly string[] {
  const counts = Object.entries(labels ?? {});
  const [most, least] = [counts[0], counts.at(-1)];
  if (most === undefined || least === undefined) return [];
  const rare = counts.filter(([, count]) => count < fewRows).map(([label, count]) => `${label} (${count})`);
  return [
    ...(most[1] >= imbalance * least[1]
      ? [`labels are uneven: ${most[0]} has ${most[1]} rows, ${least[0]} ${least[1]}; look at macro_f1 rather than accuracy`]
      : []),
    ...(rare.length > 0
      ? [`fewer than ${fewRows} rows: ${rare.slice(0, 8).join(", ")}${rare.length > 8 ? `, and ${rare.length - 8} more` : ""}`]
      : []),
  ];
}

function lengthNotes({ origin, lengths, rows }: RowSummary): readonly string[] {
  if (lengths === null || lengths.cut === 0) return [];
  return [
    `${origin}: ${lengths.cut} of ${rows} texts are longer than ${lengths.limit} tokens and will be cut (the longest has ${lengths.max})`,
  ];
}

/** Tokens of a row, uncut; task and label do not matter. */
function encodedLength(table: RowTable, index: number, task: Task, tokenizer: Tokenizer, scope: LossScope): number {
  const { label: _, ...row } = table.rows[index]!;
  const unlabelled = { rows: [row], origin: table.origin, where: () => table.where(index) };
  return task.encode(unlabelled, 0, { kind: "number" }, tokenizer, Number.POSITIVE_INFINITY, scope).ids.length;
}

/** Lengths in numbers, with a histogram of at most `bins` ranges of equal width. */
export function lengthsOf(lengths: readonly number[], limit: number, bins = 10): LengthSummary | null {
  if (lengths.length === 0) return null;
  const sorted = [...lengths].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
  const [min, max] = [sorted[0]!, sorted.at(-1)!];
  const width = Math.max(1, Math.ceil((max - min + 1) / bins));
  const histogram = Array.from({ length: Math.ceil((max - min + 1) / width) }, (_, i) => {
    const [from, to] = [min + i * width, Math.min(max, min + (i + 1) * width - 1)];
    return { from, to, count: sorted.filter((length) => length >= from && length <= to).length };
  });
  const mean = sorted.reduce((total, length) => total + length, 0) / sorted.length;
  return { min, median: at(0.5), mean, p95: at(0.95), max, limit, cut: sorted.filter((length) => length > limit).length, histogram };
}
