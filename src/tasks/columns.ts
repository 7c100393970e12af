import type { RowTable } from "../data/rows.js";
import { DataError, nearest } from "../errors.js";
import type { Task } from "./task.js";

/** The sets of columns of which each makes a row of a task. */
export function formsOf({ columns: { required, alternatives = [] } }: Task): readonly (readonly string[])[] {
  return [required, ...alternatives];
}

/** The set that fits rows with these columns best: that which lacks the smallest share, the first of several. */
export function nearestForm(forms: readonly (readonly string[])[], columns: ReadonlySet<string>): readonly string[] {
  const lacking = (form: readonly string[]): number => form.filter((column) => !columns.has(column)).length / form.length;
  return [...forms].sort((a, b) => lacking(a) - lacking(b))[0] ?? [];
}

/** The sets of columns of which one shows that rows are for a task: those with something to predict in them. */
export function showingForms(task: Task): readonly (readonly string[])[] {
  return formsOf(task).filter((form) => form.some((column) => task.columns.labels.includes(column)));
}

/** A column's text in a row; undefined where the row has none. Throws DataError with file and line for what is no text. */
export function textColumn(table: RowTable, index: number, name: string): string | undefined {
  const value = table.rows[index]![name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw new DataError(`${table.where(index)}: "${name}" is ${JSON.stringify(value)}, expected a text`);
  return value;
}

/** The error for a row that lacks a column, with a guess which other one is meant. */
export function missingColumn(table: RowTable, index: number, name: string): DataError {
  const there = Object.keys(table.rows[index]!);
  const guess = nearest(name, there) ?? there.find((each) => typeof table.rows[index]![each] === (name === "label" ? "number" : "string"));
  return new DataError(`${table.where(index)}: no column "${name}"; there are: ${there.map((each) => `"${each}"`).join(", ") || "none"}`, {
    hint: guess === undefined ? `every row needs "${name}"` : `if "${guess}" is meant: --map ${name}=${guess}`,
  });
}
