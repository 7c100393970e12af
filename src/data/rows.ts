import type { FileMetaData } from "hyparquet";
import Papa from "papaparse";
import * as z from "zod";
import { DataError, messageOf, nearest, type PeftErrorOptions, UsageError } from "../errors.js";

/** One row as it stands in the file: column name to value, not yet checked against a task. */
export type Row = Readonly<Record<string, unknown>>;

/** Rows with their place in the file. */
export interface RowTable {
  readonly rows: readonly Row[];
  /** The file's path as given, or `hf:…`; for messages. */
  readonly origin: string;
  /** Where row `index` (from 0) stands, for messages: `train.jsonl:7` (line, from 1), or `train.parquet row 7` (from 1) where there are no lines. */
  where(index: number): string;
}

/** New column name to the name in the file: `{ text: "utterance" }`. */
export type ColumnMap = Readonly<Record<string, string>>;

/** Puts rows and their line numbers (from 1; without them rows are counted) together. */
export function rowTable(rows: readonly Row[], origin: string, lines?: readonly number[]): RowTable {
  return { rows, origin, where: (index) => (lines === undefined ? `${origin} row ${index + 1}` : `${origin}:${lines[index]}`) };
}

/** Some of the rows, by their indices, each with its place in the file. */
export function someRows(table: RowTable, indices: ArrayLike<number>): RowTable {
  const rows = Array.from(indices, (index) => table.rows[index]!);
  return { rows, origin: table.origin, where: (index) => table.where(indices[index]!) };
}

/** The same rows without some columns. */
export function withoutColumns(table: RowTable, columns: readonly string[]): RowTable {
  return { ...table, rows: table.rows.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !columns.includes(name)))) };
}

/** Reads JSON lines. Blank lines and a byte order mark are skipped. Throws DataError naming each broken line (the first five), its column and an excerpt, or when no row is there. */
export function parseJsonl(text: string, origin: string): RowTable {
  const rows: Row[] = [];
  const lines: number[] = [];
  const faults: string[] = [];
  withoutMark(text)
    .split("\n")
    .forEach((line, i) => {
      if (line.trim() === "") return;
      const where = `${origin}:${i + 1}`;
      const value = parseJsonText(line, where, faults);
      if (value === undefined) return;
      if (!isRow(value))
        faults.push(`${where}: a row must be a JSON object like {"text": …, "label": …}, got ${kindOf(value)}: ${excerpt(line, 0)}`);
      else {
        rows.push(value);
        lines.push(i + 1);
      }
    });
  throwFaults(faults, { hint: "JSONL holds one whole JSON object on each line." });
  return notEmpty(rowTable(rows, origin, lines));
}

/** Reads a `.json` file: an array of objects, or JSON lines under that name. Throws DataError as {@link parseJsonl} does. */
export function parseJson(text: string, origin: string): RowTable {
  const body = withoutMark(text);
  if (!body.trimStart().startsWith("[")) return parseJsonl(body, origin);
  const faults: string[] = [];
  const value = parseJsonText(body, origin, faults);
  throwFaults(faults);
  const rows: Row[] = [];
  z.array(z.unknown())
    .parse(value)
    .forEach((item, i) => {
      if (isRow(item)) rows.push(item);
      else faults.push(`${origin} row ${i + 1}: a row must be a JSON object, got ${kindOf(item)}`);
    });
  throwFaults(faults);
  return notEmpty(rowTable(rows, origin));
}

/**
 * Reads CSV with a header line (RFC 4180: quoted fields may hold delimiters and line breaks), tab-separated where `origin` ends in `.tsv`;
 * a header without a comma may use `;` or tabs. Values stay strings, except that a label column in which all values are numbers becomes numbers.
 * `labelColumn` is that column's name in the file. Throws DataError with the line for ragged rows, open quotes and a bad header.
 */
