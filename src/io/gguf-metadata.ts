import { ModelError } from "../errors.js";
import type { GgufValue } from "./gguf-header.js";
import { quote } from "./json.js";

/** A GGUF file's metadata, read by key and type. */
export interface GgufMetadata {
  /** Throws ModelError when the value is there but is not a number (counts of heads may be lists that say the same for each layer). */
  number(key: string): number | undefined;
  text(key: string): string | undefined;
  flag(key: string): boolean | undefined;
  texts(key: string): readonly string[] | undefined;
  numbers(key: string): readonly number[] | undefined;
}

/** Reads metadata by key; `where` names the file in messages. */
export function ggufMetadata(values: ReadonlyMap<string, GgufValue>, where: string): GgufMetadata {
  const read = <T extends GgufValue>(key: string, is: (value: GgufValue) => value is T, what: string): T | undefined => {
    const value = values.get(key);
    if (value === undefined || is(value)) return value;
    throw new ModelError(`${where}: metadata ${quote(key)} is not ${what}`);
  };
  const all =
    <T extends GgufValue>(is: (value: GgufValue) => value is T) =>
    (value: GgufValue): value is readonly T[] =>
      Array.isArray(value) && value.every(is);
  return {
    number(key) {
      const value = values.get(key);
      if (Array.isArray(value) && value.length > 0 && new Set(value).size === 1) return read(key, all(isNumber), "a number")![0];
      return read(key, isNumber, "a number");
    },
    text: (key) => read(key, isText, "text"),
    flag: (key) => read(key, isFlag, "true or false"),
    texts: (key) => read(key, all(isText), "a list of texts"),
    numbers: (key) => read(key, all(isNumber), "a list of numbers"),
  };
}

const isNumber = (value: GgufValue): value is number => typeof value === "number";
const isText = (value: GgufValue): value is string => typeof value === "string";
const isFlag = (value: GgufValue): value is boolean => typeof value === "boolean";
