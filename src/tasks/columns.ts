import type { RowTable } from "../data/rows.js";
import { DataError, nearest } from "../errors.js";

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