export function parseCsv(text: string, origin: string, labelColumn = "label"): RowTable {
  const body = withoutMark(text);
  const header: string[] = [];
  const records: string[][] = [];
  const lines: number[] = [];
  const faults: string[] = [];
  let line = 1;
  let position = 0;
  Papa.parse<string[]>(body, {
    delimiter: delimiterOf(body, origin),
    step: ({ data: fields, errors, meta }) => {
      const where = `${origin}:${line}`;
      for (const error of errors) faults.push(`${where}: ${error.message}`);
      if (fields.length === 1 && fields[0]!.trim() === "") {
        // a blank line
      } else if (header.length === 0) {
        header.push(...fields.map((name) => name.trim()));
        faults.push(...headerFaults(header, where));
      } else if (fields.length !== header.length) {
        faults.push(`${where}: ${fields.length} fields where the header names ${header.length} (${header.join(", ")})`);
      } else {
        records.push(fields);
        lines.push(line);
      }
      line += newlines(body, position, meta.cursor);
      position = meta.cursor;
    },
  });
  throwFaults(faults, {
    hint: 'A field that holds the delimiter, a quote or a line break must stand in "double quotes", quotes in it doubled.',
  });
  const numeric = header.indexOf(labelColumn);
  if (numeric >= 0 && records.every((fields) => NUMBER.test(fields[numeric]!))) {
    const rows = records.map((fields) => Object.fromEntries(fields.map((value, i) => [header[i]!, i === numeric ? Number(value) : value])));
    return notEmpty(rowTable(rows, origin, lines));
  }
  return notEmpty(
    rowTable(
      records.map((fields) => Object.fromEntries(fields.map((value, i) => [header[i]!, value]))),
      origin,
      lines,
    ),
  );
}

/**
 * Reads a Parquet file. 64-bit integers become numbers where that is exact (else they stay bigint); lists become arrays. Integer columns
 * that Hugging Face's metadata marks as `ClassLabel` become their names, also inside lists; -1 and other integers without a name become null.
 * Pages may be uncompressed or Snappy; other codecs need the package `hyparquet-compressors`. Throws DataError.
 */
export async function parseParquet(bytes: Uint8Array, origin: string): Promise<RowTable> {
  const { parquetMetadata, parquetReadObjects } = await import("hyparquet");
  const file = bytes.slice().buffer;
  let metadata: FileMetaData;
  try {
    metadata = parquetMetadata(file);
  } catch (cause) {
    throw new DataError(`${origin}: not a Parquet file (${bytes.length} bytes): ${messageOf(cause)}`, { cause });
  }
  const codecs = new Set(metadata.row_groups.flatMap((group) => group.columns.map((column) => column.meta_data?.codec ?? "UNCOMPRESSED")));
  const foreign = [...codecs].filter((codec) => codec !== "UNCOMPRESSED" && codec !== "SNAPPY");
  const compressors = foreign.length === 0 ? undefined : await loadCompressors(foreign, origin);
  let rows: Row[];
  try {
    rows = await parquetReadObjects({ file, metadata, ...(compressors === undefined ? {} : { compressors }) });
  } catch (cause) {
    throw new DataError(`${origin}: cannot read this Parquet file: ${messageOf(cause)}`, { cause });
  }
  const names = classLabels(metadata);
  return notEmpty(
    rowTable(
      rows.map((row) =>
        Object.fromEntries(Object.entries(row).map(([column, value]) => [column, withNames(plain(value), names.get(column))])),
      ),
      origin,
    ),
  );
}

/** Reads `--map`'s value, `text=utterance,label=intent` (new name = name in the file). Throws UsageError. */
export function parseColumnMap(text: string): ColumnMap {
  const map = new Map<string, string>();
  for (const part of text.split(",")) {
    const [target = "", source = "", ...more] = part.split("=").map((name) => name.trim());
    if (target === "" || source === "" || more.length > 0) {
      throw new UsageError(`cannot read "${part}" in the column map "${text}"`, {
        hint: "Write --map text=utterance,label=intent: the name wanted, =, the name in the file.",
      });
    }
    if (map.has(target)) throw new UsageError(`the column map "${text}" gives "${target}" twice`);
    map.set(target, source);
  }
  return Object.fromEntries(map);
}

/**
 * Renames columns; two may swap names, and one column may serve two names. A row that lacks the column stays without it.
 * Throws DataError when no row has a source column, or when a target's name is taken by a column that is not renamed away.
 */
export function renameColumns(table: RowTable, map: ColumnMap): RowTable {
  const pairs = Object.entries(map).filter(([target, source]) => target !== source);
  if (pairs.length === 0) return table;
  const columns = new Set(table.rows.flatMap((row) => Object.keys(row)));
  const sources = new Set(Object.values(map));
  const listed = `its columns are ${[...columns].join(", ")}`;
  for (const source of sources) {
    if (columns.has(source)) continue;
    const guess = nearest(source, columns);
    throw new DataError(`${table.origin} has no column "${source}" (${listed})`, {
      hint: guess === undefined ? "The map is written new=old, like text=utterance." : `Did you mean "${guess}"?`,
    });
  }
  const kept = new Set(Object.entries(map).flatMap(([target, source]) => (target === source ? [target] : [])));
  for (const [target, source] of pairs) {
    if (columns.has(target) && (!sources.has(target) || kept.has(target))) {
      throw new DataError(`cannot rename column "${source}" to "${target}": ${table.origin} has a column of that name (${listed})`, {
        hint: `Rename the other one too, for example ${target}=${source},${source}=${target}.`,
      });
    }
  }
  const rows = table.rows.map((row) => {
    const renamed = new Map(Object.entries(row).filter(([column]) => !sources.has(column)));
    for (const [target, source] of Object.entries(map)) if (Object.hasOwn(row, source)) renamed.set(target, row[source]);
    return Object.fromEntries(renamed);
  });
  return { rows, origin: table.origin, where: table.where };
}

const NUMBER = /^[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

function withoutMark(text: string): string {
  return text.startsWith("\uFEFF") ? text.slice(1) : text;
}

function isRow(value: unknown): value is Row {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

function notEmpty(table: RowTable): RowTable {
  if (table.rows.length === 0) throw new DataError(`${table.origin} holds no rows`);
  return table;
}

function throwFaults(faults: readonly string[], options?: PeftErrorOptions): void {
  if (faults.length === 0) return;
  const more = faults.length > 5 ? `\n… and ${faults.length - 5} more` : "";
  throw new DataError(faults.slice(0, 5).join("\n") + more, options);
}

/** The text around a place, one line, at most 50 characters. */
function excerpt(text: string, at: number): string {
  const start = Math.max(0, at - 25);
  const end = Math.min(text.length, start + 50);
  return `${start > 0 ? "…" : ""}${text.slice(start, end).replaceAll(/\s+/g, " ").trim()}${end < text.length ? "…" : ""}`;
}

function newlines(text: string, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at++) {
    const code = text.charCodeAt(at);
    if (code === 10 || (code === 13 && text.charCodeAt(at + 1) !== 10)) count++;
  }
  return count;
}

function delimiterOf(text: string, origin: string): string {
  if (origin.toLowerCase().endsWith(".tsv")) return "\t";
  const header = text.slice(0, text.search(/\r|\n|$/));
  return [",", ";", "\t"].find((mark) => header.includes(mark)) ?? ",";
}

function headerFaults(header: readonly string[], where: string): string[] {
  const twice = header.filter((name, i) => header.indexOf(name) !== i);
  if (header.includes("")) return [`${where}: the header has a column without a name: ${header.join(", ")}`];
  return twice.length > 0 ? [`${where}: the header names "${twice[0]}" twice`] : [];
}

/** The parsed value, or undefined with a line added to `faults`. Engines word (and place) JSON errors differently, so the place is sought here. */
function parseJsonText(text: string, where: string, faults: string[]): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const fault = jsonFault(text);
    const place = fault === undefined ? messageOf(error) : `column ${fault.at + 1}: expected ${fault.expected}: ${excerpt(text, fault.at)}`;
    faults.push(`${where}: broken JSON, ${place}`);
    return undefined;
  }
}

/** The first place where a text stops being JSON (RFC 8259), or undefined when it is JSON. */
function jsonFault(text: string): { readonly at: number; readonly expected: string } | undefined {
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    at += found?.length ?? 0;
    return found;
  };
  // Each returns what was expected at `at`, or "" when all is well. Closing marks still owed stand on a stack, so deep nesting is no problem.
  const string = (): string => {
    take(/"(?:[^"\\\p{Cc}]|[\x7f-\x9f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/uy);
    if (at >= text.length) return 'a closing "';
    return take(/"/y) !== undefined ? "" : text[at] === "\\" ? "a valid escape" : "no control character in a string";
  };
  const owed: string[] = [];
  let next: "value" | "key" | "after" = "value";
  for (let first = false; ; ) {
    take(/[ \t\r\n]*/y);
    const closing = owed.at(-1);
    if (first && closing !== undefined && text[at] === closing) {
      at++;
      owed.pop();
      next = "after";
      first = false;
    } else if (next === "after") {
      if (closing === undefined) return at < text.length ? { at, expected: "the end of the line" } : undefined;
      if (take(/,/y) !== undefined) next = closing === "}" ? "key" : "value";
      else if (text[at] === closing) {
        at++;
        owed.pop();
      } else return { at, expected: `"," or "${closing}"` };
    } else if (next === "key") {
      first = false;
      if (text[at] !== '"') return { at, expected: 'a "key"' };
      const expected = string();
      if (expected !== "") return { at, expected };
      take(/[ \t\r\n]*/y);
      if (take(/:/y) === undefined) return { at, expected: '":"' };
      next = "value";
    } else {
      first = false;
      const start = text[at];
      if (start === "{" || start === "[") {
        at++;
        owed.push(start === "{" ? "}" : "]");
        next = start === "{" ? "key" : "value";
        first = true;
        continue;
      }
      const expected =
        start === '"' ? string() : take(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y) === undefined ? "a value" : "";
      if (expected !== "") return { at, expected };
      next = "after";
    }
  }
}

async function loadCompressors(
  codecs: readonly string[],
  origin: string,
): Promise<Readonly<Record<string, (input: Uint8Array, outputLength: number) => Uint8Array>>> {
  const optional = "hyparquet-compressors"; // not a dependency: a name that bundlers do not follow
  try {
    return (await import(/* @vite-ignore */ optional)).compressors;
  } catch (cause) {
    throw new DataError(`${origin} is compressed with ${codecs.join(" and ")}; only SNAPPY and UNCOMPRESSED can be read here`, {
      hint: "Install the package hyparquet-compressors, or write the file with Snappy (pandas: df.to_parquet(path, compression='snappy')).",
      cause,
    });
  }
}

/** Bigint to number where exact, in nested lists and structs too. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (isRow(value) && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value;
}

const HF_INFO = z.object({ info: z.object({ features: z.record(z.string(), z.unknown()) }) });
const CLASS_LABEL = z.object({ names: z.array(z.string()) });

/** Column name to class names, from the `huggingface` entry that the datasets library writes (datasets.Features.arrow_schema). */
function classLabels(metadata: FileMetaData): Map<string, readonly string[]> {
  const entry = metadata.key_value_metadata?.find(({ key }) => key === "huggingface")?.value;
  const found = new Map<string, readonly string[]>();
  if (entry === undefined) return found;
  let json: unknown;
  try {
    json = JSON.parse(entry);
  } catch {
    return found; // somebody else's entry: integers stay integers
  }
  for (const [column, feature] of Object.entries(HF_INFO.safeParse(json).data?.info.features ?? {})) {
    // `{_type: "Sequence" | "List", feature: {…}}`; older files write a list as `[{…}]`.
    const inner = Array.isArray(feature) ? feature[0] : isRow(feature) && "feature" in feature ? feature.feature : feature;
    const label = CLASS_LABEL.safeParse(inner);
    if (label.success) found.set(column, label.data.names);
  }
  return found;
}

function withNames(value: unknown, names: readonly string[] | undefined): unknown {
  if (names === undefined) return value;
  if (Array.isArray(value)) return value.map((item) => withNames(item, names));
  return typeof value === "number" ? (names[value] ?? null) : value;
}
